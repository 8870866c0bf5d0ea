"""Stored state read back by a worker: windows it does not hold, and how far each partition has come."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, Final, Protocol

import polars as pl

from egresslens.clickhouse.frames import DEAD_LETTER, ORIGIN, PROGRESS, REPLAY
from egresslens.record import TIMESTAMP, WINDOW
from egresslens.settings import Settings

STREAM: Final = ("stream_epoch", "topic", "partition")
PLACE: Final = (*STREAM, "window_start")

# Keys per query: the statement stays far below ClickHouse's max_query_size of 256 KiB.
_KEYS: Final = 1_000


class Client(Protocol):
    """What loading needs of an asynchronous clickhouse-connect client."""

    async def raw_query(self, query: str, *, parameters: dict[str, Any], fmt: str) -> bytes:
        """Run a query; the result in a format."""

    async def command(self, cmd: str, /) -> Any:
        """Run a statement."""


async def load_windows(client: Client, settings: Settings, places: pl.DataFrame) -> pl.DataFrame:
    """Read the newest rows of these windows.

    Args:
        client: a connected writer.
        settings: for the database's name.
        places: PLACE columns.

    Returns:
        record.WINDOW, in no particular order; nothing for places without rows.

    Raises:
        clickhouse_connect.driver.exceptions.Error: the query failed.
    """
    keys = places.select(PLACE).unique().with_columns(pl.col("window_start").dt.epoch("s")).rows()
    # FINAL compares only the windows asked for: they are the primary key.
    return await _read(client, f"{settings.database}.raw_windows_1m", WINDOW, PLACE, keys)


async def load_progress(
    client: Client, settings: Settings, streams: Iterable[tuple[str, str, int]]
) -> pl.DataFrame:
    """Read what is stored of these partitions' progress.

    Args:
        client: a connected writer.
        settings: for the database's name.
        streams: (stream epoch, topic, partition) each.

    Returns:
        frames.PROGRESS, at most one row per partition.

    Raises:
        clickhouse_connect.driver.exceptions.Error: the query failed.
    """
    return await _read(client, f"{settings.database}.raw_progress", PROGRESS, STREAM, list(streams))


async def load_refused(
    client: Client, settings: Settings, streams: Iterable[tuple[str, str, int]]
) -> pl.DataFrame:
    """Read which records of these partitions ClickHouse refused (worker.unit.refused_letters).

    Returns:
        STREAM columns, `offset` and `seq`.

    Raises:
        clickhouse_connect.driver.exceptions.Error: the query failed.
    """
    keys = list(streams)
    schema = {name: DEAD_LETTER[name] for name in (*STREAM, "offset", "seq")}
    if not keys:
        return pl.DataFrame(schema=schema)
    body = await client.raw_query(
        f"SELECT {columns(schema)} FROM {settings.database}.raw_dead_letters AS row "  # noqa: S608 - names of ours
        f"WHERE row.reason = 'refused' AND ({', '.join(f'row.{name}' for name in STREAM)}) IN %(keys)s",
        parameters={"keys": keys},
        fmt="ArrowStream",
    )
    return frame(body, schema)


async def load_replays(
    client: Client, settings: Settings, origins: Iterable[tuple[Any, ...]]
) -> pl.DataFrame:
    """Read which replays have applied these origins (values of frames.ORIGIN).

    Returns:
        frames.REPLAY, at most one row per origin and part.

    Raises:
        clickhouse_connect.driver.exceptions.Error: the query failed.
    """
    table = f"{settings.database}.raw_replays"
    return await _read(client, table, REPLAY, tuple(ORIGIN), list(origins))


async def catch_up(client: Client, settings: Settings) -> None:
    """On a cluster: wait until the replica asked has all that was acknowledged, before the first load.

    Does nothing on a single server.
    """
    if settings.cluster:
        for table in ("raw_windows_1m", "raw_progress"):
            await client.command(f"SYSTEM SYNC REPLICA {settings.database}.{table}_local LIGHTWEIGHT")


async def _read(
    client: Client, table: str, schema: dict[str, pl.DataType], key: tuple[str, ...], values: list[Any]
) -> pl.DataFrame:
    # A DateTime comes as a bare number in Arrow, a DateTime64 as what it is.
    query = (
        f"SELECT {columns(schema)} FROM {table} AS row FINAL "  # noqa: S608 - names of ours, values are bound
        f"WHERE ({', '.join(f'row.{name}' for name in key)}) IN %(keys)s"
    )
    found = [pl.DataFrame(schema=schema)]
    for at in range(0, len(values), _KEYS):
        body = await client.raw_query(query, parameters={"keys": values[at : at + _KEYS]}, fmt="ArrowStream")
        found.append(frame(body, schema))
    return pl.concat(found)


def columns(schema: dict[str, pl.DataType]) -> str:
    """What to select of a table named `row`, so that `frame` gets times in milliseconds."""
    return ", ".join(
        f"toDateTime64(row.{name}, 3, 'UTC') AS {name}" if dtype == TIMESTAMP else f"row.{name} AS {name}"
        for name, dtype in schema.items()
    )


def frame(body: bytes, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """Read an Arrow stream of `columns`; ClickHouse sends nothing at all where there are no rows."""
    if not body:
        return pl.DataFrame(schema=schema)
    read = pl.read_ipc_stream(io.BytesIO(body))
    return read.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
