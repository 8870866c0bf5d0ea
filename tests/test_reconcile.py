"""Reconcile's comparisons, without a server."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from egresslens.cli.reconcile import _text
from egresslens.reconcile import (
    Account,
    Minute,
    Place,
    Report,
    Stream,
    Total,
    accounts_differ,
    minutes_differ,
    offsets_differ,
    totals_differ,
)

STREAM = Stream("epoch", "topic", 3)
NOON = datetime(2026, 1, 2, 12, 0, tzinfo=timezone.utc)
GOOD = Account(
    first_offset=10,
    last_offset=109,
    messages=95,
    messages_with_records=80,
    messages_filtered=10,
    messages_rejected=5,
    records=120,
    events=100,
    gaps=5,
    past_retention={"events": 20, "windows_1m": 2},
)
ACCOUNTS = {STREAM: GOOD}


def checks(differences) -> list[tuple[str, int, int]]:
    return [(one.check, one.expected, one.found) for one in differences]


def test_an_account_that_adds_up_has_no_difference():
    assert accounts_differ(ACCOUNTS) == []


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"messages_filtered": 9}, ("messages", 95, 94)),
        ({"gaps": 4}, ("offsets", 100, 99)),
        ({"events": 99}, ("records", 100, 99)),
    ],
)
def test_an_account_that_does_not_add_up_is_named(change, difference):
    assert checks(accounts_differ({STREAM: replace(GOOD, **change)})) == [difference]


def minute(requests: int, events: int, newest: int = 50, extra_bytes: int = 0) -> Minute:
    return Minute(STREAM, NOON, requests, events, 1000 + extra_bytes, 1000, newest)


def test_a_minute_with_fewer_requests_than_events_is_a_difference():
    found, writing = minutes_differ([minute(requests=3, events=4)], ACCOUNTS)
    assert checks(found) == [("minute", 4, 3)]
    assert "2026-01-02T12:00Z" in found[0].text
    assert writing == []


def test_a_minute_with_other_bytes_is_a_difference():
    assert checks(minutes_differ([minute(3, 3, extra_bytes=7)], ACCOUNTS)[0]) == [
        ("minute_bytes", 1000, 1007)
    ]


def test_a_minute_with_rows_beyond_the_progress_is_being_written():
    found, writing = minutes_differ([minute(3, 4, newest=110)], ACCOUNTS)
    assert (found, len(writing)) == ([], 1)


def test_a_minute_of_a_stream_without_progress_is_being_written():
    found, writing = minutes_differ([minute(3, 4)], {})
    assert (found, len(writing)) == ([], 1)


def test_records_and_requests_of_all_tiers_are_equal():
    assert totals_differ({STREAM: Total(118)}, ACCOUNTS, purged=False) == []


def test_minutes_that_are_being_written_count_with_their_events():
    assert totals_differ({STREAM: Total(100, {NOON: 18})}, ACCOUNTS, purged=False) == []
    assert checks(totals_differ({STREAM: Total(100, {NOON: 17})}, ACCOUNTS, purged=False)) == [
        ("total", 118, 117)
    ]


def test_a_minute_whose_events_may_be_gone_leaves_the_total_open():
    assert totals_differ({STREAM: Total(100, {NOON: -1})}, ACCOUNTS, purged=False) == []


def test_a_stream_without_any_window_is_a_difference():
    assert checks(totals_differ({}, ACCOUNTS, purged=False)) == [("total", 118, 0)]


def test_after_a_purge_a_total_may_be_less_but_never_more():
    assert totals_differ({STREAM: Total(90)}, ACCOUNTS, purged=True) == []
    assert checks(totals_differ({STREAM: Total(119)}, ACCOUNTS, purged=True)) == [("total", 118, 119)]


@pytest.mark.parametrize("committed", [None, 10, 110])
def test_what_is_committed_up_to_the_progress_is_right(committed):
    assert offsets_differ({STREAM: Place(committed, 0, 200)}, ACCOUNTS) == ([], [])


def test_a_commit_beyond_the_progress_is_a_difference():
    found, _ = offsets_differ({STREAM: Place(112, 0, 200)}, ACCOUNTS)
    assert checks(found) == [("committed", 110, 112)]


def test_a_commit_without_any_progress_is_a_difference():
    found, _ = offsets_differ({STREAM: Place(112, 5, 200)}, {})
    assert checks(found) == [("committed", 5, 112)]


def test_a_log_that_ends_before_the_progress_is_a_difference():
    assert checks(offsets_differ({STREAM: Place(50, 0, 60)}, ACCOUNTS)[0]) == [("end", 110, 60)]


def test_what_retention_removes_before_it_is_read_is_a_note():
    found, notes = offsets_differ({STREAM: Place(110, 150, 200)}, ACCOUNTS)
    assert found == []
    (note,) = notes
    assert note.startswith("topic/3: retention has removed offsets 110 to 149 before they were read")


def test_the_text_says_where_and_how_much():
    differences = totals_differ({STREAM: Total(100)}, ACCOUNTS, purged=False)
    said = _text(Report(1, 95, 120, 60, 0, 0, [], differences))
    assert "topic/3 (epoch): records, less those past the windows' retention = requests in all tiers" in said
    assert "expected 118, found 100 (-18)" in said
    assert said.endswith("1 differences")
