"""Outages of ClickHouse and Kafka: tried for ever, consumption paused, memory bounded, no restart needed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import require_kafka
from egresslens.clickhouse.client import connect
from egresslens.kafka.broker import Broker, embedded_broker
from egresslens.store.process import StoreProcess, embedded_store
from functional.deployment import Deploy, Deployment, WorkerProcess, deploy, deployments, istio_json, until
from functional.faulty import Fault, faulty
from functional.store_fixture import require_chdb

pytestmark = pytest.mark.functional

# What an operator sees -> the reason in the log, how to provoke it, how to mend it.
TROUBLES = {
    "a read-only table": (
        "read_only",
        "ALTER TABLE {db}.raw_progress MODIFY SETTING table_readonly = 1",
        "ALTER TABLE {db}.raw_progress MODIFY SETTING table_readonly = 0",
    ),
    "a schema that is behind": (
        "schema",
        "ALTER TABLE {db}.raw_events DROP COLUMN damage",
        "ALTER TABLE {db}.raw_events ADD COLUMN damage LowCardinality(Nullable(String)) AFTER format",
    ),
    "a table that is gone": (
        "schema",
        "RENAME TABLE {db}.raw_windows_1m TO {db}.elsewhere",
        "RENAME TABLE {db}.elsewhere TO {db}.raw_windows_1m",
    ),
}
# What the embedded engine never answers, word for word as ClickHouse does -> the reason in the log.
FAULTS = {
    "too many parts": (
        "too_many_parts",
        Fault(
            "raw_events",
            252,
            "Too many parts (3001). Merges are processing significantly slower than inserts.",
        ),
    ),
    "a full disk": (
        "disk_full",
        Fault("raw_windows_1m", 243, "Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)"),
    ),
    "a read-only replica": (
        "read_only",
        Fault("raw_events", 242, "Table is in readonly mode (replica path: /r). (TABLE_IS_READ_ONLY)"),
    ),
    "no quorum": (
        "replication",
        Fault("raw_progress", 285, "Number of alive replicas (1) is less than requested quorum (2/3)."),
    ),
    "an answer that is lost": ("unreachable", Fault("raw_windows_1m", 0)),
}
# Too much at once: halved until it fits.
TOO_MUCH = {
    "memory": Fault("raw_events", 241, "Query memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)", 150_000),
    "partitions": Fault(
        "raw_events", 252, "Too many partitions for single INSERT block (more than 100).", 150_000
    ),
}


@pytest.fixture
def deployment(broker: Broker, store: StoreProcess, tmp_path: Path) -> Iterator[Deploy]:
    yield from deployments(broker.bootstrap, store, tmp_path)


def run(one: Deployment, statement: str) -> None:
    writer = connect(one.settings, "writer")
    writer.command(statement.replace("{db}", one.settings.database))
    writer.close()


def lines(count: int, start: int = 0) -> list[bytes | None]:
    return [istio_json(number) for number in range(start, start + count)]


def all_there(one: Deployment, count: int) -> None:
    one.wait_for_messages(count)
    assert one.value("SELECT count() FROM {db}.events") == count
    for tier in ("1m", "1h", "1d"):
        assert one.value(f"SELECT sum(requests) FROM {{db}}.windows_{tier}") == count
    assert one.value("SELECT sum(events) FROM {db}.progress") == count


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_worker_waits_out(deployment, trouble):
    reason, provoke, mend = TROUBLES[trouble]
    one = deployment()
    worker = one.start_worker()
    worker.wait_ready()
    one.produce(lines(400))
    all_there(one, 400)
    run(one, provoke)
    one.produce(lines(400, start=400))
    until(lambda: worker.metric("egresslens_outage"), "the outage is reported")
    until(lambda: worker.metric("egresslens_retries_total") >= 3, "it is tried again")
    assert worker.get("/readyz")[0] == 503
    assert worker.get("/healthz")[0] == 200
    assert f"trying for ever: {reason}" in worker.log.read_text()
    assert one.value("SELECT sum(messages) FROM {db}.progress") == 400
    run(one, mend)
    all_there(one, 800)
    until(lambda: worker.get("/readyz")[0] == 200, "the worker is ready again")
    assert worker.child.poll() is None


@pytest.mark.parametrize("name", FAULTS)
def test_the_worker_waits_until_clickhouse_takes_rows_again(deployment, name):
    reason, fault = FAULTS[name]
    one = deployment()
    with faulty(one.settings.clickhouse_url) as proxy:
        worker = one.start_worker(EGRESSLENS_CLICKHOUSE_URL=proxy.url)
        worker.wait_ready()
        proxy.fault = fault
        one.produce(lines(400))
        until(lambda: proxy.hits >= 3, "it is tried again")
        until(lambda: worker.metric("egresslens_outage"), "the outage is reported")
        assert worker.get("/readyz")[0] == 503
        assert f"trying for ever: {reason}" in worker.log.read_text()
        assert not one.value("SELECT sum(messages) FROM {db}.progress")
        proxy.fault = None
        all_there(one, 400)
        assert worker.stop() == 0


@pytest.mark.parametrize("name", TOO_MUCH)
def test_an_insert_that_is_too_much_is_halved_until_it_fits(deployment, name):
    one = deployment()
    with faulty(one.settings.clickhouse_url) as proxy:
        proxy.fault = TOO_MUCH[name]
        worker = one.start_worker(EGRESSLENS_CLICKHOUSE_URL=proxy.url)
        one.produce(lines(2_000))
        all_there(one, 2_000)
        assert proxy.hits > 0
        assert worker.metric("egresslens_outage") == 0
        assert worker.stop() == 0


@contextmanager
def own_store(broker: Broker, folder: Path, **extra: str) -> Iterator[tuple[StoreProcess, Deployment]]:
    require_chdb()
    with embedded_store(folder / "store") as store:
        one = deploy(broker.bootstrap, store.url, store.writer, store.reader, folder, **extra)
        yield store, one
        one.stop()


def test_a_store_that_does_not_answer_is_waited_for(broker, tmp_path):
    with own_store(broker, tmp_path, CLICKHOUSE_TIMEOUT_S="2") as (store, one):
        worker = one.start_worker()
        worker.wait_ready()
        one.produce(lines(400))
        all_there(one, 400)
        os.kill(store.pid, signal.SIGSTOP)
        try:
            one.produce(lines(400, start=400))
            until(lambda: worker.metric("egresslens_outage"), "the outage is reported")
        finally:
            os.kill(store.pid, signal.SIGCONT)
        all_there(one, 800)
        assert worker.child.poll() is None


def positions(worker: WorkerProcess) -> list[int]:
    return [one["position"] for one in json.loads(worker.get("/healthz")[1])["partitions"]]


def resident_mb(worker: WorkerProcess) -> float:
    pages = int(Path(f"/proc/{worker.child.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_in_an_outage_consumption_stands_still_and_memory_is_bounded(broker, tmp_path):
    with own_store(broker, tmp_path, FLUSH_ROWS="5000") as (store, one):
        worker = one.start_worker()
        worker.wait_ready()
        one.produce(lines(10_000))
        all_there(one, 10_000)
        before = resident_mb(worker)
        store.kill()
        one.produce(lines(60_000, start=10_000))

        def standing() -> bool:
            first = positions(worker)
            time.sleep(3)
            return positions(worker) == first

        until(standing, "consumption stands still")
        assert sum(positions(worker)) < 50_000
        assert resident_mb(worker) - before < 250
        store.restart()
        all_there(one, 70_000)
        assert worker.child.poll() is None


def test_a_broker_that_comes_back_is_taken_up_without_a_restart(store, tmp_path):
    require_kafka()
    with embedded_broker(tmp_path / "kafka") as own:
        one = deploy(own.bootstrap, store.url, store.writer, store.reader, tmp_path)
        try:
            worker = one.start_worker()
            worker.wait_ready()
            one.produce(lines(400))
            all_there(one, 400)
            own.kill()
            time.sleep(2 * one.settings.kafka_session_timeout_s)
            own.start()
            one.produce(lines(400, start=400))
            all_there(one, 800)
            assert worker.child.poll() is None
        finally:
            one.stop()
