"""The dead-letter queue, as the store keeps it: what is in it, and its replay through the pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from kafka import KafkaProducer

from egresslens.kafka import client
from egresslens.kafka.publish import partition_for
from egresslens.settings import Settings
from egresslens.worker.replays import Origin, Replay

_PAGE: Final = 1_000
_COLUMNS: Final = (
    "kafka_timestamp", "reason", "field", "topic", "partition", "offset", "seq", "stream_epoch",
    "rules_version", "raw_size", "whole",
)  # fmt: skip


@dataclass(frozen=True)
class Selection:
    """Which dead letters; None means any."""

    reason: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def where(self) -> tuple[str, dict[str, Any]]:
        """The condition in SQL, and its parameters."""
        tests = {
            "reason": "reason = {reason:String}",
            "topic": "topic = {topic:String}",
            "partition": "partition = {partition:Int32}",
            "offset": "offset = {offset:Int64}",
            "since": "kafka_timestamp >= {since:DateTime64(3)}",
            "until": "kafka_timestamp < {until:DateTime64(3)}",
        }
        given = {name: getattr(self, name) for name in tests if getattr(self, name) is not None}
        return " AND ".join(["1", *(tests[name] for name in given)]), given


@dataclass(frozen=True)
class Replayed:
    """What a replay did. `cut` messages are longer than the store keeps; only the topic has them whole."""

    messages: int
    cut: int


def overview(reader: Client, settings: Settings, selection: Selection) -> list[dict[str, Any]]:
    """Dead letters by reason, field and topic, the most first: count, first and last seen."""
    where, parameters = selection.where()
    rows = reader.query(
        "SELECT reason, field, topic, count() AS letters, min(kafka_timestamp) AS first_seen, "  # noqa: S608 - conditions of ours, values are bound
        f"max(kafka_timestamp) AS last_seen FROM {settings.database}.dead_letters WHERE {where} "
        "GROUP BY reason, field, topic ORDER BY letters DESC, reason, field, topic",
        parameters=parameters,
    )
    return list(rows.named_results())


def letters(reader: Client, settings: Settings, selection: Selection, limit: int) -> list[dict[str, Any]]:
    """Single dead letters with their bytes (`raw`), the newest first."""
    where, parameters = selection.where()
    rows = reader.query(
        f"SELECT {', '.join(_COLUMNS)}, hex(raw) AS raw FROM {settings.database}.dead_letters WHERE {where} "  # noqa: S608 - conditions of ours, values are bound
        "ORDER BY kafka_timestamp DESC, topic, partition, offset DESC, seq LIMIT {limit:UInt32}",
        parameters={**parameters, "limit": limit},
    )
    return [{**row, "raw": bytes.fromhex(row["raw"])} for row in rows.named_results()]


def replay(reader: Client, settings: Settings, selection: Selection, *, dry_run: bool) -> Replayed:
    """Send the messages of the selected dead letters to the replay topic.

    A message is sent once however many of its parts are dead letters, with its own time, so that it is as old
    as it was. Whether it is applied is the worker's decision: each origin is, once.
    """
    producer = None if dry_run else KafkaProducer(**client.kafka_python(settings), acks="all")
    messages = cut = 0
    try:
        partitions = len(producer.partitions_for(settings.replay_topic)) if producer else 1
        for letter in _messages(reader, settings, selection):
            if letter["raw_size"] > len(letter["raw"]):
                cut += 1
                continue
            messages += 1
            if producer:
                one = _replay(letter)
                producer.send(
                    settings.replay_topic,
                    letter["raw"],
                    key=one.key(),
                    headers=[one.header()],
                    partition=partition_for(one.key(), partitions),
                    timestamp_ms=int(letter["kafka_timestamp"].timestamp() * 1000),
                )
        if producer:
            producer.flush()
    finally:
        if producer:
            producer.close()
    return Replayed(messages, cut)


def _replay(letter: dict[str, Any]) -> Replay:
    origin = Origin(letter["stream_epoch"], letter["topic"], letter["partition"], letter["offset"])
    return Replay(origin, None if letter["whole"] else frozenset(letter["seqs"]))


def _messages(reader: Client, settings: Settings, selection: Selection) -> Iterator[dict[str, Any]]:
    """One row per message that has a selected dead letter, in a stable order, a page at a time."""
    where, parameters = selection.where()
    after: tuple[Any, ...] = ("", -1, "", -1)
    while True:
        rows = reader.query(
            "SELECT topic, partition, stream_epoch, offset, any(letter.kafka_timestamp) AS kafka_timestamp, "  # noqa: S608 - conditions of ours, values are bound
            "hex(any(letter.raw)) AS raw, any(letter.raw_size) AS raw_size, any(letter.whole) AS whole, "
            "groupArray(letter.seq) AS seqs "
            f"FROM {settings.database}.dead_letters AS letter WHERE {where} "
            "AND topic != {replay_topic:String} "
            "AND (topic, partition, stream_epoch, offset) > "
            "({t:String}, {p:Int32}, {e:String}, {o:Int64}) "
            "GROUP BY topic, partition, stream_epoch, offset "
            "ORDER BY topic, partition, stream_epoch, offset LIMIT {page:UInt32}",
            parameters={
                **parameters,
                **dict(zip("tpeo", after, strict=True)),
                "page": _PAGE,
                "replay_topic": settings.replay_topic,
            },
        )
        found = list(rows.named_results())
        yield from ({**row, "raw": bytes.fromhex(row["raw"])} for row in found)
        if len(found) < _PAGE:
            return
        last = found[-1]
        after = (last["topic"], last["partition"], last["stream_epoch"], last["offset"])
