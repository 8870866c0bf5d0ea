"""Inserts and loads through outages, splits and refusals, on the real engine."""

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from clickhouse_rows import (
    HOUR,
    Database,
    database,
    event,
    events,
    migrated,
    minute,
    progress,
    settings_of,
    window,
    windows,
)
from egresslens.clickhouse import load
from egresslens.clickhouse.client import connect, connect_async
from egresslens.clickhouse.errors import Reason
from egresslens.clickhouse.migrate import migrate
from egresslens.clickhouse.retry import Failure, Recovery, RefusedError, Retry
from egresslens.clickhouse.sink import Sink
from egresslens.settings import Settings
from egresslens.store.process import StoreProcess, embedded_store
from functional.store_fixture import require_chdb

__all__ = ["database", "migrated"]

pytestmark = pytest.mark.functional


def insert(
    settings: Settings, table: str, frame: pl.DataFrame, reported: list[Any] | None = None
) -> pl.DataFrame:
    """One insert by a sink of its own, quick to try again."""

    async def act() -> pl.DataFrame:
        report = (lambda _: None) if reported is None else reported.append
        sink = Sink(settings, Retry(report, base_s=0.05, cap_s=0.2))
        try:
            return await sink.insert(table, frame)
        finally:
            await sink.close()

    return asyncio.run(act())


@pytest.fixture
def own_store(tmp_path) -> Iterator[StoreProcess]:
    """A store that the test may stop."""
    require_chdb()
    with embedded_store(tmp_path) as own:
        yield own


def test_an_insert_waits_for_clickhouse_to_come_back(own_store: StoreProcess):
    settings = settings_of(own_store)
    client = connect(settings, "writer")
    migrate(client, settings)
    client.close()
    own_store.kill()
    reported: list[Failure | Recovery] = []
    waiting = threading.Thread(
        target=insert, args=(settings, "raw_windows_1m", windows(window(requests=3)), reported)
    )
    waiting.start()
    wait_for(lambda: len(reported) >= 3)
    own_store.restart()
    waiting.join(30)
    assert [event.trouble.reason for event in reported[:3]] == [Reason.UNREACHABLE] * 3
    assert isinstance(reported[-1], Recovery)
    reader = connect(settings, "reader")
    assert reader.query(f"SELECT requests FROM {settings.database}.windows_1m").result_rows == [(3,)]
    reader.close()


def test_an_insert_waits_for_the_schema(store: StoreProcess):
    settings = settings_of(store)
    reported: list[Failure | Recovery] = []
    waiting = threading.Thread(target=insert, args=(settings, "raw_events", events(event(1)), reported))
    waiting.start()
    wait_for(lambda: bool(reported))
    client = connect(settings, "writer")
    migrate(client, settings)
    waiting.join(30)
    assert reported[0].trouble.reason is Reason.SCHEMA
    assert client.query(f"SELECT count() FROM {settings.database}.events").result_rows == [(1,)]
    client.close()


def test_a_wrong_password_is_waited_for_and_said(database: Database):
    wrong = database.settings.model_copy(update={"clickhouse_user": "nobody"})
    reported: list[Failure | Recovery] = []

    async def act() -> None:
        sink = Sink(wrong, Retry(reported.append, base_s=0.01))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(sink.insert("raw_events", events(event(1))), 2)
        await sink.close()

    asyncio.run(act())
    assert {one.trouble.reason for one in reported} == {Reason.ACCESS}


def test_an_insert_over_many_weeks_and_months_arrives(database: Database):
    stamps = [HOUR - timedelta(days=30 * n) for n in range(150)]
    database.command("ALTER TABLE {db}.raw_events REMOVE TTL")
    rows = events(*(event(n, kafka_timestamp=stamp) for n, stamp in enumerate(stamps)))
    assert insert(database.settings, "raw_events", rows).is_empty()
    assert database.rows("SELECT count() AS n FROM {db}.events") == [{"n": 150}]


def test_an_insert_into_one_table_partition_is_one_part(database: Database):
    count = 60_000
    codes = pl.int_range(count, dtype=pl.Int32, eager=True).alias("response_code")
    insert(database.settings, "raw_windows_1m", pl.concat([windows(window())] * count).with_columns(codes))
    parts = database.writer.query(
        "SELECT count(), sum(rows) FROM system.parts WHERE active AND table = 'raw_windows_1m' "
        f"AND database = '{database.settings.database}'"
    )
    assert parts.result_rows == [(1, count)]


def test_rows_that_no_server_takes_come_back_and_the_others_are_stored(database: Database):
    rows = [event(n, label=None if n in (3, 4, 11) else "outbound") for n in range(20)]
    refused = insert(database.settings, "raw_events", events(*rows))
    assert sorted(refused["offset"]) == [3, 4, 11]
    assert database.rows("SELECT count() AS n FROM {db}.events") == [{"n": 17}]


def test_if_not_one_event_is_taken_it_is_no_matter_of_events(database: Database):
    with pytest.raises(RefusedError, match="CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN"):
        insert(database.settings, "raw_events", events(*(event(n, label=None) for n in range(5))))


def test_a_window_that_is_refused_is_an_error(database: Database):
    with pytest.raises(RefusedError):
        insert(database.settings, "raw_windows_1m", windows(window(), window(label=None)))


def test_a_waiting_insert_can_be_cancelled():
    away = Settings(clickhouse_url="http://127.0.0.1:1")

    async def act() -> float:
        sink = Sink(away, Retry(lambda _: None, base_s=60, cap_s=60))
        task = asyncio.create_task(sink.insert("raw_events", events(event(1))))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await sink.close()
        return time.monotonic() - began

    assert asyncio.run(act()) < 1


def loaded(database: Database, places: pl.DataFrame) -> pl.DataFrame:
    async def act() -> pl.DataFrame:
        client = await connect_async(database.settings, "writer")
        try:
            return await load.load_windows(client, database.settings, places)
        finally:
            await client.close()

    return asyncio.run(act())


def test_a_loaded_window_is_what_was_written(database: Database):
    rows = windows(
        window(last_offset=7, destination_ips=["b", "a"]),
        window(source_workload=None, source_ip="10.1.1.1", response_code=None, destination_host=None),
        window(destination_host="O'Reilly \\ \n\t\u00fc", destination_ips=[]),
    )
    database.insert("raw_windows_1m", rows, windows(window(requests=9, last_offset=3)))
    order = ["last_offset", "source_ip", "destination_host"]
    assert loaded(database, rows).sort(order).equals(rows.sort(order))


def test_only_the_windows_asked_for_are_loaded(database: Database):
    database.insert(
        "raw_windows_1m",
        windows(
            window(),
            window(window_start=minute(1)),
            window(partition=1),
            window(topic="other"),
            window(stream_epoch="other"),
        ),
    )
    asked = windows(window(), window(window_start=minute(99)))
    assert loaded(database, asked).select(load.PLACE).rows() == [windows(window()).select(load.PLACE).row(0)]


def test_a_name_with_quotes_is_only_a_name(database: Database):
    odd = window(topic="it's'); DROP TABLE x; -- \\", stream_epoch="\\'")
    database.insert("raw_windows_1m", windows(odd))
    assert loaded(database, windows(odd)).height == 1


def test_thousands_of_windows_are_loaded_at_once(database: Database):
    rows = windows(*(window(window_start=minute(n), partition=n % 3, last_offset=n) for n in range(2_500)))
    database.insert("raw_windows_1m", rows)
    assert loaded(database, rows).sort("last_offset").equals(rows)


def test_loading_nothing_asks_nothing(database: Database):
    assert loaded(database, windows()).equals(windows())


def test_progress_is_loaded_as_it_was_written(database: Database):
    newest = progress(9, filtered=[{"key": "inbound", "value": 4}], rejected=[{"key": "empty", "value": 1}])
    database.insert("raw_progress", newest, progress(5), progress(1, partition=3))

    async def act() -> pl.DataFrame:
        client = await connect_async(database.settings, "writer")
        try:
            streams = [("epoch", "egress.access-log", 0), ("epoch", "egress.access-log", 1)]
            return await load.load_progress(client, database.settings, streams)
        finally:
            await client.close()

    assert asyncio.run(act()).equals(newest)


def wait_for(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
