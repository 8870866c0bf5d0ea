"""Frames as the raw tables take them: the columns, their order and types, and as little work as possible.

What is LowCardinality in the table goes as Arrow dictionaries: making them here costs less than ClickHouse
spends on the plain strings (docs/decisions/clickhouse-schema.md).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
import polars as pl

from egresslens import record

# A dead letter: which record, why, and its bytes (bounded by the writer; `raw_size` is the whole length).
DEAD_LETTER: Final[dict[str, pl.DataType]] = {
    **record.IDENTITY,
    "reason": pl.String(),
    "field": pl.String(),
    "raw": pl.Binary(),
    "raw_size": pl.Int64(),
    "whole": pl.Boolean(),
}

# Which message of the replay topic applied a part of a dead letter's message.
ORIGIN: Final[dict[str, pl.DataType]] = {
    "origin_stream_epoch": pl.String(),
    "origin_topic": pl.String(),
    "origin_partition": pl.Int32(),
    "origin_offset": pl.Int64(),
}
REPLAY: Final[dict[str, pl.DataType]] = {
    **ORIGIN,
    "origin_seq": pl.Int32(),
    "stream_epoch": pl.String(),
    "topic": pl.String(),
    "partition": pl.Int32(),
    "offset": pl.Int64(),
}

# What became of one Kafka partition so far. Maps are lists of (key, value); keys are of the closed sets of
# `outcome`, or names of tiers.
_COUNTS: Final = pl.List(pl.Struct({"key": pl.String(), "value": pl.Int64()}))
PROGRESS: Final[dict[str, pl.DataType]] = {
    "stream_epoch": pl.String(),
    "topic": pl.String(),
    "partition": pl.Int32(),
    "first_offset": pl.Int64(),
    "last_offset": pl.Int64(),
    "messages": pl.Int64(),
    "messages_with_records": pl.Int64(),
    "messages_filtered": pl.Int64(),
    "messages_rejected": pl.Int64(),
    "records": pl.Int64(),
    "events": pl.Int64(),
    "filtered": _COUNTS,
    "rejected": _COUNTS,
    "gaps": pl.Int64(),
    "past_retention": _COUNTS,
    "rules_version": pl.UInt32(),
}


@dataclass(frozen=True)
class Table:
    """A raw table that workers write.

    schema: its columns, in order. partition: the value of ClickHouse's PARTITION BY, None if there is none.
    plain: text columns that are no LowCardinality in the table. format: what `encode` writes.
    """

    name: str
    schema: dict[str, pl.DataType]
    partition: pl.Expr | None
    plain: frozenset[str] = frozenset()
    format: Literal["ArrowStream", "JSONEachRow"] = "ArrowStream"


_RANDOM_TEXT: Final = frozenset(
    ("path", "x_forwarded_for", "request_id", "upstream_local_address", "downstream_remote_address")
)

EVENTS: Final = Table("raw_events", record.SCHEMA, pl.col("kafka_timestamp").dt.truncate("1w"), _RANDOM_TEXT)
WINDOWS: Final = Table("raw_windows_1m", record.WINDOW, pl.col("window_start").dt.truncate("1mo"))
DEAD_LETTERS: Final = Table("raw_dead_letters", DEAD_LETTER, pl.col("kafka_timestamp").dt.truncate("1mo"))
REPLAYS: Final = Table("raw_replays", REPLAY, None)
# Polars only writes lists of nullable structs, and ClickHouse takes none for a Map: a few rows, so JSON.
PROGRESSES: Final = Table("raw_progress", PROGRESS, None, format="JSONEachRow")

TABLES: Final = {table.name: table for table in (EVENTS, WINDOWS, PROGRESSES, DEAD_LETTERS, REPLAYS)}


def rows(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Give a frame the table's columns. An absent list becomes an empty one: ClickHouse has no null array.

    Raises:
        polars.exceptions.PolarsError: a column is missing or has another type than the table's.
    """
    return frame.select(
        pl.col(name).fill_null(pl.lit([], dtype)) if isinstance(dtype, pl.List) else pl.col(name).cast(dtype)
        for name, dtype in table.schema.items()
    )


def split(table: Table, frame: pl.DataFrame) -> list[pl.DataFrame]:
    """Cut rows into one frame per partition of the table, oldest first."""
    if frame.is_empty():
        return []
    if table.partition is None or frame.select(table.partition.n_unique()).item() == 1:
        return [frame]
    parts = frame.with_columns(table.partition.alias("_partition")).partition_by("_partition", as_dict=True)
    return [parts[key].drop("_partition") for key in sorted(parts)]


def encode(table: Table, frame: pl.DataFrame, *, compress: bool) -> bytes:
    """Write a frame of `rows` in the table's format."""
    if table.format == "JSONEachRow":
        return b"\n".join(orjson.dumps(_maps(table, row)) for row in frame.iter_rows(named=True))
    buffer = io.BytesIO()
    frame.with_columns(_dictionaries(table)).write_ipc_stream(
        buffer, compat_level=pl.CompatLevel.oldest(), compression="zstd" if compress else "uncompressed"
    )
    return buffer.getvalue()


def _dictionaries(table: Table) -> list[pl.Expr]:
    # Categories of their own: Polars keeps those it shares for as long as the process runs.
    return [
        pl.col(name).cast(pl.Categorical(pl.Categories.random()))
        for name, dtype in table.schema.items()
        if dtype == pl.String and name not in table.plain
    ]


def _maps(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    counts = [name for name, dtype in table.schema.items() if dtype == _COUNTS]
    return {**row, **{name: {pair["key"]: pair["value"] for pair in row[name]} for name in counts}}
