"""The whole chain from messages to rows: no split, crash, replay or second worker changes what is stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from egresslens.clickhouse import frames
from egresslens.kafka.transport import Batch
from egresslens.parse.partials import Partials
from egresslens.record import WINDOW
from egresslens.rules import Rules
from egresslens.windows import KEY, PLACE, Windows
from egresslens.worker import unit
from egresslens.worker.accounts import REASONS, Account
from functional.deployment import istio_json

RULES = Rules(max_destinations=2)
VERSION = 1
NOW = 1_767_323_045_000  # 2026-01-02T03:04:05Z
SPAN = 6
STREAM = ("epoch", "topic", 0)
IDENTITY = ("stream_epoch", "topic", "partition", "offset", "seq", "kafka_timestamp")
# In the order in which a worker stores them: tables of one group at the same time.
ORDER = (("events", "dead_letters"), ("windows",), ("progress",))

Rows = dict[tuple[Any, ...], dict[str, Any]]


class Store:
    """What ClickHouse keeps: of rows with one key the one with the highest version."""

    def __init__(self) -> None:
        self.tables: dict[str, Rows] = {name: {} for group in ORDER for name in group}

    def write(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            key, version = self._place(table, row)
            kept = self.tables[table].get(key)
            if kept is None or self._place(table, kept)[1] <= version:
                self.tables[table][key] = row

    @staticmethod
    def _place(table: str, row: dict[str, Any]) -> tuple[tuple[Any, ...], int]:
        if table in ("windows", "progress"):
            names = KEY if table == "windows" else ("stream_epoch", "topic", "partition")
            return tuple(row[name] for name in names), row["last_offset"]
        return tuple(row[name] for name in IDENTITY), row["rules_version"]

    def account(self) -> Account:
        row = self.tables["progress"].get(STREAM)
        if row is None:
            return Account(*STREAM)
        account = Account(**{name: value for name, value in row.items() if name not in REASONS})
        for name in REASONS:
            getattr(account, name).update({pair["key"]: pair["value"] for pair in row[name]})
        return account

    def windows(self, places: pl.DataFrame) -> pl.DataFrame:
        wanted = set(places.select(PLACE).rows())
        rows = [row for row in self.tables["windows"].values() if tuple(row[one] for one in PLACE) in wanted]
        return pl.DataFrame(rows, schema=WINDOW)


class Worker:
    """A worker on one partition, from its assignment on."""

    def __init__(self, store: Store, log: Sequence[bytes | None], position: int) -> None:
        self.store, self.log, self.position = store, log, position
        self.account = store.account()
        self.partials = Partials(span=SPAN)
        self.windows = Windows(RULES.max_destinations)

    @property
    def done(self) -> bool:
        return self.position >= len(self.log)

    def read(self, size: int) -> tuple[dict[str, list[dict[str, Any]]], int]:
        """Take messages; the rows to store, by table, and the offset that may be committed then."""
        end = min(self.position + size, len(self.log))
        one = unit.run(self.account, self.partials, batch(self.log, self.position, end))
        self.position = end
        prepared = unit.prepare([one], RULES, VERSION)
        missing = self.windows.missing(prepared.windowed)
        self.windows.load(missing, self.store.windows(missing))
        output = unit.apply(prepared, self.windows, VERSION, publish=False)
        tables = {
            "events": frames.rows(frames.EVENTS, output.events),
            "dead_letters": output.dead_letters,
            "windows": output.windows,
            # Maps have no order.
            "progress": output.progress.with_columns(pl.col(REASONS).list.sort()),
        }
        rows = {name: frame.to_dicts() for name, frame in tables.items()}
        return rows, min(end, output.needed.get(("topic", 0), end))


def batch(log: Sequence[bytes | None], start: int, end: int) -> Batch:
    values = list(log[start:end])
    offsets = np.arange(start, end)
    # Each message has a time of its own, as the broker's records have.
    return Batch("topic", 0, 1, offsets, NOW + offsets * 7, values, {}, 0, end)


def whole(log: Sequence[bytes | None]) -> dict[str, Rows]:
    store = Store()
    deliver(store, Worker(store, log, 0).read(len(log))[0])
    return store.tables


def deliver(store: Store, rows: dict[str, list[dict[str, Any]]], kept: Any = None) -> bool:
    """Store a unit; `kept(rows)` gives what of a table is stored before a crash, None for all of it."""
    for group in ORDER:
        crashed = False
        for table in group:
            some = kept(rows[table]) if kept else None
            store.write(table, rows[table] if some is None else some)
            crashed |= some is not None
        if crashed:
            return False
    return True


def line(number: int, **fields: Any) -> bytes:
    return istio_json(number, **{"start_time": "2026-01-02T03:04:00.000Z", **fields})


def part(pod: str, tag: str) -> bytes:
    text = line(1, authority=f"{pod}.example.com").decode()
    text = text[:200] if tag == "P" else text[200:]
    return json.dumps(
        {"log": text, "stream": "stdout", "logtag": tag, "kubernetes": {"pod_name": pod}}
    ).encode()


messages = st.one_of(
    st.builds(
        line,
        st.integers(0, 30),
        start_time=st.sampled_from(
            ["2026-01-02T03:03:59.900Z", "2026-01-02T03:04:00.000Z", "2026-01-01T23:59:59.000Z",
             "2025-11-20T00:00:00.000Z", "2025-08-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z"]
        ),
        downstream_remote_address=st.sampled_from(["10.1.0.1:1", "10.1.0.2:1"]),
        response_code=st.sampled_from([200, 503, "many"]),
    ),
    st.builds(part, st.sampled_from(["a", "b"]), st.sampled_from(["P", "F"])),
    st.builds(line, st.just(1), upstream_cluster=st.just("inbound|80||")),
    st.builds(
        lambda codes: b"[" + b",".join(line(n, response_code=code) for n, code in enumerate(codes)) + b"]",
        st.lists(st.sampled_from([200, "many"]), min_size=1, max_size=3),
    ),
    st.sampled_from([None, b"", b"nonsense", b'{"start_time": "oops']),
)  # fmt: skip
logs = st.lists(messages, min_size=1, max_size=30)


@given(logs, st.data())
@settings(max_examples=30, deadline=None)
def test_any_split_into_units_stores_the_same(log, data):
    store = Store()
    worker = Worker(store, log, 0)
    while not worker.done:
        rows, _ = worker.read(data.draw(st.integers(1, len(log))))
        deliver(store, rows)
        if data.draw(st.booleans()):
            worker.windows.evict(worker.windows.turn, keep=0)
    assert store.tables == whole(log)


@given(logs, st.data())
@settings(max_examples=50, deadline=None)
def test_any_crash_at_any_table_and_replay_from_any_committed_offset_stores_the_same(log, data):
    """A crash may leave any part of any table's rows; the commit may be as old as it likes."""
    store, committed = Store(), 0
    worker = Worker(store, log, 0)

    def kept(rows: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
        if data.draw(st.booleans()):
            return None
        return [row for row in rows if data.draw(st.booleans())]

    crashes = 0
    while not worker.done:
        rows, commit = worker.read(data.draw(st.integers(1, len(log))))
        if crashes < 8 and data.draw(st.booleans()):
            crashes += 1
            if deliver(store, rows, kept):
                committed = max(committed, commit)
            worker = Worker(store, log, data.draw(st.integers(0, committed)))
        else:
            deliver(store, rows)
            committed = max(committed, commit)
    assert store.tables == whole(log)


@given(logs, st.data())
@settings(max_examples=50, deadline=None)
def test_two_workers_that_both_own_a_partition_store_the_same(log, data):
    """One of them has lost the partition and does not know it; its rows come whenever they come.

    A worker begins to store a unit when the one before it is acknowledged. So rows come late either a second
    time (an insert that timed out, and was sent again), or as the last thing its worker does.
    """
    store = Store()
    workers = [Worker(store, log, 0), Worker(store, log, 0)]
    late: list[dict[str, list[dict[str, Any]]]] = []
    committed = 0
    joined = stuck = False
    while not workers[joined].done:
        if not joined and (stuck or data.draw(st.booleans())):
            # The second one begins where the first has committed, with what is stored by then.
            workers[1], joined = Worker(store, log, committed), True
        first = not stuck and not workers[0].done and not (joined and data.draw(st.booleans()))
        worker = workers[0 if first else 1]
        rows, commit = worker.read(data.draw(st.integers(1, len(log))))
        if first and data.draw(st.booleans()):
            late.append(rows)
            stuck = data.draw(st.booleans())
            if stuck:
                continue
        deliver(store, rows)
        # The broker refuses the commits of a worker that has lost its partition.
        committed = max(committed, commit) if worker is workers[joined] else committed
    for rows in late:
        deliver(store, rows)
    assert store.tables == whole(log)
