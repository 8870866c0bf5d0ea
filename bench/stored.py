"""What stored events cost: queries, inserting beside them, and the disk, at 1, 10 and 50 million events.

A worker stores real records first; ClickHouse then copies them (`INSERT ... SELECT`) over the 24 hours
before, evenly, with offsets and request ids of their own and one of 1,000 workloads per source, and counts
the copies' 1-minute windows by the keys that the worker has. Hours are rolled up and destinations judged by
Egresslens itself; questions are asked by its own functions, as `egresslens report` and `events` do.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from statistics import median
from typing import Any

import jobs
from clickhouse_connect.driver.client import Client
from parts import Filled, Parts, check, egresslens, fill, inherited, say

from egresslens.clickhouse import rollup
from egresslens.clickhouse.client import connect
from egresslens.record import DURATION_BOUNDS_MS, MAX_DESTINATION_IPS, WINDOW, WINDOW_KEY
from egresslens.report import Selection, ask, period
from egresslens.report.records import Search, search
from egresslens.settings import Settings, load

BASE = 250_000
COPY = 1_000_000
DAY = timedelta(days=1)
_REPEATS = 9
_TABLES = ("raw_events", "raw_windows_1m", "raw_windows_1h", "raw_windows_1d", "raw_destinations")


def measure(parts: Parts, millions: int) -> dict[str, Any]:
    """Beside so many events: queries (seconds), cost of a record (microseconds), disk (bytes per row)."""
    base, more = fill(parts, BASE), fill(parts, BASE)
    environment = parts.environment(ACCESS_LOG_TOPICS=base.name)
    settings = load(environment)
    with jobs.schema(parts, environment) as client:
        with jobs.workers(parts, environment) as started:
            jobs.work_off(parts, base, client, environment, started)
        began = time.monotonic()
        history = History(client, settings.database, base, millions * 1_000_000)
        history.write()
        wrote = time.monotonic() - began
        began = time.monotonic()
        rolled = rollup.run(settings, datetime.now(timezone.utc))
        roll_up = time.monotonic() - began
        subprocess.run(
            egresslens("registry", "refresh"), env=inherited() | environment, check=True, capture_output=True
        )
        _settle(client)
        found = {
            "millions": millions,
            "history_s": wrote,
            "roll_up_s": roll_up,
            "rolled": rolled,
            "disk": _disk(client, settings.database),
            "queries": _queries(client, settings),
            "record": _record(parts, client, environment, more),
        }
        say(
            f"{millions} million: "
            + ", ".join(f"{n} {q['p50_s'] * 1000:.0f} ms" for n, q in found["queries"].items())
        )
    parts.drop_topics([base.name, more.name])
    return found


@dataclass(frozen=True)
class History:
    """Copies of a topic's events over the day before now, under a topic name of their own."""

    client: Client
    database: str
    base: Filled
    events: int

    def write(self) -> None:
        """Events, windows, and the progress that acknowledges them."""
        copies = round(self.events / sum(self.base.truth().values()))
        length = max(map(len, self.base.labels))
        begin = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0) - DAY
        step = DAY.total_seconds() * 1000 / (length * copies)
        each = max(1, COPY * copies // self.events)
        for first in range(0, copies, each):
            count = min(each, copies - first)
            self._insert(self._events(begin, step, length, first, count))
        for hour in range(24):
            self._insert(self._windows(begin + timedelta(hours=hour)))
        self._insert(
            "raw_progress (stream_epoch, topic, partition, last_offset, messages, records, events, gaps, "
            "rules_version) SELECT any(stream_epoch), 'history', partition, max(offset), count(), count(), "
            f"count(), 0, max(rules_version) FROM {self.database}.raw_events WHERE topic = 'history' "
            "GROUP BY partition"
        )
        sql = "SELECT sum(requests) FROM {0}.{1} WHERE topic = 'history'"
        windows = self.client.query(sql.format(self.database, "raw_windows_1m")).first_row[0]
        stored = self.client.query(
            f"SELECT count() FROM {self.database}.raw_events WHERE topic = 'history'"
        ).first_row[0]
        check({"windows": windows}, {"windows": stored}, "history")

    def _insert(self, statement: str) -> None:
        self.client.command(f"INSERT INTO {self.database}.{statement}")

    def _events(self, begin: datetime, step: float, length: int, first: int, count: int) -> str:
        offset = f"(one.offset + copy * {length})"
        milliseconds = f"toInt64({begin.timestamp() * 1000} + {offset} * {step})"
        moment = f"fromUnixTimestamp64Milli({milliseconds}, 'UTC')"
        return (
            f"raw_events SELECT one.* REPLACE ({moment} AS event_time, {moment} AS start_time, "
            f"{moment} AS kafka_timestamp, 'history' AS topic, {offset} AS offset, "
            "toString(generateUUIDv4(copy)) AS request_id, "
            "concat('ns-', toString(cityHash64(one.source_ip) % 40)) AS source_namespace, "
            "concat('svc-', toString(cityHash64(one.source_ip) % 1000)) AS source_workload) "
            f"FROM {self.database}.raw_events AS one "
            f"CROSS JOIN (SELECT number AS copy FROM numbers({first}, {count})) AS many "
            f"WHERE one.topic = '{self.base.name}'"
        )

    def _windows(self, hour: datetime) -> str:
        keys = [name for name in WINDOW_KEY if name != "window_start"]
        bounds = [*DURATION_BOUNDS_MS, float("inf")]
        buckets = ", ".join(
            f"toInt64(countIf(one.duration_ms > {low} AND one.duration_ms <= {high}))"
            for low, high in zip([-1.0, *bounds[:-1]], bounds, strict=True)
        )
        measures = {
            "requests": "count()",
            "mismatches": "countIf(one.mismatch)",
            "bytes_sent": "sum(ifNull(one.bytes_sent, 0))",
            "bytes_received": "sum(ifNull(one.bytes_received, 0))",
            "duration_ms_sum": "sum(ifNull(one.duration_ms, 0))",
            "duration_ms_max": "max(ifNull(one.duration_ms, 0))",
            "duration_buckets": f"[{buckets}]",
            "destination_ips": (
                "arraySlice(arraySort(groupUniqArray(ifNull(one.destination_ip, ''))), 1, "
                f"{MAX_DESTINATION_IPS})"
            ),
            "first_event": "min(one.event_time)",
            "last_event": "max(one.event_time)",
            "rules_version": "any(one.rules_version)",
            "last_offset": "max(one.offset)",
        }
        chosen = ", ".join(f"{sql} AS {name}" for name, sql in measures.items())
        place = "stream_epoch, topic, partition"
        return (
            f"raw_windows_1m ({', '.join(WINDOW)}) "
            f"SELECT {place}, toStartOfMinute(one.event_time) AS window_start, {', '.join(keys)}, {chosen} "
            f"FROM {self.database}.raw_events AS one WHERE topic = 'history' "
            f"AND one.kafka_timestamp >= fromUnixTimestamp({int(hour.timestamp())}) "
            f"AND one.kafka_timestamp < fromUnixTimestamp({int(hour.timestamp()) + 3600}) "
            f"GROUP BY {place}, window_start, {', '.join(keys)}"
        )


def _settle(client: Client) -> None:
    """Until no merge runs (a minute at most), and roll-ups are used: ten seconds after they were recorded."""
    deadline = time.monotonic() + 60
    time.sleep(11)
    while client.query("SELECT count() FROM system.merges").first_row[0] and time.monotonic() < deadline:
        time.sleep(0.5)


def _disk(client: Client, database: str) -> dict[str, Any]:
    rows = client.query(
        "SELECT table, sum(rows), sum(bytes_on_disk), count() FROM system.parts "
        f"WHERE active AND database = '{database}' AND table IN {_TABLES} GROUP BY table"
    ).result_rows
    return {
        table: {"rows": count, "bytes_per_row": size / count, "parts": parts}
        for table, count, size, parts in rows
    }


def _queries(client: Client, settings: Settings) -> dict[str, Any]:
    now = datetime.now(timezone.utc)
    day = period(settings, now - DAY, now, now, exact=False)
    one = client.query(
        "SELECT request_id, source_namespace, source_workload, destination_host "
        f"FROM {settings.database}.raw_events WHERE topic = 'history' AND label = 'outbound' "
        "ORDER BY cityHash64(offset) LIMIT 1"
    ).first_row
    request_id, namespace, workload, host = one
    reader = connect(settings, "reader")
    everybody, it = Selection(None, None, None, None), Selection(namespace, workload, host, None)
    questions: dict[str, Callable[[], Any]] = {
        "external": partial(ask, reader, settings, "external", day, everybody),
        "databases": partial(ask, reader, settings, "databases", day, everybody),
        "regions": partial(ask, reader, settings, "regions", day, everybody),
        "by request id": partial(search, reader, settings, Search(everybody, request_id=request_id), 50),
        "1,000 of a workload and host": partial(search, reader, settings, Search(it, since=now - DAY), 1_000),
    }
    try:
        return {name: _timed(question) for name, question in questions.items()}
    finally:
        reader.close()


def _timed(question: Callable[[], Any]) -> dict[str, Any]:
    """Seconds, the first (untimed by the median) aside."""
    took = []
    for _ in range(_REPEATS + 1):
        at = time.monotonic()
        answer = question()
        took.append(time.monotonic() - at)
    rows = answer.height if hasattr(answer, "height") else answer.rows.height
    return {"rows": rows, "first_s": took[0], "p50_s": median(took[1:]), "most_s": max(took[1:])}


def _record(parts: Parts, client: Client, environment: dict[str, str], topic: Filled) -> dict[str, float]:
    """What a record of one more topic costs beside all that is stored."""
    environment = environment | {"EGRESSLENS_ACCESS_LOG_TOPICS": topic.name}
    with jobs.workers(parts, environment) as started:
        timing = jobs.work_off(parts, topic, client, environment, started)
    return {
        "rate": timing.rate,
        "cpu_us": timing.cpu_us,
        "store_us": timing.store_us,
    }
