"""Whatever a message says, the real engine takes what becomes of it: the rest is a dead letter before."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from access_lines import text
from clickhouse_rows import Database, database, migrated
from egresslens.clickhouse.retry import Retry
from egresslens.clickhouse.sink import Sink
from egresslens.kafka.transport import Batch
from egresslens.parse.partials import Partials
from egresslens.record import WINDOW
from egresslens.rules import Rules
from egresslens.windows import Windows
from egresslens.worker import unit
from egresslens.worker.accounts import Account
from functional.deployment import istio_json

__all__ = ["database", "migrated"]

pytestmark = pytest.mark.functional

NOW = 1_767_323_045_000
# Milliseconds around the ends of ClickHouse's DateTime (2106), Date (2149), DateTime64 (2299), of four-digit
# years, and of what 64 bits hold.
STAMPS = [
    -(2**63), -5, -1, 0, 1, NOW, 4_102_444_799_999, 4_102_444_800_000, 4_294_967_296_000, 5_662_310_400_000,
    10_413_792_000_000, 253_402_300_800_000, 2**53, 2**63 - 1,
]  # fmt: skip
TIMES = [
    "0001-01-01T00:00:00.000Z", "1899-12-31T00:00:00.000Z", "1969-12-31T23:59:59.000Z",
    "2026-01-02T03:04:05.000Z", "2099-12-31T23:59:59.000Z", "2106-02-07T06:28:16.000Z",
    "2300-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z", None, "nonsense",
]  # fmt: skip
ODD = [
    "a\x00b", "x" * 200_000, "\u202e", "\U0010ffff", "\uffff", "", "-", 2**63 - 1, 2**63, -(2**63), 2**31, -1,
    1e308, 1.5, True, [1, 2], {"a": 1},
]  # fmt: skip
BYTES = [
    b"", None, b"\xff\xfe", b"\x00" * 10, b"{", b"[1]" * 10, b'"\xed\xa0\x80"', b'"\\ud800"',
    istio_json(1).replace(b"GET", b"G\xffT"), istio_json(1).replace(b"GET", b"G\\ud800T"),
    b"```\n...", b"{\\", text().encode() + b" x" * 1000, f'"{text()[:-1]}\\ud800"'.encode(),
    istio_json(1) + b"\n" + istio_json(2), b"[" + b",".join(istio_json(one) for one in range(50)) + b"]",
]  # fmt: skip


def messages() -> list[tuple[int, bytes | None]]:
    """Times of the Kafka record, and messages."""
    odd = [istio_json(1, **{name: value}) for name in json.loads(istio_json(1)) for value in ODD]
    return [
        *((stamp, istio_json(1, start_time=time)) for stamp, time in itertools.product(STAMPS, TIMES)),
        *((stamp, value) for stamp, value in itertools.product((NOW, -1, 2**62), [*odd, *BYTES])),
    ]


def stored(database: Database, given: list[tuple[int, bytes | None]]) -> dict[str, Any]:
    """Read messages, and store what becomes of them as a worker does; the partition's progress."""
    batch = Batch(
        "topic", 0, 1, np.arange(len(given)), np.array([stamp for stamp, _ in given], np.int64),
        [value for _, value in given], {}, 0, len(given),
    )  # fmt: skip
    prepared = unit.prepare([unit.run(Account("epoch", "topic", 0), Partials(), batch)], Rules(), 1)
    windows = Windows(1_000)
    windows.load(windows.missing(prepared.windowed), pl.DataFrame(schema=WINDOW))
    output = unit.apply(prepared, windows, 1, publish=True)

    async def insert() -> None:
        sink = Sink(database.settings, Retry(lambda failure: pytest.fail(str(failure))))
        try:
            for table, frame in (
                ("raw_events", output.events),
                ("raw_dead_letters", output.dead_letters),
                ("raw_windows_1m", output.windows),
                ("raw_progress", output.progress),
            ):
                assert (await sink.insert(table, frame)).is_empty()
        finally:
            await sink.close()

    asyncio.run(insert())
    [progress] = output.progress.to_dicts()
    return progress


def test_every_message_is_stored_or_a_dead_letter_and_is_read_back_as_it_was(database: Database):
    for table in ("raw_events", "raw_windows_1m", "raw_changed_hours", "raw_dead_letters"):
        database.command(f"ALTER TABLE {{db}}.{table} REMOVE TTL")
    given = messages()
    progress = stored(database, given)
    assert progress["messages"] == len(given)
    assert progress["messages_with_records"] > 0
    assert progress["messages_rejected"] > 0
    [row] = database.rows(
        "SELECT count() AS events, min(event_time) AS first, max(event_time) AS last FROM {db}.events"
    )
    assert row["events"] == progress["events"]
    assert (row["first"].year, row["last"].year) == (1970, 2099)
    [row] = database.rows(
        "SELECT sum(requests) AS requests, min(window_start) AS first, max(window_start) AS last "
        "FROM {db}.windows_1m"
    )
    assert (row["requests"], row["first"].year, row["last"].year) == (progress["records"], 1970, 2099)
