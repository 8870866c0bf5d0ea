"""What is stored, held against the truth. Every function gives problems in words; none means all is well."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Final

import polars as pl
from aiokafka import AIOKafkaConsumer, TopicPartition

from chaos.parts import Parts
from chaos.truth import KEY, MEASURES, TIERS, Truth

_ROW: Final = (
    *KEY,
    "requests",
    "mismatches",
    "bytes_sent",
    "bytes_received",
    "duration_ms_sum",
    "duration_ms_max",
)
_PREFIX: Final = (*_ROW[len(KEY) :], "first_event", "last_event")
_SHOWN: Final = 3


def places(bootstrap: str, topic: str, partitions: int) -> pl.DataFrame:
    """Message, partition and offset of everything in the topic, as read back from the broker."""
    return asyncio.run(_places(bootstrap, topic, partitions))


async def _places(bootstrap: str, topic: str, partitions: int) -> pl.DataFrame:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=4 * 2**20
    )
    await consumer.start()
    found: list[tuple[int, int, int]] = []
    try:
        assigned = [TopicPartition(topic, one) for one in range(partitions)]
        consumer.assign(assigned)
        ends = await consumer.end_offsets(assigned)
        positions = dict.fromkeys(assigned, 0)
        while any(positions[one] < ends[one] for one in assigned):
            for partition, records in (await consumer.getmany(timeout_ms=1000)).items():
                found += [
                    (int.from_bytes(record.key, "big"), partition.partition, record.offset)
                    for record in records
                ]
                positions[partition] = records[-1].offset + 1
    finally:
        await consumer.stop()
    return pl.DataFrame(found, schema=["message", "partition", "offset"], orient="row")


def read(parts: Parts, sql: str) -> pl.DataFrame:
    """A query's rows; times come as DateTime64."""
    with parts.client() as client:
        body = client.raw_query(parts.named(sql), fmt="ArrowStream")
    frame = pl.read_ipc_stream(io.BytesIO(body))
    texts = [name for name, dtype in frame.schema.items() if dtype in (pl.Binary, pl.Categorical)]
    return frame.with_columns(pl.col(texts).cast(pl.String)) if texts else frame


def window_columns(extra: tuple[str, ...]) -> str:
    """KEY and other columns of a window table or view."""
    start = "toDateTime64(window_start, 3, 'UTC') AS window_start"
    return ", ".join((start, *KEY[1:], *extra))


def snapshot(parts: Parts, file: Path) -> dict[int, tuple[int, int]]:
    """Write the window rows to a file, as they are at one moment; the progress just before it."""
    progress = parts.progress()
    columns = window_columns(("partition", "last_offset", *_PREFIX))
    read(parts, f"SELECT {columns} FROM {{db}}.raw_windows_1m FINAL").write_parquet(file)
    return progress


def snapshot_problems(
    name: str, file: Path, progress: dict[int, tuple[int, int]], prefixes: pl.DataFrame
) -> list[str]:
    """Whether every row is the truth of its partition's prefix, and none up to the progress is missing."""
    rows = pl.read_parquet(file).filter(pl.col("requests") > 0).rename({"last_offset": "offset"})
    place = ["partition", *KEY, "offset"]
    rows = rows.select(pl.col(one).cast(prefixes.schema[one]) for one in (*place, *_PREFIX))
    wrong = rows.join(prefixes, on=[*place, *_PREFIX], how="anti", nulls_equal=True)
    problems = (
        [f"{name}: {wrong.height} rows are no truth of any prefix: {wrong.head(_SHOWN).rows()}"]
        if wrong.height
        else []
    )
    reached = pl.DataFrame(
        [(partition, last) for partition, (last, _) in progress.items()],
        schema={"partition": prefixes.schema["partition"], "reached": pl.Int64()},
        orient="row",
    )
    due = (
        prefixes.join(reached, on="partition")
        .filter(pl.col("offset") <= pl.col("reached"))
        .group_by("partition", *KEY)
        .agg(pl.col("offset").max().alias("due"))
    )
    behind = due.join(rows, on=["partition", *KEY], how="left", nulls_equal=True).filter(
        pl.col("offset").is_null() | (pl.col("offset") < pl.col("due"))
    )
    if behind.height:
        problems.append(f"{name}: {behind.height} rows are behind the progress: {behind.head(_SHOWN).rows()}")
    return problems


def decreases(name: str, before: Path, after: Path) -> list[str]:
    """Rows that count less in the later snapshot."""
    on = ["partition", *KEY]
    both = pl.read_parquet(before).join(
        pl.read_parquet(after), on=on, how="left", nulls_equal=True, suffix="_after"
    )
    less = both.filter(
        pl.col("requests_after").is_null()
        | (pl.col("requests_after") < pl.col("requests"))
        | (pl.col("last_offset_after") < pl.col("last_offset"))
    )
    return [f"{name}: {less.height} rows have decreased: {less.head(_SHOWN).rows()}"] if less.height else []


def windows_problems(parts: Parts, truth: Truth) -> list[str]:
    """Every tier's view against the truth, all measures."""
    problems = []
    times = tuple(f"toDateTime64({one}, 3, 'UTC') AS {one}" for one in ("first_event", "last_event"))
    for tier in TIERS:
        columns = window_columns((*MEASURES[:-2], *times))
        found = read(parts, f"SELECT {columns} FROM {{db}}.windows_{tier}")
        problems += _unequal(f"windows_{tier}", truth.windows(tier), found)
    return problems


def events_problems(parts: Parts, truth: Truth) -> list[str]:
    """Every event, with its identity and most of its fields."""
    columns = (
        "toInt64(partition) AS partition, offset, seq, toDateTime64(event_time, 3, 'UTC') AS event_time, "
        "label, destination_host, destination_port, source_workload, source_ip, response_code, duration_ms, "
        "bytes_sent, bytes_received, request_id"
    )
    wanted = truth.records.filter("event").select(
        "partition",
        "offset",
        "seq",
        "event_time",
        "label",
        pl.col("event_host").alias("destination_host"),
        pl.col("port").alias("destination_port"),
        "source_workload",
        pl.concat_str(pl.lit("10.1.0."), "workload").alias("source_ip"),
        "response_code",
        pl.col("duration").alias("duration_ms"),
        "bytes_sent",
        "bytes_received",
        pl.col("id").map_elements("{:032x}".format, pl.String).alias("request_id"),
    )
    return _unequal("events", wanted, read(parts, f"SELECT {columns} FROM {{db}}.events"))


def dead_letter_problems(parts: Parts, truth: Truth) -> list[str]:
    """Every dead letter's identity and reason."""
    columns = "toInt64(partition) AS partition, offset, toInt64(seq) AS seq, reason"
    found = read(parts, f"SELECT {columns} FROM {{db}}.dead_letters")
    wanted = truth.rejects.select("partition", "offset", "seq", "reason")
    return _unequal("dead_letters", wanted, found)


def progress_problems(parts: Parts, truth: Truth, partitions: int) -> list[str]:
    """Every partition's account."""
    problems = []
    names = list(truth.counts(0))
    rows = parts.query(f"SELECT partition, {', '.join(names)} FROM {{db}}.progress WHERE topic = '{{topic}}'")
    found = {partition: dict(zip(names, values, strict=True)) for partition, *values in rows}
    for partition in range(partitions):
        wanted = truth.counts(partition)
        if found.get(partition) != wanted:
            problems.append(f"progress of {partition}: {found.get(partition)} and not {wanted}")
    return problems


def destination_problems(parts: Parts, truth: Truth) -> list[str]:
    """Requests of each source and destination, kept for ever."""
    key = ["source_namespace", "source_workload", "source_ip", "destination_host", "destination_port"]
    wanted = truth.records.group_by(key).agg(pl.len().alias("requests"))
    found = read(parts, f"SELECT {', '.join(key)}, requests FROM {{db}}.destinations")
    return _unequal("destinations", wanted, found)


def _unequal(name: str, wanted: pl.DataFrame, found: pl.DataFrame) -> list[str]:
    """Rows on one side only; repeated rows count."""
    columns = wanted.columns
    found = found.select(pl.col(one).cast(wanted.schema[one]) for one in columns)
    problems = []
    if found.height != wanted.height:
        problems.append(f"{name}: {found.height} rows and not {wanted.height}")
    lists = [one for one, dtype in wanted.schema.items() if isinstance(dtype, pl.List)]
    wanted, found = (
        side.with_columns(pl.col(one).cast(pl.List(pl.String)).list.join(",") for one in lists)
        for side in (wanted, found)
    )
    missing = wanted.join(found, on=columns, how="anti", nulls_equal=True)
    extra = found.join(wanted, on=columns, how="anti", nulls_equal=True)
    for what, rows in (("missing", missing), ("not true", extra)):
        if rows.height:
            problems.append(f"{name}: {rows.height} rows {what}: {rows.head(_SHOWN).rows()}")
    return problems
