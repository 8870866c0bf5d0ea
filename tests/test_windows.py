"""Windows: absolute rows that any split, replay or second writer leaves the same."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egresslens.record import OTHER, SCHEMA, WINDOW
from egresslens.windows import KEY, PLACE, Windows, keyed

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def record(offset: int, **fields: Any) -> dict[str, Any]:
    return {
        "event_time": START + timedelta(seconds=fields.pop("second", 0)),
        "stream_epoch": "e",
        "topic": "t",
        "partition": 0,
        "offset": offset,
        "seq": 0,
        "source_workload": "web",
        "source_namespace": "shop",
        "label": "outbound",
        "destination_host": "a.example.com",
        "destination_host_source": "registry",
        "destination_port": 443,
        "destination_ip": "192.0.2.1",
        "mismatch": False,
        "hop": "sidecar",
        "protocol": "HTTP/1.1",
        "response_code": 200,
        "bytes_sent": 10,
        "bytes_received": 1,
        "duration_ms": 7,
        **fields,
    }


def frame(records: list[dict[str, Any]]) -> pl.DataFrame:
    return keyed(pl.DataFrame(records, schema=SCHEMA))


class Store:
    """What ClickHouse keeps: for each key the row with the highest `last_offset`."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}

    def write(self, changed: pl.DataFrame) -> None:
        for row in changed.to_dicts():
            key = tuple(row[name] for name in KEY)
            if key not in self.rows or self.rows[key]["last_offset"] <= row["last_offset"]:
                self.rows[key] = row

    def read(self, places: pl.DataFrame) -> pl.DataFrame:
        wanted = set(places.select(PLACE).rows())
        rows = [row for row in self.rows.values() if tuple(row[name] for name in PLACE) in wanted]
        return pl.DataFrame(rows, schema=WINDOW)

    def facts(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        return self.rows


def step(windows: Windows, store: Store, records: list[dict[str, Any]]) -> pl.DataFrame:
    batch = frame(records)
    missing = windows.missing(batch)
    windows.load(missing, store.read(missing))
    # In one order, so that a drawn half of the rows is the same half again.
    return windows.apply(batch, rules_version=1).rows.sort(KEY)


def whole(records: list[dict[str, Any]], cap: int) -> dict[tuple[Any, ...], dict[str, Any]]:
    store = Store()
    store.write(step(Windows(cap), store, records))
    return store.facts()


def test_requests_and_bytes_of_one_key_add_up():
    store = Store()
    store.write(step(Windows(10), store, [record(0), record(1, bytes_sent=5, duration_ms=100)]))
    (row,) = store.rows.values()
    assert (row["requests"], row["bytes_sent"], row["bytes_received"]) == (2, 15, 2)
    assert (row["duration_ms_sum"], row["duration_ms_max"], row["last_offset"]) == (107, 100, 1)


def test_a_duration_on_a_bound_falls_into_the_bucket_below():
    store = Store()
    store.write(step(Windows(10), store, [record(0, duration_ms=5), record(1, duration_ms=6)]))
    (row,) = store.rows.values()
    assert row["duration_buckets"][:4] == [0, 0, 1, 1]
    assert sum(row["duration_buckets"]) == 2


def test_a_record_belongs_to_the_minute_of_its_event_time():
    store = Store()
    store.write(step(Windows(10), store, [record(0, second=59), record(1, second=60)]))
    assert sorted(row["window_start"] for row in store.rows.values()) == [START, START + timedelta(minutes=1)]


def test_a_source_address_is_no_key_where_the_workload_is_known():
    store = Store()
    store.write(step(Windows(10), store, [record(0, source_ip="10.0.0.1"), record(1, source_ip="10.0.0.2")]))
    assert len(store.rows) == 1


def test_a_source_address_is_the_key_where_no_workload_is_known():
    store = Store()
    unknown = {"source_workload": None, "source_namespace": None}
    rows = [record(0, source_ip="10.0.0.1", **unknown), record(1, source_ip="10.0.0.2", **unknown)]
    store.write(step(Windows(10), store, rows))
    assert len(store.rows) == 2


def test_a_late_record_lands_in_its_window_after_eviction():
    store, windows = Store(), Windows(10)
    store.write(step(windows, store, [record(0), record(1, second=120)]))
    windows.evict(windows.turn, keep=0)
    assert len(windows) == 0
    store.write(step(windows, store, [record(2)]))
    row = next(row for row in store.rows.values() if row["window_start"] == START)
    assert row["requests"] == 2


def test_eviction_keeps_what_is_not_stored_yet():
    store, windows = Store(), Windows(10)
    step(windows, store, [record(0)])
    stored = windows.turn
    step(windows, store, [record(1, second=60)])
    windows.evict(stored, keep=0)
    assert len(windows) == 1


def test_destinations_beyond_the_cap_are_counted_as_other():
    store = Store()
    store.write(step(Windows(2), store, [record(i, destination_host=f"h{i}") for i in range(5)]))
    counts = {row["destination_host"]: row["requests"] for row in store.rows.values()}
    assert counts == {"h0": 1, "h1": 1, OTHER: 3}


def test_the_cap_holds_over_many_batches():
    store, windows = Store(), Windows(3)
    for i in range(20):
        store.write(step(windows, store, [record(i, destination_host=f"h{i}")]))
    hosts = {row["destination_host"] for row in store.rows.values()}
    assert hosts == {"h0", "h1", "h2", OTHER}


def test_an_address_list_is_bounded():
    store = Store()
    store.write(step(Windows(2), store, [record(i, destination_ip=f"192.0.2.{i}") for i in range(40)]))
    (row,) = store.rows.values()
    assert row["destination_ips"] == [f"192.0.2.{i}" for i in range(16)]


def test_clear_forgets_everything():
    store, windows = Store(), Windows(2)
    step(windows, store, [record(0)])
    windows.clear()
    assert len(windows) == 0
    assert windows.missing(frame([record(0)])).height == 1


messages = st.lists(
    st.builds(
        dict,
        partition=st.integers(0, 1),
        second=st.sampled_from([0, 10, 61, 130]),
        destination_host=st.sampled_from(["a", "b", "c", "d", None]),
        response_code=st.sampled_from([200, 503]),
        source_workload=st.sampled_from(["web", "api", None]),
        destination_ip=st.sampled_from(["192.0.2.1", "192.0.2.2", None]),
        duration_ms=st.sampled_from([0, 5, 70, None]),
        bytes_sent=st.sampled_from([0, 3, None]),
    ),
    max_size=40,
)


def numbered(fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records with offsets of their own partition, in arrival order."""
    offsets: dict[int, int] = defaultdict(int)
    records = []
    for one in fields:
        records.append(record(offsets[one["partition"]], **dict(one)))
        offsets[one["partition"]] += 1
    return records


@given(messages, st.data(), st.sampled_from([1, 2, 100]))
@settings(max_examples=150, deadline=None)
def test_any_split_into_batches_gives_the_same_rows(fields, data, cap):
    records = numbered(fields)
    store, windows, at = Store(), Windows(cap), 0
    while at < len(records):
        size = data.draw(st.integers(1, len(records) - at))
        store.write(step(windows, store, records[at : at + size]))
        if data.draw(st.booleans()):
            windows.evict(windows.turn, keep=0)
        at += size
    assert store.facts() == whole(records, cap)


@given(messages, st.data(), st.sampled_from([1, 2, 100]))
@settings(max_examples=150, deadline=None)
def test_any_replay_after_a_crash_gives_the_same_rows(fields, data, cap):
    """A worker dies with any part of its last rows stored, and another goes on from an earlier offset."""
    records = [one for one in numbered(fields) if one["partition"] == 0]
    store, windows, committed, at = Store(), Windows(cap), 0, 0
    for _ in range(200):
        if at >= len(records):
            break
        size = data.draw(st.integers(1, len(records) - at))
        changed = step(windows, store, records[at : at + size])
        at += size
        if data.draw(st.booleans()):
            torn = data.draw(st.lists(st.booleans(), min_size=changed.height, max_size=changed.height))
            store.write(changed.filter(pl.Series(torn, dtype=pl.Boolean)))
            windows, at = Windows(cap), data.draw(st.integers(0, committed))
        else:
            store.write(changed)
            committed = at
    else:
        pytest.skip("crashes only")
    assert store.facts() == whole(records, cap)


@given(messages, st.data(), st.sampled_from([1, 100]))
@settings(max_examples=100, deadline=None)
def test_two_workers_that_both_own_a_partition_give_the_same_rows(fields, data, cap):
    """For a moment after a rebalance two workers may write the same partition, each in its own batches."""
    records = [one for one in numbered(fields) if one["partition"] == 0]
    store = Store()
    workers = [[Windows(cap), 0], [Windows(cap), 0]]
    pending: list[pl.DataFrame] = []
    while any(at < len(records) for _, at in workers):
        worker = workers[data.draw(st.integers(0, 1))]
        windows, at = worker
        if at >= len(records):
            continue
        size = data.draw(st.integers(1, len(records) - at))
        pending.append(step(windows, store, records[at : at + size]))
        worker[1] = at + size
        if data.draw(st.booleans()):
            for changed in pending:
                store.write(changed)
            pending = []
    for changed in pending:
        store.write(changed)
    assert store.facts() == whole(records, cap)
