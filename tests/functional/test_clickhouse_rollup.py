"""Rolled up or not, late or not, twice or not: the views of hours, days and destinations tell the truth."""

import random
import threading
import time
from collections import Counter
from datetime import timedelta

import pytest

from clickhouse_rows import (
    FAR,
    HOUR,
    Database,
    database,
    migrated,
    minute,
    progress,
    window,
    windows,
)
from egresslens.clickhouse.client import connect
from egresslens.clickhouse.rollup import roll_up, run

__all__ = ["database", "migrated"]

pytestmark = pytest.mark.functional

VIEWS = ("windows_1h", "windows_1d", "destinations")


def views(database: Database) -> list[object]:
    return [database.view(name) for name in VIEWS]


def requests(database: Database) -> list[int]:
    return [sum(row["requests"] for row in database.view(name)) for name in VIEWS]


@pytest.fixture
def full(database: Database) -> Database:
    """Three hours of two workloads on two Kafka partitions, acknowledged up to offset 200."""
    database.insert(
        "raw_windows_1m",
        windows(
            *(
                window(
                    window_start=minute(n),
                    partition=n % 2,
                    source_workload=workload,
                    requests=n + 1,
                    last_offset=n,
                    destination_ips=[f"10.0.0.{n % 7}"],
                )
                for n in range(180)
                for workload in ("idgen", None)
            )
        ),
    )
    database.insert("raw_progress", progress(200), progress(200, partition=1))
    return database


def test_rolling_up_changes_no_view(full: Database):
    before = views(full)
    assert full.roll_up() == {"1h": 6, "1d": 2, "1M": 2}
    assert views(full) == before


def test_what_is_rolled_up_outlives_its_minutes(full: Database):
    before = views(full)
    full.roll_up()
    for table in ("raw_windows_1m", "raw_changed_hours"):
        full.command(f"TRUNCATE TABLE {{db}}.{table}")
    assert views(full) == before


def test_days_outlive_their_hours_and_destinations_their_days(full: Database):
    _, days, destinations = views(full)
    full.roll_up()
    for table in ("raw_windows_1m", "raw_changed_hours", "raw_windows_1h"):
        full.command(f"TRUNCATE TABLE {{db}}.{table}")
    assert views(full) == [[], days, destinations]
    full.command("TRUNCATE TABLE {db}.raw_windows_1d")
    assert views(full) == [[], [], destinations]


def test_rolling_up_again_does_nothing(full: Database):
    full.roll_up()
    assert full.roll_up() == {"1h": 0, "1d": 0, "1M": 0}


def test_a_late_minute_shows_at_once_and_rolls_up_again(full: Database):
    full.roll_up()
    before = requests(full)
    late = windows(window(window_start=minute(30), requests=1_000, last_offset=201, destination_host="late"))
    full.insert("raw_windows_1m", late)
    assert requests(full) == [count + 1_000 for count in before]
    full.insert("raw_progress", progress(201))
    shown = views(full)
    assert full.roll_up() == {"1h": 1, "1d": 1, "1M": 1}
    assert views(full) == shown


def test_a_changed_minute_is_not_counted_twice(full: Database):
    full.roll_up()
    before = requests(full)
    changed = window(window_start=minute(2), requests=13, last_offset=201)
    full.insert("raw_windows_1m", windows(changed))
    assert requests(full) == [count + 10 for count in before]


def test_rewriting_what_is_there_leaves_the_roll_up_in_use(full: Database):
    full.roll_up()
    full.insert("raw_windows_1m", windows(window(window_start=minute(2), requests=3, last_offset=2)))
    assert full.roll_up() == {"1h": 0, "1d": 0, "1M": 0}


def test_what_is_not_acknowledged_is_not_rolled_up(full: Database):
    full.insert("raw_windows_1m", windows(window(window_start=minute(1), last_offset=900)))
    assert full.roll_up()["1h"] == 5


def test_an_hour_that_is_not_over_is_not_rolled_up(full: Database):
    assert full.roll_up(HOUR + timedelta(hours=2, minutes=59)) == {"1h": 4, "1d": 0, "1M": 0}


def test_a_withdrawn_row_leaves_the_rolled_up_tiers_as_well(full: Database):
    full.roll_up()
    hours = [
        window(
            window_start=minute(n),
            partition=n % 2,
            requests=0,
            rules_version=2,
            last_offset=200,
            destination_ips=[],
        )
        for n in range(180)
    ]
    full.insert("raw_windows_1m", windows(*hours))
    full.insert("raw_progress", progress(201, rules_version=2), progress(201, partition=1, rules_version=2))
    assert all(row["source_workload"] is None for view in views(full) for row in view)
    full.roll_up()
    assert all(row["source_workload"] is None for view in views(full) for row in view)


def test_a_roll_up_counts_only_ten_seconds_after_it_was_recorded(full: Database):
    before = views(full)
    roll_up(full.writer, full.settings, FAR)
    full.command("TRUNCATE TABLE {db}.raw_windows_1h")
    assert views(full)[:1] == before[:1]


def test_it_runs_with_a_connection_of_its_own(full: Database):
    assert run(full.settings, FAR) == {"1h": 6, "1d": 2, "1M": 2}


class Traffic:
    """A writer, roll-ups and readers beside each other, until a deadline."""

    def __init__(self, database: Database, seconds: float) -> None:
        self.database = database
        self.deadline = time.monotonic() + seconds
        self.sent = self.acknowledged = 0
        self.wrong: list[tuple[str, int, int, int]] = []

    def write(self) -> None:
        chance, counts, offset = random.Random(1), Counter[tuple[int, str]](), 0
        while time.monotonic() < self.deadline:
            hour = chance.randrange(60)
            changed = {}
            for _ in range(20):
                key = (hour * 60 + chance.randrange(60), chance.choice("abc"))
                offset += 1
                counts[key] += 1
                changed[key] = window(
                    window_start=minute(key[0]),
                    destination_host=key[1],
                    requests=counts[key],
                    last_offset=offset,
                )
            self.sent += 20
            self.database.insert("raw_windows_1m", windows(*changed.values()))
            self.database.insert("raw_progress", progress(offset))
            self.acknowledged += 20

    def roll(self) -> None:
        client = connect(self.database.settings, "writer")
        while time.monotonic() < self.deadline:
            roll_up(client, self.database.settings, FAR)
        client.close()

    def read(self, view: str) -> None:
        client = connect(self.database.settings, "reader")
        query = f"SELECT sum(requests) FROM {self.database.settings.database}.{view}"
        last = 0
        while time.monotonic() < self.deadline:
            least = max(last, self.acknowledged)
            last = client.query(query).result_rows[0][0]
            if not least <= last <= self.sent:
                self.wrong.append((view, least, last, self.sent))
        client.close()


def test_no_read_goes_back_or_ahead_while_windows_are_written_and_rolled_up(database: Database):
    traffic = Traffic(database, seconds=16)
    threads = [threading.Thread(target=run) for run in (traffic.write, traffic.roll, traffic.roll)]
    threads += [threading.Thread(target=traffic.read, args=(view,)) for view in VIEWS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert traffic.wrong == []
    used = "SELECT count() AS n FROM {db}.raw_hours WHERE changed = settled"
    assert database.rows(used)[0]["n"] > 0
