"""What alerts ask of a real engine, and what they keep there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import clickhouse_rows
from clickhouse_rows import HOUR, NOW, Database, database, migrated, progress, windows
from egresslens.alerts import history
from egresslens.alerts.book import Book, Hit, Incident, Subject
from egresslens.alerts.detect import FirstSeen

__all__ = ["database", "migrated"]

pytestmark = pytest.mark.functional

CART = Subject("prod", "shop", "cart", None, "api.example.com", 443)


def window(**given: Any) -> dict[str, Any]:
    return clickhouse_rows.window(
        **{
            "source_namespace": "shop",
            "source_workload": "cart",
            "destination_host": "api.example.com",
            "destination_ips": [],
            **given,
        }
    )


def see(database: Database, *rows: dict[str, Any]) -> None:
    database.insert("raw_windows_1m", windows(*({**row, "last_offset": at} for at, row in enumerate(rows))))
    database.insert("raw_progress", progress(len(rows)))


def test_a_volume_is_compared_with_the_busiest_hour_before(database: Database):
    minute = HOUR + timedelta(days=2)
    see(
        database,
        *(
            window(window_start=HOUR + timedelta(hours=one), bytes_received=1_000_000 * (one + 1))
            for one in range(5)
        ),
        window(window_start=minute, bytes_received=30_000_000),
        window(window_start=minute, bytes_received=10_000_000, destination_host="b.example.com"),
        window(window_start=minute, bytes_received=99_000_000, label="blackhole"),
        window(window_start=minute, bytes_received=99_000_000, hop="gateway"),
        window(window_start=minute, bytes_received=5_000, source_workload="quiet"),
    )
    [found] = history.volumes(database.writer, database.settings, minute, minute + timedelta(minutes=1))
    assert found.subject == Subject("prod", "shop", "cart")
    assert (found.minute, found.bytes) == (minute, 40_000_000)
    assert (found.busiest_hour, found.hours) == (5_000_000, 5)


def test_a_volume_without_history_has_no_busiest_hour(database: Database):
    see(database, window(bytes_received=30_000_000))
    [found] = history.volumes(database.writer, database.settings, HOUR, HOUR + timedelta(minutes=1))
    assert (found.busiest_hour, found.hours) == (0, 0)


def test_first_seen_knows_the_caller_and_the_destination(database: Database):
    see(
        database,
        window(destination_host="old.example.com"),
        window(window_start=HOUR + timedelta(hours=5)),
        window(window_start=HOUR - timedelta(hours=5), label="blackhole", destination_host="evil.example"),
    )
    other = CART._replace(destination_host="new.example.com")
    stranger = CART._replace(source_workload="x' OR 1 = 1 --")
    assert history.first_seen(database.writer, database.settings, {CART, other, stranger}) == {
        CART: FirstSeen(HOUR, HOUR + timedelta(hours=5)),
        other: FirstSeen(HOUR, None),
        stranger: FirstSeen(None, None),
    }


def hit(offset: int, count: int) -> Hit:
    return Hit(
        "blackhole", "blackhole", "critical", False, CART, HOUR, "row", offset, count, HOUR, HOUR, "tried",
        {"a": "b"},
    )  # fmt: skip


def load(database: Database) -> list[Incident]:
    found, _ = history.load(database.writer, database.settings, NOW, lambda _: True)
    return found


def test_incidents_are_read_as_they_were_kept(database: Database):
    book = Book(60)
    book.apply([hit(5, 3)], NOW)
    book.tell([(one.id, "webhook", "firing") for one in book])
    changed = book.changed()
    history.save(database.writer, database.settings, changed, NOW)
    assert load(database) == changed
    assert history.existing(database.writer, database.settings, [changed[0].id, "other"]) == {changed[0].id}


def test_a_restored_book_counts_on_where_it_was(database: Database):
    book = Book(60)
    book.apply([hit(5, 3)], NOW)
    history.save(database.writer, database.settings, book.changed(), NOW)
    again = Book(60)
    again.restore(load(database))
    again.apply([hit(5, 3), hit(9, 4)], NOW)
    assert [one.count for one in again] == [4]


def test_only_the_last_state_counts_and_it_is_one_row(database: Database):
    book = Book(60)
    book.apply([hit(5, 3)], NOW)
    history.save(database.writer, database.settings, book.changed(), NOW)
    book.resolve({}, NOW)
    history.save(database.writer, database.settings, book.changed(), NOW + timedelta(milliseconds=1))
    [row] = database.view("alerts")
    assert (row["state"], row["count"], row["destination_host"]) == ("resolved", 3, "api.example.com")


def test_what_ended_long_ago_is_not_read(database: Database):
    book = Book(60)
    book.apply([hit(5, 3)], NOW)
    book.resolve({}, NOW)
    history.save(database.writer, database.settings, book.changed(), NOW - timedelta(days=2))
    assert load(database) == []
