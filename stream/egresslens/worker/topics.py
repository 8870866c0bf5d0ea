"""What the worker publishes: which key, which partition, which headers.

- `egress.enriched`: one JSON object per record; key `namespace/workload` (else the source address); the
  partition is the record's own Kafka partition, modulo the topic's, so that order is kept.
- `egress.windows`: one JSON object per changed window row; key as above; partition by Kafka's default rule
  (murmur2 of the key), so that one consumer sees all of a workload.
- `egress.dead-letter`: the message's bytes; headers say why and which message it was; key and partition are
  those of the message's origin.
Each record carries its identity, so that a consumer can drop repeats: delivery is at least once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import polars as pl

from egresslens.kafka.batches import Columns
from egresslens.kafka.publish import Publisher, PublishError, Record, Records, partition_for
from egresslens.metrics import WorkerMetrics
from egresslens.worker.unit import Output

T = TypeVar("T")

# Kafka's default limit of a record is 1,048,588 bytes. A message that could not be read may be of any length;
# the dead-letter topic has this much of it, and a header says how long it was.
_LETTER_BYTES = 900_000
# A record's fields are bounded, so only one that is nearly all escapes comes here; it is in ClickHouse.
_RECORD_BYTES = 1_000_000
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 30.0


@dataclass(frozen=True)
class Names:
    """The topics that are published to."""

    enriched: str
    windows: str
    dead_letter: str


class Topics:
    """Publishes units; tries for ever."""

    def __init__(
        self, publisher: Publisher, names: Names, metrics: WorkerMetrics, outage: Callable[[bool, str], None]
    ) -> None:
        self._publisher = publisher
        self._names = names
        self._metrics = metrics
        self._outage = outage
        self._partitions: dict[str, int] = {}

    async def publish(self, output: Output) -> None:
        """Publish a unit's records, windows and dead letters; returns when the brokers have them."""
        names = self._names
        if output.enriched_json.len():
            count = await self._count(names.enriched)
            records = await asyncio.to_thread(_enriched, output, count)
            await self._send(names.enriched, records)
        if output.windows_json.len():
            count = await self._count(names.windows)
            await self._send(names.windows, await asyncio.to_thread(_windows, output, count))
        if output.dead_letters.height:
            count = await self._count(names.dead_letter)
            await self._send(names.dead_letter, _dead_letters(output.dead_letters, count))

    async def _count(self, topic: str) -> int:
        if topic not in self._partitions:
            self._partitions[topic] = await self._persist(lambda: self._publisher.partitions(topic))
        return self._partitions[topic]

    async def _send(self, topic: str, records: Mapping[int, Records]) -> None:
        await self._persist(lambda: self._publisher.publish(topic, records))
        self._metrics.published.labels(topic).inc(sum(map(len, records.values())))

    async def _persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until it works; one line when it stops working, one when it works again."""
        wait = _FIRST_WAIT_S
        while True:
            try:
                result = await attempt()
            except PublishError as error:
                if wait == _FIRST_WAIT_S:
                    self._outage(True, f"Kafka does not take records, trying for ever: {error}")
                self._metrics.retries.labels("kafka").inc()
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_S)
            else:
                if wait != _FIRST_WAIT_S:
                    self._outage(False, "Kafka takes records again")
                return result


def _enriched(output: Output, partitions: int) -> Mapping[int, Records]:
    records, texts = output.enriched.records, output.enriched_json
    fits = texts.str.len_bytes() <= _RECORD_BYTES
    if not fits.all():
        records, texts = records.filter(fits), texts.filter(fits)
    return _parted(_keys(records), texts, records["partition"] % partitions)


def _windows(output: Output, partitions: int) -> Mapping[int, Records]:
    keys = _keys(output.windows)
    distinct = keys.unique()
    places = pl.Series([partition_for(key.encode(), partitions) for key in distinct], dtype=pl.Int32)
    return _parted(keys, output.windows_json, keys.replace_strict(distinct, places, return_dtype=pl.Int32))


def _parted(keys: pl.Series, values: pl.Series, partitions: pl.Series) -> Mapping[int, Records]:
    """The records of each partition, in their order."""
    rows = pl.DataFrame({"partition": partitions, "key": keys, "value": values})
    return {
        partition: Columns(part["key"], part["value"])
        for (partition,), part in rows.partition_by("partition", as_dict=True, maintain_order=True).items()
    }


def _keys(rows: pl.DataFrame) -> pl.Series:
    """`namespace/workload`, else the source address, else empty."""
    named = pl.concat_str(pl.col("source_namespace").fill_null(""), pl.lit("/"), "source_workload")
    return rows.select(pl.coalesce(named, "source_ip", pl.lit("")).alias("key")).to_series()


def _dead_letters(rows: pl.DataFrame, partitions: int) -> Mapping[int, Records]:
    found: dict[int, list[Record]] = defaultdict(list)
    names = ("reason", "field", "topic", "partition", "offset", "seq", "stream_epoch", "rules_version")
    for row in rows.iter_rows(named=True):
        headers = [(name, str(row[name]).encode()) for name in names if row[name] is not None]
        if row["raw_size"] > _LETTER_BYTES:
            headers.append(("raw_size", str(row["raw_size"]).encode()))
        key = f"{row['topic']}/{row['partition']}".encode()
        found[row["partition"] % partitions].append((key, row["raw"][:_LETTER_BYTES], headers))
    return found
