"""How the pipeline does: how far partitions are, what became of messages, and what could not be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, Final

from pydantic import Field

from egresslens.console.answers import Context
from egresslens.console.models import Count, Model, Sql, Time
from egresslens.console.params import Nothing
from egresslens.console.recent import Ends
from egresslens.report.ask import Question

_LATEST: Final = 20


class Kafka(Model):
    """Whether the brokers could be asked."""

    reachable: bool
    why: str | None = Field(description="Why not.")


class Account(Model):
    """What became of a partition's messages, up to last_offset."""

    messages: Count
    records: Count
    events: Count
    filtered: dict[str, Count] = Field(description="Records by the label they were left out for.")
    rejected: dict[str, Count] = Field(description="Dead letters by reason.")
    gaps: Count = Field(description="Offsets that the broker no longer had.")
    past_retention: dict[str, Count]


class Partition(Account):
    """One partition."""

    stream_epoch: str
    topic: str
    partition: int
    first_offset: int
    last_offset: int
    messages_with_records: Count
    messages_filtered: Count
    messages_rejected: Count
    end_offset: int | None = Field(description="Where the log ends; null where Kafka did not tell.")
    lag: Count | None = Field(description="Offsets from what is stored to the log's end.")
    updated_at: Time


class Totals(Account):
    """Of all partitions."""

    lag: Count | None


class Rates(Model):
    """Messages stored per second, between this console's looks of the last minute; null at the first."""

    messages_per_s: float | None
    over_s: float | None


class DeadLetters(Model):
    """Dead letters of one reason."""

    reason: str
    field: str | None
    topic: str
    count: Count
    first_seen: Time
    last_seen: Time


class DeadLetter(Model):
    """One dead letter, without its bytes: they may hold anything. `egresslens dlq show` prints them."""

    kafka_timestamp: Time
    reason: str
    field: str | None
    topic: str
    partition: int
    offset: int
    seq: int
    raw_size: Count


class Pipeline(Model):
    """How the pipeline does."""

    now: Time
    kafka: Kafka
    partitions: list[Partition]
    totals: Totals
    rates: Rates
    last_event: Time | None = Field(description="When a partition was stored last.")
    dead_letters: list[DeadLetters]
    latest_dead_letters: list[DeadLetter]
    sql: list[Sql]


def pipeline(context: Context, _: Nothing) -> Pipeline:
    """How the pipeline does, now."""
    database = context.settings.database
    progress = Question(
        f"SELECT * FROM {database}.progress ORDER BY topic, partition, updated_at LIMIT 10000",  # noqa: S608 - a name by its pattern
        {},
    )
    counted = Question(
        "SELECT reason, field, topic, count() AS count, min(letter.kafka_timestamp) AS first_seen, "  # noqa: S608 - as above
        f"max(letter.kafka_timestamp) AS last_seen FROM {database}.dead_letters AS letter "
        "GROUP BY reason, field, topic ORDER BY count DESC, reason, field, topic LIMIT 100",
        {},
    )
    latest = Question(
        f"SELECT {', '.join(DeadLetter.model_fields)} FROM {database}.dead_letters "  # noqa: S608 - as above
        f"ORDER BY kafka_timestamp DESC, topic, partition, offset DESC, seq LIMIT {_LATEST}",
        {},
    )
    rows = list(context.reader.query(progress.statement).named_results())
    found = context.recent.ends(context.now, frozenset((row["topic"], row["partition"]) for row in rows))
    partitions = [_partition(row, rows, found) for row in rows]
    totals = _totals(partitions)
    rate = context.recent.rate(context.now, totals.messages)
    return Pipeline(
        now=context.now,
        kafka=Kafka(reachable=found.why is None, why=found.why),
        partitions=partitions,
        totals=totals,
        rates=Rates(messages_per_s=rate[0] if rate else None, over_s=rate[1] if rate else None),
        last_event=max((one.updated_at for one in partitions), default=None),
        dead_letters=[DeadLetters(**row) for row in counted.frame(context.reader).iter_rows(named=True)],
        latest_dead_letters=[DeadLetter(**row) for row in latest.frame(context.reader).iter_rows(named=True)],
        sql=[
            Sql.of("progress", progress),
            Sql.of("dead_letters", counted),
            Sql.of("latest_dead_letters", latest),
        ],
    )


def _partition(row: dict[str, Any], rows: list[dict[str, Any]], found: Ends) -> Partition:
    place = (row["topic"], row["partition"])
    # Of a topic that was made anew, the epochs before are history: their log is gone.
    current = max(one["updated_at"] for one in rows if (one["topic"], one["partition"]) == place)
    end = found.offsets.get(place) if row["updated_at"] == current else None
    known: dict[str, Any] = {name: row[name] for name in Partition.model_fields if name in row}
    return Partition(
        **{
            **known,
            "filtered": dict(row["filtered"]),
            "rejected": dict(row["rejected"]),
            "past_retention": dict(row["past_retention"]),
            "updated_at": _aware(row["updated_at"]),
            "end_offset": end,
            "lag": max(0, end - row["last_offset"] - 1) if end is not None else None,
        }
    )


def _totals(partitions: list[Partition]) -> Totals:
    lags = [one.lag for one in partitions if one.lag is not None]
    return Totals(
        messages=sum(one.messages for one in partitions),
        records=sum(one.records for one in partitions),
        events=sum(one.events for one in partitions),
        gaps=sum(one.gaps for one in partitions),
        filtered=_sum(one.filtered for one in partitions),
        rejected=_sum(one.rejected for one in partitions),
        past_retention=_sum(one.past_retention for one in partitions),
        lag=sum(lags) if lags else None,
    )


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
