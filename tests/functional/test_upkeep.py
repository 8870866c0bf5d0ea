"""Judgements kept up by workers, beside others who judge and declare."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from clickhouse_rows import NOW, Database, database, migrated, progress, window, windows
from egresslens.clickhouse.client import connect
from egresslens.judge import Judges
from egresslens.registry import store
from egresslens.registry.refresh import Refreshed, refresh
from egresslens.registry.upkeep import SETTLED, Upkeep
from registries import entry, registry

__all__ = ["database", "migrated"]

pytestmark = pytest.mark.functional

LONG_AGO = NOW - timedelta(days=1)
NOTHING = Refreshed(0, 0, 0)


def see(database: Database, *hosts: str) -> None:
    start = NOW.replace(second=0, microsecond=0)
    rows = [window(window_start=start, destination_host=host, destination_ips=[]) for host in hosts]
    database.insert("raw_windows_1m", windows(*({**row, "last_offset": at} for at, row in enumerate(rows))))
    database.insert("raw_progress", progress(len(rows)))


def entries(database: Database) -> dict[str, str | None]:
    rows = database.rows("SELECT destination_host, service_entry FROM {db}.windows_1d")
    return {row["destination_host"]: row["service_entry"] for row in rows}


def declare(database: Database, *hosts: str, at=LONG_AGO) -> None:
    given = registry(*(entry(f"net/{host.partition('.')[0]}", host) for host in hosts))
    store.load(database.writer, database.settings, given, at)


def test_what_was_seen_is_judged_once(database: Database):
    declare(database, "api.example.com")
    see(database, "api.example.com", "other.example.com")
    upkeep = Upkeep()
    assert upkeep.look(database.writer, database.settings, NOW).destinations == 2
    assert entries(database) == {"api.example.com": "net/api", "other.example.com": None}
    assert upkeep.look(database.writer, database.settings, NOW) == NOTHING


def test_without_any_registry_what_was_seen_is_judged_as_well(database: Database):
    see(database, "other.example.com")
    assert Upkeep().look(database.writer, database.settings, NOW).destinations == 1


def test_a_registry_that_just_changed_is_left_to_whoever_changed_it(database: Database):
    declare(database, "api.example.com", at=NOW)
    see(database, "api.example.com")
    upkeep = Upkeep()
    assert upkeep.look(database.writer, database.settings, NOW + SETTLED / 2) == NOTHING
    assert upkeep.look(database.writer, database.settings, NOW + SETTLED).destinations == 1


def test_a_changed_registry_is_read_again_and_everything_judged_by_it(database: Database):
    declare(database, "api.example.com")
    see(database, "api.example.com", "new.example.com")
    upkeep = Upkeep()
    upkeep.look(database.writer, database.settings, NOW)
    declare(database, "api.example.com", "new.example.com", at=NOW)
    assert upkeep.look(database.writer, database.settings, NOW + SETTLED).destinations == 2
    assert entries(database) == {"api.example.com": "net/api", "new.example.com": "net/new"}
    assert upkeep.look(database.writer, database.settings, NOW + 2 * SETTLED) == NOTHING


def test_what_a_worker_judged_by_the_old_registry_is_judged_by_one_that_was_just_stored(database: Database):
    see(database, "api.example.com")
    Upkeep().look(database.writer, database.settings, NOW)
    # It was being stored while the worker judged, and is dated a moment before.
    declare(database, "api.example.com", at=NOW - timedelta(seconds=5))
    stored = store.read(database.reader, database.settings)
    refresh(database.writer, database.settings, stored, Judges(stored), NOW, everything=False)
    assert entries(database) == {"api.example.com": "net/api"}


def test_workers_that_judge_at_once_agree(database: Database):
    declare(database, "api.example.com")
    see(database, *(f"host-{number}.example.com" for number in range(50)), "api.example.com")
    writers = [connect(database.settings, "writer") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda writer: Upkeep().look(writer, database.settings, NOW), writers))
    found = entries(database)
    assert len(found) == 51
    assert [host for host, name in found.items() if name] == ["api.example.com"]
    assert Upkeep().look(database.writer, database.settings, NOW) == NOTHING
    for writer in writers:
        writer.close()
