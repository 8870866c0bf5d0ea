"""The limits: reading the topic without parsing, and ClickHouse doing all the work on raw lines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from aiokafka import AIOKafkaConsumer, TopicPartition
from parts import HERE, STORED, Filled, Parts, Timing, check, cpu_seconds

from egresslens.kafka.transport.batch import Batch
from egresslens.kafka.transport.fetch import take
from egresslens.kafka.transport.ledger import Lane, Partition
from egresslens.parse import parse
from egresslens.rules import Rules


async def each_batch(parts: Parts, topic: Filled, act: Callable[[list[Batch]], Any]) -> None:
    """Read all of the topic with the worker's own transport code, about 50,000 records at a time."""
    places = [TopicPartition(topic.name, number) for number in range(len(topic.labels))]
    lanes = {Partition(*one): Lane(0) for one in places}
    consumer = AIOKafkaConsumer(bootstrap_servers=parts.broker.bootstrap, enable_auto_commit=False)
    await consumer.start()
    consumer.assign(places)
    await consumer.seek_to_beginning()
    done, held = 0, list[Batch]()
    while done < topic.total:
        fetched = take(consumer._fetcher, places, lanes, 1, 50_000)  # noqa: SLF001 - as the worker does
        held += [piece.batch for piece in fetched.pieces if piece.batch is not None]
        if (rows := sum(map(len, held))) >= 50_000 or (rows and done + rows == topic.total):
            done += rows
            await asyncio.to_thread(act, held)
            held = []
        if not fetched:
            await asyncio.sleep(0.002)
    await consumer.stop()


def only_reading(parts: Parts, topic: Filled) -> Timing:
    """Fetch, decompress, take out values and offsets."""
    at, cpu, broker = time.monotonic(), time.process_time(), cpu_seconds(parts.broker.pid)
    asyncio.run(each_batch(parts, topic, len))
    return Timing(
        topic.total, time.monotonic() - at, time.process_time() - cpu, cpu_seconds(parts.broker.pid) - broker
    )


def only_parsing(parts: Parts, topic: Filled) -> Timing:
    """Fetch and parse, nothing else: one process, one unit after the other."""
    rules, done = Rules(), 0

    def act(batches: list[Batch]) -> None:
        nonlocal done
        parsed = parse([value for one in batches for value in one.values], rules)
        done += parsed.records.height

    at, cpu, broker = time.monotonic(), time.process_time(), cpu_seconds(parts.broker.pid)
    asyncio.run(each_batch(parts, topic, act))
    seconds, spent = time.monotonic() - at, time.process_time() - cpu
    check({"records": done}, {"records": topic.total}, "parsing only")
    return Timing(topic.total, seconds, spent, cpu_seconds(parts.broker.pid) - broker)


def clickhouse(parts: Parts, topic: Filled) -> Timing:
    """Raw lines into a Null table; materialized views parse, label, store events and sum windows.

    The CPU is the store's: it is the one that works here.
    """
    database = f"raw_{time.time_ns() % 10**9}"
    client = parts.client()
    client.command(f"CREATE DATABASE {database}")
    for file in ("tables.sql", "raw.sql"):
        for statement in (HERE / "peers" / file).read_text().split(";"):
            client.command(statement.replace("{db}", database))

    def insert(batches: list[Batch]) -> None:
        frame = pl.DataFrame(
            {
                "partition": np.repeat([one.partition for one in batches], [len(one) for one in batches]),
                "offset": np.concatenate([one.offsets for one in batches]),
                "line": pl.Series([value for one in batches for value in one.values], dtype=pl.Binary),
            }
        )
        body = frame.write_ipc_stream(None, compat_level=pl.CompatLevel.oldest()).getvalue()
        client.raw_insert(f"{database}.raw", insert_block=body, fmt="ArrowStream")

    at, cpu, broker = time.monotonic(), cpu_seconds(parts.store.pid), cpu_seconds(parts.broker.pid)
    asyncio.run(each_batch(parts, topic, insert))
    timing = Timing(
        topic.total,
        time.monotonic() - at,
        cpu_seconds(parts.store.pid) - cpu,
        cpu_seconds(parts.broker.pid) - broker,
    )
    for sql in ("label, count() FROM {}.events", "label, sum(requests) FROM {}.sums"):
        found = dict(client.query(f"SELECT {sql.format(database)} GROUP BY label").result_rows)
        check({label: found.get(label, 0) for label in STORED}, topic.truth(), "clickhouse")
    client.command(f"DROP DATABASE {database}")
    client.close()
    return timing
