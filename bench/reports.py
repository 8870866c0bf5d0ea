"""The reports over 10 million events of a day: each question, and the whole command with its start.

Events of 6,000 pairs (150 workloads, 2,000 hosts, Zipf's law) go into the store as a worker writes them:
windows by the worker's own code, rolled up. A registry with an entry for every fourth host and a residency
policy judges them. `EVENTS` (10,000,000), `ROUNDS` (5; 0 only fills); `FOLDER` keeps the filled store.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl
from parts import cpu_seconds, egresslens, inherited

from egresslens.clickhouse.client import connect
from egresslens.clickhouse.migrate import migrate
from egresslens.clickhouse.retry import Retry
from egresslens.clickhouse.rollup import roll_up
from egresslens.clickhouse.sink import Sink
from egresslens.judge import Judges
from egresslens.record import SCHEMA, TIMESTAMP
from egresslens.registry import store as registry_store
from egresslens.registry.files import read_object
from egresslens.registry.refresh import refresh
from egresslens.registry.value import Registries, Registry
from egresslens.report import REPORTS, Selection, ask, period
from egresslens.settings import Settings, load
from egresslens.store.process import StoreProcess, embedded_store
from egresslens.windows import Windows, keyed
from egresslens.worker.accounts import Account, frame
from traffic import LABELS, PAIRS, Pair, pairs

HOURS = 24
WORKLOADS, NAMESPACES = 150, 20
STREAM = ("epoch", "egress.access-log", 0)
CODES = np.array([200, 200, 200, 200, 200, 200, 201, 204, 304, 404, 503])


def main() -> None:
    # Ended from outside, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rounds = int(os.environ.get("ROUNDS", "5"))
    with filled() as (settings, running):
        if rounds:
            measure(settings, running, rounds)


@contextmanager
def filled() -> Iterator[tuple[Settings, StoreProcess]]:
    """A store in `FOLDER` or a temporary one, filled if nothing is in it yet; says what it holds."""
    with (
        tempfile.TemporaryDirectory(prefix="egresslens-bench-") as temporary,
        embedded_store(Path(os.environ.get("FOLDER", temporary))) as running,
    ):
        settings = load(environment(running))
        _fill_once(settings, int(os.environ.get("EVENTS", "10000000")))
        yield settings, running


def _fill_once(settings: Settings, events: int) -> None:
    with connect(settings, "writer") as writer:
        migrate(writer, settings)
        if not count(writer, settings, "progress"):
            end = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)
            asyncio.run(fill(settings, events, end - timedelta(hours=HOURS)))
            roll_up(writer, settings, datetime.now(timezone.utc))
            judge(writer, settings)
            # What was rolled up counts ten seconds later.
            time.sleep(11)
        for view in ("events", "windows_1m", "windows_1h", "destinations"):
            print(f"{count(writer, settings, view):,} {view}", flush=True)


def count(client: Any, settings: Settings, view: str) -> int:
    """Rows of a view."""
    return int(client.query(f"SELECT count() FROM {settings.database}.{view}").first_row[0])


def measure(settings: Settings, running: StoreProcess, rounds: int) -> None:
    """Print a table: each report in process, and as a command."""
    now = datetime.now(timezone.utc)
    when = period(settings, now - timedelta(hours=HOURS), now, now, exact=False)
    print(f"\nLoad before the start: {os.getloadavg()[0]:.1f}")
    print("\n| report | rows | seconds | CPU of the store | as a command |\n|---|---|---|---|---|")
    for name in REPORTS:
        asked, spent, commands, height = [], [], [], 0
        for _ in range(rounds):
            with connect(settings, "reader") as reader:
                at, cpu = time.monotonic(), cpu_seconds(running.pid)
                height = ask(reader, settings, name, when, Selection()).rows.height
                asked.append(time.monotonic() - at)
                spent.append(cpu_seconds(running.pid) - cpu)
            at = time.monotonic()
            subprocess.run(
                egresslens("report", name, "--since", "24h"),
                env=inherited() | environment(running),
                check=True,
                capture_output=True,
            )
            commands.append(time.monotonic() - at)
        print(f"| {name} | {height:,} | {spread(asked)} | {spread(spent)} | {spread(commands)} |", flush=True)


def spread(seconds: list[float]) -> str:
    """Median, and least to most."""
    return f"{median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def environment(running: StoreProcess) -> dict[str, str]:
    """Settings for this store."""
    return {
        "EGRESSLENS_CLICKHOUSE_URL": running.url,
        "EGRESSLENS_CLICKHOUSE_USER": running.writer[0],
        "EGRESSLENS_CLICKHOUSE_PASSWORD": running.writer[1],
        "EGRESSLENS_CLICKHOUSE_READER_USER": running.reader[0],
        "EGRESSLENS_CLICKHOUSE_READER_PASSWORD": running.reader[1],
    }


async def fill(settings: Settings, events: int, begin: datetime) -> None:
    """Store so many events of the hours from `begin`, evenly spread, and their windows."""
    sink, account = Sink(settings, Retry(print)), Account(*STREAM)
    for number, hour in enumerate(hours(events, begin)):
        windows = Windows(10_000)
        named = keyed(hour)
        windows.load(windows.missing(named), pl.DataFrame())
        await asyncio.gather(
            sink.insert("raw_events", hour), sink.insert("raw_windows_1m", windows.apply(named, 1).rows)
        )
        account.pass_offsets(hour["offset"].to_numpy())
        account.messages += hour.height
        print(f"hour {number + 1} of {HOURS}: {hour.height:,} events", end="\r", flush=True)
    await sink.insert("raw_progress", frame([account], 1))
    await sink.close()


def hours(events: int, begin: datetime) -> Iterator[pl.DataFrame]:
    """The events, one frame (record.SCHEMA) per hour."""
    made = [one for one in pairs(PAIRS) if LABELS[one.label] != "inbound"]
    fixed = pl.DataFrame([of_pair(one) for one in made], infer_schema_length=None)
    weights = 1 / np.arange(3, len(made) + 3)
    weights /= weights.sum()
    numbers, count = np.random.default_rng(1), events // HOURS
    start = int(begin.timestamp() * 1000)
    for hour in range(HOURS):
        moments = np.sort(numbers.integers(0, 3_600_000, count)) + start + hour * 3_600_000
        draws = numbers.integers(0, 60_000, (3, count))
        http = pl.col("protocol").is_not_null()
        blocked = pl.col("label") == "blackhole"
        yield (
            fixed[numbers.choice(len(made), count, p=weights)]
            .with_columns(
                pl.Series("event_time", moments, dtype=pl.Int64).cast(TIMESTAMP),
                pl.Series("duration_ms", draws[0] % 400),
                pl.Series("bytes_sent", draws[1]),
                pl.Series("bytes_received", draws[2] % 3_000),
                pl.Series(
                    "request_id", [f"{one:016x}" for one in numbers.integers(0, 2**63, count).tolist()]
                ),
                pl.when(http)
                .then(pl.when(blocked).then(502).otherwise(pl.Series(CODES[draws[0] % len(CODES)])))
                .otherwise(0)
                .alias("response_code"),
                pl.int_range(hour * count, (hour + 1) * count, dtype=pl.Int64).alias("offset"),
            )
            .with_columns(
                pl.col("event_time").alias("kafka_timestamp"), pl.col("event_time").alias("start_time")
            )
            .with_columns(
                pl.lit(None, dtype).alias(name)
                for name, dtype in SCHEMA.items()
                if name not in (*fixed.columns, *DRAWN)
            )
            .select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
        )


DRAWN = (
    "event_time", "kafka_timestamp", "start_time", "duration_ms", "bytes_sent", "bytes_received",
    "request_id", "response_code", "offset",
)  # fmt: skip


def of_pair(one: Pair) -> dict[str, Any]:
    """What the events of a pair have in common."""
    fixed, label, workload = one.fixed, LABELS[one.label], one.source % WORKLOADS
    host = fixed["authority"] or fixed["sni"]
    return {
        "source_namespace": f"team-{workload % NAMESPACES}",
        "source_workload": f"service-{workload}",
        "source_ip": fixed["pod"],
        "source_region": "eu-west-1",
        "label": label,
        "label_evidence": "route" if fixed["route"] == "block_all" else "cluster",
        "route_name": fixed["route"],
        "upstream_cluster": fixed["cluster"],
        "destination_host": host,
        "destination_host_source": "registry" if label == "outbound" else "authority",
        "destination_port": 443,
        "destination_ip": (fixed["destination"] or "").rpartition(":")[0],
        "mismatch": False,
        "hop": "sidecar",
        "protocol": fixed["protocol"],
        "method": "GET" if fixed["protocol"] else None,
        "path": "/v1/orders" if fixed["protocol"] else None,
        "authority": fixed["authority"],
        "response_flags": ["UH"] if label == "blackhole" else [],
        "format": "istio_json",
        "rules_version": 1,
        "stream_epoch": STREAM[0],
        "topic": STREAM[1],
        "partition": STREAM[2],
        "seq": 0,
    }


def judge(writer: Any, settings: Settings) -> None:
    """Declare every fourth host, where hosts are, and a policy; judge everything by that."""
    hosts = sorted({one.fixed["authority"] or one.fixed["sni"] or "" for one in pairs(PAIRS)} - {""})
    documents = [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"namespace": "net", "name": host},
            "spec": {
                "hosts": [host],
                "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
                "resolution": "DNS",
            },
        }
        for host in hosts[::4]
        if "svc.cluster.local" not in host
    ]
    documents.append(
        {
            "apiVersion": "egresslens/v1",
            "kind": "EgressContext",
            "spec": {
                "hosts": [
                    {"host": "*.example-1.com", "region": "us-east-1"},
                    {"host": "*.example-2.com", "kind": "postgres"},
                    {"host": "*.example-3.com", "region": "eu-west-1"},
                ],
                "residency": [{"name": "eu", "namespaces": ["team-*"], "regions": ["eu-*"]}],
            },
        }
    )
    now = datetime.now(timezone.utc)
    objects = [one for document in documents for one in read_object(document)]
    registry_store.load(writer, settings, Registry.of(objects), now)
    registries = Registries([Registry.of(objects)])
    refresh(writer, settings, registries, Judges(registries), now, everything=True)


if __name__ == "__main__":
    main()
