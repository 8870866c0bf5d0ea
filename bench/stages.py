"""Where the microseconds go: the CPU of each stage of the worker, on the worker's own functions, in process.

fetch is read off aiokafka's buffers by the worker's own transport code; insert and publish are the client's
side only (ClickHouse and Kafka work in processes of their own). CPU counts all threads of the process.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import polars as pl
from aiokafka import AIOKafkaConsumer, TopicPartition
from parts import Filled, Parts

from egresslens.clickhouse import frames
from egresslens.enrich import enrich, origin
from egresslens.kafka.publish import Publisher
from egresslens.kafka.topics import Topic
from egresslens.kafka.transport.batch import Batch
from egresslens.kafka.transport.fetch import take
from egresslens.kafka.transport.ledger import Lane, Partition
from egresslens.label import label
from egresslens.parse import parse
from egresslens.parse.partials import Partials
from egresslens.rules import Rules
from egresslens.windows import Windows
from egresslens.worker import topics, unit
from egresslens.worker.accounts import Account

STAGES = (
    "fetch", "join split lines", "parse", "label", "identity, time, keep", "windows", "encode enriched",
    "encode windows", "encode events (Arrow)", "encode windows (Arrow)", "batches and publish",
)  # fmt: skip


class Clock:
    """CPU by stage."""

    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = {name: [] for name in STAGES}

    def time(self, name: str, act: Callable[[], Any]) -> Any:
        """Run it and note its CPU."""
        at = time.process_time()
        result = act()
        self.seen[name].append(time.process_time() - at)
        return result


def profile(parts: Parts, topic: Filled, units: int, rows: int = 50_000) -> dict[str, float]:
    """Median microseconds of CPU per record, stage by stage, over units of `rows` records."""
    return asyncio.run(_profile(parts, topic, units, rows))


async def _profile(parts: Parts, topic: Filled, units: int, rows: int) -> dict[str, float]:
    rules = Rules()
    partitions = [Partition(topic.name, number) for number in range(len(topic.labels))]
    consumer = AIOKafkaConsumer(bootstrap_servers=parts.broker.bootstrap, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition(*one) for one in partitions])
    await consumer.seek_to_beginning()
    output = f"stages-{time.time_ns()}"
    windows_output = f"{output}-windows"
    parts.make_topics(Topic(output, 4), Topic(windows_output, 4))
    publisher = Publisher({"bootstrap_servers": parts.broker.bootstrap})
    await publisher.partitions(output)
    accounts = {one: Account("epoch", *one) for one in partitions}
    partials = {one: Partials() for one in partitions}
    windows = Windows(rules.max_destinations)
    clock = Clock()
    sizes = []
    # Kafka batches are taken whole, so that a unit has somewhat more records than `rows`.
    while len(sizes) < units and sum(sizes) + rows <= topic.total:
        batches = await _fetch(consumer, partitions, clock, rows)
        sizes.append(sum(map(len, batches)))
        runs = [
            unit.run(accounts[place], partials[place], batch)
            for batch in sorted(batches, key=lambda one: (one.partition, one.first_offset))
            for place in [Partition(batch.topic, batch.partition)]
        ]
        gc.collect()
        output_unit = _unit(runs, rules, windows, clock)
        at = time.process_time()
        await publisher.publish(output, topics._enriched(output_unit, 4))  # noqa: SLF001 - the worker's own
        await publisher.publish(windows_output, topics._windows(output_unit, 4))  # noqa: SLF001
        clock.seen["batches and publish"].append(time.process_time() - at)
    await publisher.stop()
    await consumer.stop()
    parts.drop_topics([output, windows_output])
    return {
        name: median(cpu / size * 1e6 for cpu, size in zip(clock.seen[name], sizes, strict=True))
        for name in STAGES
    }


async def _fetch(consumer: Any, partitions: list[Partition], clock: Clock, rows: int) -> list[Batch]:
    """Whatever comes until there are rows enough; the cost is all CPU until then."""
    wanted = [TopicPartition(*one) for one in partitions]
    lanes = {one: Lane(0) for one in partitions}
    batches: list[Batch] = []
    at = time.process_time()
    while sum(map(len, batches)) < rows:
        fetched = take(consumer._fetcher, wanted, lanes, 1, rows)  # noqa: SLF001
        batches += [piece.batch for piece in fetched.pieces if piece.batch is not None]
        if not fetched:
            await asyncio.sleep(0.005)
    clock.seen["fetch"].append(time.process_time() - at)
    return batches


def _unit(runs: list[unit.Run], rules: Rules, windows: Windows, clock: Clock) -> unit.Output:
    """What the worker does with a unit, cut into stages; then once more as a whole for its results."""
    values = [value for one in runs for value in one.batch.values]
    parsed = clock.time("parse", lambda: parse(values, rules))
    clock.time("label", lambda: label(parsed.records, rules))
    fresh = [Partials() for _ in runs]
    clock.time(
        "join split lines",
        lambda: [
            one.join(run.batch.offsets.tolist(), run.batch.values)
            for one, run in zip(fresh, runs, strict=True)
        ],
    )
    origins = pl.concat(
        origin("epoch", one.account.topic, one.account.partition, one.batch.offsets, one.batch.timestamps)
        for one in runs
    )
    at = time.process_time()
    enrich(values, origins, rules, 1)
    whole = time.process_time() - at
    clock.seen["identity, time, keep"].append(
        max(0.0, whole - clock.seen["parse"][-1] - clock.seen["label"][-1])
    )
    prepared = unit.prepare(runs, rules, 1)
    missing = windows.missing(prepared.windowed)
    windows.load(missing, pl.DataFrame())
    at = time.process_time()
    quiet = unit.apply(prepared, windows, 1, publish=False)
    clock.seen["windows"].append(time.process_time() - at)
    enriched_json = clock.time(
        "encode enriched", lambda: unit.json_objects(quiet.enriched.records.drop("message"))
    )
    windows_json = clock.time("encode windows", lambda: unit.json_objects(quiet.windows))
    for name, table, frame in (
        ("encode events (Arrow)", frames.EVENTS, quiet.events),
        ("encode windows (Arrow)", frames.WINDOWS, quiet.windows),
    ):

        def encode(table: frames.Table = table, frame: pl.DataFrame = frame) -> bytes:
            return b"".join(
                frames.encode(table, part, compress=False)
                for part in frames.split(table, frames.rows(table, frame))
            )

        clock.time(name, encode)
    return unit.Output(
        **{
            **{field: getattr(quiet, field) for field in quiet.__dataclass_fields__},
            "enriched_json": enriched_json,
            "windows_json": windows_json,
        }
    )
