"""The newest messages of the access-log topics: are they read, what do they lack, are their times right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import polars as pl
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec

from egresslens.doctor import fetch
from egresslens.doctor.finding import Finding, fail, ok, warn
from egresslens.doctor.groups import short
from egresslens.enrich import ORIGIN, Enriched, enrich, origin
from egresslens.record import STORED_LABELS
from egresslens.settings import Settings

PART: Final = "messages"
_MANY_REJECTED: Final = 0.01
_ENOUGH: Final = 20
_AHEAD: Final = timedelta(seconds=5)
_LATE: Final = timedelta(minutes=10)
_QUIET: Final = timedelta(hours=1)
_FIELDS: Final = {
    "upstream_cluster": "labels",
    "start_time": "exact times",
    "duration_ms": "latency",
    "bytes_received": "writes",
    "bytes_sent": "reads",
    "source_workload": "who calls",
}
_HTTP_FIELDS: Final = {
    "response_code": "errors",
    "authority": "names of hosts",
    "request_id": "single requests",
}


@dataclass(frozen=True)
class Sample:
    """Messages as they came, and what the worker would make of them."""

    values: Sequence[bytes | None]
    origins: pl.DataFrame
    enriched: Enriched

    @property
    def newest(self) -> datetime | None:
        """The latest time of a Kafka record."""
        found = self.origins["kafka_timestamp"].max()
        return found if isinstance(found, datetime) else None


def take(
    admin: KafkaAdminClient,
    settings: Settings,
    partitions: Sequence[TopicPartition],
    count: int,
    timeout_s: float,
) -> Sample:
    """Read the newest `count` messages, evenly over the partitions (at least one).

    Raises:
        kafka.errors.KafkaError, aiokafka.errors.KafkaError: the topics may not be read.
    """
    begins = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
    ends = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    most = max(1, count // len(partitions))
    spans = {one: (max(begins[one].offset, ends[one].offset - most), ends[one].offset) for one in partitions}
    found = fetch.read(settings, spans, timeout_s)
    origins = [
        origin(
            "",
            one.topic,
            one.partition,
            [record.offset for record in records],
            [record.timestamp for record in records],
        )
        for one, records in found.items()
    ]
    table = pl.concat(origins) if origins else pl.DataFrame(schema=ORIGIN)
    values = [record.value for records in found.values() for record in records]
    return Sample(values, table, enrich(values, table, settings.rules))


def messages(sample: Sample, settings: Settings, now: datetime) -> list[Finding]:
    """Everything that a sample tells."""
    if not sample.values:
        topics = ", ".join(settings.access_log_topics)
        return [
            warn(
                PART,
                f"there are no messages in {topics}",
                "Is access logging on, and does a shipper send to this topic? docs/troubleshooting.md",
            )
        ]
    return [
        rejects(sample, settings),
        layouts(sample),
        *missing_fields(sample.enriched.records),
        *times(sample, now),
    ]


def rejects(sample: Sample, settings: Settings) -> Finding:
    """Which share cannot be read, and why."""
    count = len(sample.values)
    found = sample.enriched.rejects
    share = found["message"].n_unique() / count
    reasons = dict(found["reason"].value_counts(sort=True).iter_rows())
    if not reasons:
        return ok(PART, f"all of the newest {count:,} can be read", sampled=count)
    said = f"{share:.1%} of the newest {count:,} cannot be read: " + ", ".join(
        f"{reason} {number:,}" for reason, number in reasons.items()
    )
    mend = (
        "Set EGRESSLENS_LOG_FORMAT to the proxies' accessLogFormat (`egresslens formats --try`), then "
        "`egresslens dlq replay`."
        if next(iter(reasons)) == "unknown_format"
        else f"`egresslens dlq show --reason {next(iter(reasons))}` shows one."
    )
    details = {"sampled": count, "reasons": reasons}
    if share >= settings.max_rejected_share:
        return fail(PART, f"{said}; the workers stop at this share", mend, **details)
    if share > _MANY_REJECTED:
        return warn(PART, said, mend, **details)
    return ok(PART, said, **details)


def layouts(sample: Sample) -> Finding:
    """Which layouts the records have, and what becomes of them."""
    records, filtered = sample.enriched.records, sample.enriched.filtered
    kinds = dict(records["format"].cast(pl.String).value_counts(sort=True).iter_rows())
    labels = dict(records["label"].cast(pl.String).value_counts(sort=True).iter_rows())
    left_out = dict(filtered["reason"].value_counts(sort=True).iter_rows())
    said = "; ".join(
        text
        for text in (_listed("layouts", kinds), _listed("labels", labels), _listed("left out", left_out))
        if text
    )
    details = {"formats": kinds, "labels": labels, "filtered": left_out}
    if records.is_empty() and filtered.height >= _ENOUGH:
        return warn(
            PART,
            f"nothing that leaves a workload is among them ({said})",
            "Log the client side as well (Telemetry: match.mode CLIENT), and from istio-proxy containers.",
            **details,
        )
    unknown = labels.get("unknown", 0) / max(1, records.height)
    if unknown > 0.5 and records.height >= _ENOUGH:
        return warn(
            PART,
            f"{unknown:.0%} are labelled unknown ({said})",
            "The format must tell %UPSTREAM_CLUSTER% and %ROUTE_NAME%; `egresslens explain LINE` says what a "
            "line lacks.",
            **details,
        )
    return ok(PART, said or "nothing was kept", **details)


def _listed(title: str, counts: dict[str, int]) -> str:
    return f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()) if counts else ""


def missing_fields(records: pl.DataFrame) -> list[Finding]:
    """Fields that no record has, and what reports lose by that."""
    stored = records.filter(pl.col("label").is_in(STORED_LABELS))
    if stored.height < _ENOUGH:
        return []
    http = stored.filter(pl.col("protocol").is_not_null())
    lacking = [
        f"{name} ({use})"
        for rows, fields in ((stored, _FIELDS), (http, _HTTP_FIELDS))
        for name, use in fields.items()
        if rows.height and rows[name].null_count() == rows.height
    ]
    if not lacking:
        return []
    mend = "Put them into the log format (docs/how-to/turn-on-logging.md)."
    if any(one.startswith("source_workload") for one in lacking):
        mend += (
            " The workload comes from the shipper's Kubernetes metadata (docs/how-to/ship.md), or from the "
        )
        mend += "pods in the registry."
    return [warn(PART, f"no record has {', '.join(lacking)}", mend)]


def times(sample: Sample, now: datetime) -> list[Finding]:
    """Event times beside the Kafka records' times, and these beside the clock here."""
    newest = sample.newest
    if newest is None:
        return []
    part = "clocks"
    if newest - now > _AHEAD:
        return [
            warn(
                part,
                f"the newest message is {short(newest - now)} ahead of this machine's clock",
                "Mend the clock (NTP) of the producers, of the brokers, or of this machine.",
            )
        ]
    found = []
    if now - newest > _QUIET:
        found.append(
            warn(
                PART,
                f"the newest message is {short(now - newest)} old",
                "Does the shipper still send? docs/troubleshooting.md",
            )
        )
    delays = sample.enriched.records.select(
        (pl.col("kafka_timestamp") - pl.col("event_time")).dt.total_milliseconds().alias("ms")
    ).to_series()
    if delays.is_empty():
        return found
    middle, most = (timedelta(milliseconds=_quantile(delays, q)) for q in (0.5, 0.99))
    ahead = int((delays < -_AHEAD.total_seconds() * 1000).sum())
    said = f"records reach Kafka {short(middle)} after the event (99 %: {short(most)})"
    details = {
        "delay_ms_p50": _quantile(delays, 0.5),
        "delay_ms_p99": _quantile(delays, 0.99),
        "ahead": ahead,
    }
    if ahead / delays.len() > _MANY_REJECTED:
        found.append(
            warn(
                part,
                f"{ahead / delays.len():.0%} of the records are over {short(_AHEAD)} ahead of Kafka's time",
                "Mend the clocks (NTP) of the nodes whose proxies write them, or of what produces to Kafka.",
                **details,
            )
        )
    elif middle > _LATE:
        found.append(
            warn(part, said, "The shipper is behind, or sends old files: look at its own lag.", **details)
        )
    else:
        found.append(ok(part, said, **details))
    return found


def _quantile(values: pl.Series, quantile: float) -> float:
    return float(values.quantile(quantile) or 0.0)
