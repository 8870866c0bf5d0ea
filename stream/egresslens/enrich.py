"""From Kafka messages to enriched records: parse, label, identity, and what becomes of the rest.

The worker, `analyze`, `parse`, `explain` and the benchmarks all call `enrich`, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from egresslens.label import label
from egresslens.outcome import Reject
from egresslens.parse import parse
from egresslens.record import EARLIEST, IDENTITY, LATEST, SCHEMA, TIMESTAMP
from egresslens.rules import Rules

# Where each message of a batch came from: one row per message.
ORIGIN: Final[dict[str, pl.DataType]] = {
    name: dtype for name, dtype in IDENTITY.items() if name not in ("rules_version", "seq")
}
OUTCOMES: Final[dict[str, pl.DataType]] = {
    "message": pl.UInt32(),
    "seq": pl.Int32(),
    "reason": pl.String(),
}
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True)
class Enriched:
    """What a batch of messages became.

    records: record.SCHEMA and `message`, in message order: everything that is kept.
    rejects: message, seq, reason (`outcome.Reject`), field.
    filtered: message, seq, reason (`outcome.Filtered`): labels that are not kept, other logs.
    """

    records: pl.DataFrame
    rejects: pl.DataFrame
    filtered: pl.DataFrame


def origin(
    stream_epoch: str,
    topic: str,
    partition: int,
    offsets: Sequence[int] | npt.NDArray[np.int64],
    timestamps: Sequence[int | None] | npt.NDArray[np.int64],
) -> pl.DataFrame:
    """Rows of ORIGIN for the messages of one partition.

    Timestamps are the Kafka records', ms, as producers chose them: one that no store holds is none, as -1 is.
    """
    return pl.DataFrame(
        {"offset": offsets, "kafka_timestamp": timestamps},
        schema={"offset": pl.Int64(), "kafka_timestamp": pl.Int64()},
    ).select(
        pl.lit(stream_epoch).alias("stream_epoch"),
        pl.lit(topic).alias("topic"),
        pl.lit(partition, pl.Int32).alias("partition"),
        "offset",
        _believed(pl.col("kafka_timestamp").cast(TIMESTAMP)),
    )


def _believed(moment: pl.Expr) -> pl.Expr:
    """A time, or null where it is none that can be stored."""
    return pl.when(moment.is_between(EARLIEST, LATEST, closed="left")).then(moment)


def enrich(
    values: Sequence[bytes | None],
    origins: pl.DataFrame,
    rules: Rules,
    rules_version: int = 0,
    *,
    keep_all: bool = False,
) -> Enriched:
    """Parse, label and place a batch of messages. Nothing is raised for any bytes.

    Args:
        values: the messages.
        origins: ORIGIN, one row per message.
        rules: decides what is stored, together with the bytes.
        rules_version: written into the records.
        keep_all: keep every label and every age (`parse`, `analyze`, `explain`, where nothing is stored).
    """
    parsed = parse(values, rules)
    records = label(parsed.records, rules)
    records = records.hstack(origins[records["message"]])
    ended = pl.coalesce("start_time", _believed(pl.col("envelope_time")), pl.col("kafka_timestamp"))
    # A request belongs to the moment it ended; the envelope and Kafka already give that moment.
    lasted = pl.when(pl.col("start_time").is_not_null()).then(pl.col("duration_ms")).fill_null(0)
    records = records.with_columns(
        (ended + pl.duration(milliseconds=lasted)).cast(TIMESTAMP).alias("event_time"),
        pl.lit(rules_version, pl.UInt32).alias("rules_version"),
    )
    # A Kafka record always has a time, unless its producer took pains to leave it out.
    records = records.with_columns(pl.coalesce("kafka_timestamp", "event_time"))
    rejects, filtered = parsed.rejects, parsed.filtered
    if not keep_all:
        records, untimely = _timely(records, rules)
        rejects = pl.concat([rejects, untimely])
        records, unkept = _kept(records, rules)
        filtered = pl.concat([filtered, unkept])
    return Enriched(
        records.select("message", *(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())),
        rejects.sort("message", "seq"),
        filtered.sort("message", "seq"),
    )


def _timely(records: pl.DataFrame, rules: Rules) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part the records that have no time, or lie in the future or behind every tier's retention."""
    age = (pl.col("kafka_timestamp") - pl.col("event_time")).dt.total_milliseconds()
    oldest = max(rules.events_ttl_days, rules.windows_1m_ttl_days) * _DAY_MS
    reason = (
        pl.when(pl.col("event_time").is_null())
        .then(pl.lit(Reject.BAD_VALUE.value))
        .when((age < -1000 * rules.max_clock_skew_s) | (pl.col("event_time") >= LATEST))
        .then(pl.lit(Reject.FUTURE_EVENT_TIME.value))
        .when(age > oldest)
        .then(pl.lit(Reject.PAST_RETENTION.value))
    )
    reasons = records.select("message", "seq", reason.alias("reason"), pl.lit("start_time").alias("field"))
    untimely = reasons["reason"].is_not_null()
    if not untimely.any():
        return records, reasons.clear()
    return records.filter(~untimely), reasons.filter(untimely)


def _kept(records: pl.DataFrame, rules: Rules) -> tuple[pl.DataFrame, pl.DataFrame]:
    kept = records["label"].is_in(rules.keep)
    left_out = records.filter(~kept).select("message", "seq", pl.col("label").alias("reason"))
    return (records if kept.all() else records.filter(kept)), left_out
