"""After a change of rules: what a crashed worker stored beyond its progress is undone.

Rows beyond `progress.last_offset` were written by a unit that never finished. Under the same rules the replay
writes them again, the same. Under other rules it would count the messages a second time, under other keys; so
before consuming, events and dead letters beyond the progress are deleted, and the windows that have rows
beyond it are counted again from the events up to it (design section 3).

Windows older than the events' retention cannot be counted again; they stay as they are.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import polars as pl
from clickhouse_connect.driver.asyncclient import AsyncClient

from egresslens.clickhouse import load
from egresslens.record import SCHEMA, WINDOW
from egresslens.settings import Settings
from egresslens.windows import KEY, PLACE, Windows, keyed

# Columns of an event that a window row is made of.
_EVENT: Final = (
    "event_time", "stream_epoch", "topic", "partition", "offset", "seq", "source_cluster",
    "source_namespace", "source_workload", "source_ip", "label", "destination_host",
    "destination_host_source", "destination_port", "destination_ip", "protocol", "hop", "response_code",
    "mismatch", "bytes_sent", "bytes_received", "duration_ms",
)  # fmt: skip
_MEASURES: Final = (
    "requests", "mismatches", "bytes_sent", "bytes_received", "duration_ms_sum", "duration_ms_max",
)  # fmt: skip


class Stream(NamedTuple):
    """One partition of one stream epoch, and how far it was finished."""

    stream_epoch: str
    topic: str
    partition: int
    last_offset: int


async def torn_windows(
    client: AsyncClient, settings: Settings, stream: Stream, rules_version: int
) -> pl.DataFrame:
    """The newest rows (record.WINDOW) of windows that other rules have counted beyond the progress."""
    where = (
        "row.stream_epoch = %(epoch)s AND row.topic = %(topic)s AND row.partition = %(partition)s "
        "AND row.window_start IN (SELECT window_start FROM {db}.raw_windows_1m "
        "WHERE stream_epoch = %(epoch)s AND topic = %(topic)s AND partition = %(partition)s "
        "AND last_offset > %(last)s AND rules_version != %(rules)s)"
    )
    parameters = {**_parameters(stream), "rules": rules_version}
    return await _frame(client, settings, "raw_windows_1m", WINDOW, where, parameters)


async def forget_beyond(client: AsyncClient, settings: Settings, stream: Stream) -> None:
    """Delete events and dead letters beyond the progress; returns when they are gone."""
    for table in ("raw_events", "raw_dead_letters"):
        where = (
            f"FROM {settings.database}.{table} WHERE stream_epoch = %(epoch)s AND topic = %(topic)s "
            "AND partition = %(partition)s AND offset > %(last)s"
        )
        found = await client.query(f"SELECT count() {where}", parameters=_parameters(stream))
        if found.result_rows[0][0]:
            local = "_local" if settings.cluster else ""
            on_cluster = f" ON CLUSTER '{settings.cluster}'" if settings.cluster else ""
            await client.command(
                f"ALTER TABLE {settings.database}.{table}{local}{on_cluster} DELETE "
                + where[where.index("WHERE") :],
                parameters=_parameters(stream),
                settings={"mutations_sync": 2},
            )


async def recount(
    client: AsyncClient,
    settings: Settings,
    stream: Stream,
    torn: pl.DataFrame,
    rules_version: int,
) -> pl.DataFrame:
    """Count torn windows again from the events up to the progress.

    Returns:
        Rows (record.WINDOW) of these rules that replace every row of `torn`; a key that has no event up to
        the progress becomes a row of zero requests, which no view shows.
    """
    schema = {name: SCHEMA[name] for name in _EVENT}
    starts = torn["window_start"].unique().dt.epoch("s").to_list()
    where = (
        "row.stream_epoch = %(epoch)s AND row.topic = %(topic)s AND row.partition = %(partition)s "
        "AND row.offset <= %(last)s AND toUnixTimestamp(toStartOfMinute(row.event_time)) IN %(starts)s"
    )
    parameters = {**_parameters(stream), "starts": starts}
    events = await _frame(client, settings, "raw_events", schema, where, parameters)
    windows = Windows(settings.max_destinations)
    windows.load(torn.select(PLACE).unique(), pl.DataFrame(schema=WINDOW))
    counted = windows.apply(keyed(events.sort("offset", "seq")), rules_version).rows
    gone = torn.join(counted, on=KEY, how="anti", nulls_equal=True)
    nothing = gone.with_columns(
        *(pl.lit(0).cast(WINDOW[name]).alias(name) for name in _MEASURES),
        pl.col("duration_buckets").list.eval(pl.element() * 0),
        pl.lit([], pl.List(pl.String)).alias("destination_ips"),
        pl.lit(rules_version).cast(pl.UInt32).alias("rules_version"),
        pl.lit(stream.last_offset).cast(pl.Int64).alias("last_offset"),
    )
    return pl.concat([counted, nothing.select(counted.columns)])


async def _frame(
    client: AsyncClient,
    settings: Settings,
    table: str,
    schema: dict[str, pl.DataType],
    where: str,
    parameters: dict[str, object],
) -> pl.DataFrame:
    body = await client.raw_query(
        f"SELECT {load.columns(schema)} FROM {settings.database}.{table} AS row FINAL WHERE "  # noqa: S608 - names of ours, values are bound
        + where.replace("{db}", settings.database),
        parameters=parameters,
        fmt="ArrowStream",
    )
    return load.frame(body, schema)


def _parameters(stream: Stream) -> dict[str, object]:
    return {
        "epoch": stream.stream_epoch,
        "topic": stream.topic,
        "partition": stream.partition,
        "last": stream.last_offset,
    }
