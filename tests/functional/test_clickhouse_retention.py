"""What a tier's retention takes away, the tiers above it keep."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from clickhouse_rows import (
    HOUR,
    NOW,
    Database,
    event,
    events,
    minute,
    progress,
    settings_of,
    window,
    windows,
)
from egresslens.clickhouse.client import connect
from egresslens.clickhouse.migrate import migrate
from egresslens.store.process import StoreProcess

pytestmark = pytest.mark.functional

UPPER = ("windows_1h", "windows_1d", "destinations")


@dataclass
class Short(Database):
    """A database and what its upper tiers showed before anything was dropped."""

    before: list[Any] = field(default_factory=list)


@pytest.fixture
def short(store: StoreProcess) -> Iterator[Short]:
    """Two hours of three days ago, rolled up; then minutes and events are to be kept for one day."""
    settings = settings_of(store)
    database = Short(settings, connect(settings, "writer"), connect(settings, "reader"))
    migrate(database.writer, settings)
    database.insert(
        "raw_windows_1m", windows(*(window(window_start=minute(n), last_offset=n) for n in range(120)))
    )
    database.insert("raw_events", events(event(1)), events(event(2, kafka_timestamp=NOW, event_time=HOUR)))
    database.insert("raw_progress", progress(200))
    database.roll_up()
    database.before = [database.view(name) for name in UPPER]
    database.settings = settings.model_copy(update={"windows_1m_ttl_days": 1, "events_ttl_days": 1})
    migrate(database.writer, database.settings)
    yield database
    database.command("DROP DATABASE {db}")
    database.writer.close()
    database.reader.close()


def dropped(database: Database, table: str, view: str, left: int) -> None:
    """Wait until the engine has dropped what is too old."""

    def rows() -> int:
        database.command(f"OPTIMIZE TABLE {{db}}.{table} FINAL")
        return database.rows(f"SELECT count() AS n FROM {{db}}.{view}")[0]["n"]

    wait_for(lambda: rows() == left)


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_hours_days_and_destinations_outlive_the_minutes(short: Short):
    dropped(short, "raw_windows_1m", "windows_1m", 0)
    assert [short.view(name) for name in UPPER] == short.before


def test_an_hour_that_lost_minutes_is_not_rolled_up_again(short: Short):
    dropped(short, "raw_windows_1m", "windows_1m", 0)
    short.insert("raw_windows_1m", windows(window(window_start=minute(3), requests=9, last_offset=150)))
    assert short.roll_up() == {"1h": 0, "1d": 0, "1M": 0}
    assert [short.view(name) for name in UPPER] == short.before


def test_events_are_dropped_by_the_time_of_their_message(short: Short):
    dropped(short, "raw_events", "events", 1)
    assert [row["offset"] for row in short.view("events")] == [2]
