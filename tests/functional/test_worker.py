"""The worker, with the real Kafka and the real ClickHouse engine."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from egresslens.clickhouse.client import connect
from egresslens.kafka.broker import Broker
from egresslens.messages import EnrichedRecord, WindowRow
from egresslens.registry import store as registry_store
from egresslens.store.process import StoreProcess, embedded_store
from functional.deployment import (
    COMMAND,
    PATIENCE_S,
    Deploy,
    Deployment,
    WorkerProcess,
    deploy,
    deployments,
    istio_json,
    until,
)
from functional.store_fixture import require_chdb
from registries import entry, registry

pytestmark = pytest.mark.functional

EX_DATAERR = 65
EX_TEMPFAIL = 75


@pytest.fixture
def deployment(broker: Broker, store: StoreProcess, tmp_path: Path) -> Iterator[Deploy]:
    yield from deployments(broker.bootstrap, store, tmp_path)


def test_records_land_in_events_and_windows(deployment):
    one = deployment()
    one.produce([istio_json(number) for number in range(1000)])
    one.start_worker()
    one.wait_for_messages(1000)
    assert one.value("SELECT count() FROM {db}.events") == 1000
    for tier in ("1m", "1h", "1d"):
        sums = "sum(requests), sum(bytes_sent), sum(bytes_received)"
        assert one.query(f"SELECT {sums} FROM {{db}}.windows_{tier}") == [(1000, 49_500, 10_000)]


def test_rows_that_clickhouse_refuses_are_dead_letters_and_everything_adds_up(deployment):
    """A constraint that somebody added: the worker ends once, and its next start goes on without them."""
    one = deployment(TOPIC_PARTITIONS="2")
    refused = ("/item/3", "/item/4", "/item/11")
    check = f"ifNull(path, '') NOT IN {refused}"
    connect(one.settings, "writer").command(
        f"ALTER TABLE {one.settings.database}.raw_events ADD CONSTRAINT c CHECK {check}"
    )
    one.produce([istio_json(number) for number in range(20)])
    first = one.start_worker()
    assert first.child.wait(PATIENCE_S) == 1
    assert "dead letters" in first.log.read_text()
    one.start_worker()
    one.wait_for_messages(20)
    one.produce([istio_json(number) for number in range(20, 30)])
    one.wait_for_messages(30)
    letters = one.query("SELECT reason, raw FROM {db}.dead_letters ORDER BY offset, partition")
    assert {reason for reason, _ in letters} == {"refused"}
    assert {json.loads(raw)["path"].split("?")[0] for _, raw in letters} == set(refused)
    assert one.value("SELECT count() FROM {db}.events") == 27
    assert one.value("SELECT sum(requests) FROM {db}.windows_1m") == 27
    assert one.value("SELECT sum(messages_rejected) FROM {db}.progress") == 3
    done = subprocess.run([*COMMAND, "reconcile"], env=one.environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_query_string_is_stored_nowhere(deployment):
    one = deployment()
    one.produce([istio_json(1), b'{"broken": "/callback?code=secret'])
    one.start_worker()
    one.wait_for_messages(2)
    assert one.query("SELECT path FROM {db}.events") == [("/item/1",)]
    (raw,) = one.query("SELECT raw FROM {db}.dead_letters")[0]
    assert "secret" not in str(raw)
    published = one.consume(one.settings.enriched_topic, 1) + one.consume(one.settings.dead_letter_topic, 1)
    assert not [record for record in published if b"secret" in record.value]


def test_what_cannot_be_read_is_a_dead_letter_with_its_reason_and_identity(deployment):
    one = deployment(TOPIC_PARTITIONS="1")
    one.produce([istio_json(0), b"{nonsense}", b"what is this", istio_json(3, response_code="abc")])
    one.start_worker()
    one.wait_for_messages(4)
    (invalid, unknown, bad) = sorted(one.consume(one.settings.dead_letter_topic, 3), key=lambda r: r.headers)
    letters = {
        (headers["reason"], headers.get("field"), headers["offset"], record.value)
        for record in (invalid, unknown, bad)
        for headers in [{name: value.decode() for name, value in record.headers}]
    }
    assert {letter[:3] for letter in letters} == {
        ("invalid_json", None, "1"),
        ("unknown_format", None, "2"),
        ("bad_value", "response_code", "3"),
    }
    assert b"{nonsense}" in {letter[3] for letter in letters}
    assert one.value("SELECT count() FROM {db}.events") == 1
    assert one.value("SELECT count() FROM {db}.dead_letters") == 3


def test_the_enriched_topic_holds_what_its_schema_promises(deployment):
    one = deployment()
    one.produce([istio_json(number) for number in range(50)])
    one.start_worker()
    records = one.consume(one.settings.enriched_topic, 50)
    read = [EnrichedRecord.model_validate_json(record.value) for record in records]
    assert len({(one.partition, one.offset, one.seq) for one in read}) == 50
    assert all(record.partition == message.partition for record, message in zip(records, read, strict=True))


def test_the_windows_topic_keeps_a_workload_in_one_partition(deployment):
    one = deployment()
    one.produce([istio_json(number) for number in range(400)])
    one.start_worker()
    one.wait_for_messages(400)
    records = one.consume(one.settings.windows_topic, 200)
    rows = [WindowRow.model_validate_json(record.value) for record in records]
    partitions: dict[bytes, set[int]] = {}
    for record in records:
        partitions.setdefault(record.key, set()).add(record.partition)
    assert all(len(found) == 1 for found in partitions.values())
    assert {record.key.decode() for record in records} == {row.source_ip for row in rows}


def test_inbound_records_are_filtered_and_counted(deployment):
    one = deployment()
    one.produce([istio_json(1), istio_json(2, upstream_cluster="inbound|8080||")])
    one.start_worker()
    one.wait_for_messages(2)
    assert one.value("SELECT count() FROM {db}.events") == 1
    assert one.value("SELECT sum(filtered['inbound']) FROM {db}.progress") == 1


def test_health_readiness_and_metrics_are_served(deployment):
    one = deployment()
    one.produce([istio_json(number) for number in range(10)])
    worker = one.start_worker()
    worker.wait_ready()
    one.wait_for_messages(10)
    assert worker.get("/healthz")[0] == 200
    until(lambda: worker.metric('egresslens_records_total{label="outbound"}') == 10, "ten records counted")
    assert worker.metric("egresslens_outage") == 0


def test_lag_is_told_in_records_and_seconds_by_partition_and_is_no_stall_in_an_outage(
    broker, tmp_path, request
):
    require_chdb()
    with embedded_store(tmp_path / "store") as store:
        one = deploy(broker.bootstrap, store.url, store.writer, store.reader, tmp_path)
        worker = one.start_worker()
        request.addfinalizer(one.stop)
        worker.wait_ready()
        store.kill()
        one.produce([istio_json(number) for number in range(20)], partition=1)
        until(lambda: worker.metric("egresslens_lag_records") == 20, "the lag in records")
        until(lambda: worker.metric("egresslens_lag_seconds") > 1, "the lag in seconds")
        found = json.loads(worker.get("/healthz")[1])
        [behind] = [place for place in found["partitions"] if place["lag_records"]]
        assert (behind["topic"], behind["partition"], behind["committed"]) == (one.topic, 1, 0)
        assert behind["lag_seconds"] >= 1
        assert found["stalled_seconds"] == 0
        assert worker.metric("egresslens_ready") == 0
        store.restart()
        one.wait_for_messages(20)
        until(lambda: worker.metric("egresslens_lag_records") == 0, "nothing waits")
        assert worker.metric("egresslens_lag_seconds") == 0
        assert worker.stop() == 0


def test_egress_is_counted_under_istios_labels_and_once_by_all_workers(deployment):
    one = deployment()
    workers = [one.start_worker(), one.start_worker()]
    for worker in workers:
        worker.wait_ready()
    one.produce([istio_json(number) for number in range(1000)])
    one.wait_for_messages(1000)
    requests = 'egresslens_istio_requests_total{reporter="source"'
    until(lambda: sum(worker.metric(requests) for worker in workers) == 1000, "a thousand requests")
    sent = sum(worker.metric("egresslens_istio_response_bytes_sum") for worker in workers)
    assert sent == one.value("SELECT sum(bytes_sent) FROM {db}.windows_1m")
    # Who goes makes the other one read again what was not committed: it is not counted again.
    gone = workers[1].metric(requests)
    assert workers[1].stop() == 0
    one.produce([istio_json(number) for number in range(500)])
    one.wait_for_messages(1500)
    until(lambda: workers[0].metric(requests) + gone == 1500, "five hundred more, and none twice")


def test_sigterm_flushes_commits_and_exits_0_within_10_seconds(deployment):
    one = deployment(FLUSH_INTERVAL_S="60")
    worker = one.start_worker()
    worker.wait_ready()
    one.produce([istio_json(number) for number in range(100)])
    until(lambda: worker.get("/healthz")[1].count('"position": 25') == 4, "all messages are fetched")
    began = time.monotonic()
    assert worker.stop() == 0, worker.log.read_text()[-3000:]
    assert time.monotonic() - began < 10
    assert one.value("SELECT count() FROM {db}.events") == 100


def test_with_the_store_down_sigterm_leaves_uncommitted_and_exits_75(broker, tmp_path):
    require_chdb()
    with embedded_store(tmp_path / "store") as store:
        one = deploy(broker.bootstrap, store.url, store.writer, store.reader, tmp_path)
        worker = one.start_worker()
        worker.wait_ready()
        store.kill()
        one.produce([istio_json(number) for number in range(100)])
        until(lambda: worker.metric("egresslens_retries_total") > 0, "the worker retries")
        until(lambda: worker.get("/healthz")[1].count('"position": 25') == 4, "all messages are fetched")
        assert worker.get("/readyz")[0] == 503
        assert worker.get("/healthz")[0] == 200
        began = time.monotonic()
        assert worker.stop() == EX_TEMPFAIL, worker.log.read_text()[-3000:]
        assert time.monotonic() - began < 10
        store.restart()
        one.start_worker()
        one.wait_for_messages(100)
        assert one.value("SELECT count() FROM {db}.events") == 100
        one.stop()


def test_a_store_that_comes_back_finds_nothing_lost_and_no_restart_needed(broker, tmp_path):
    require_chdb()
    with embedded_store(tmp_path / "store") as store:
        one = deploy(broker.bootstrap, store.url, store.writer, store.reader, tmp_path)
        worker = one.start_worker()
        worker.wait_ready()
        for start in range(0, 3000, 1000):
            store.kill()
            one.produce([istio_json(number) for number in range(start, start + 1000)])
            until(lambda: worker.metric("egresslens_outage"), "the outage is reported")
            store.restart()
            one.wait_for_messages(start + 1000)
        assert worker.child.poll() is None
        assert one.value("SELECT sum(requests) FROM {db}.windows_1m") == 3000
        said = worker.log.read_text()
        assert said.count("does not work, trying for ever") <= 9, "an outage is one line, not one per try"
        one.stop()


@pytest.mark.extended
@pytest.mark.timeout(600)
def test_killed_five_times_under_load_the_views_equal_the_truth(deployment):
    one = deployment()
    chance = random.Random(5)
    count = 500_000
    one.produce([istio_json(number) for number in range(count)])
    for _ in range(5):
        worker = one.start_worker(EGRESSLENS_FLUSH_ROWS="5000")
        worker.wait_ready()
        before = one.value("SELECT sum(messages) FROM {db}.progress") or 0
        until(
            lambda before=before: (one.value("SELECT sum(messages) FROM {db}.progress") or 0) > before,
            "it has stored something",
        )
        time.sleep(chance.random())
        worker.kill()
    one.start_worker()
    one.wait_for_messages(count, patience=300)
    truth = [(count, sum(number % 100 for number in range(count)), 10 * count)]
    sums = "sum(requests), sum(bytes_sent), sum(bytes_received)"
    assert one.query(f"SELECT {sums} FROM {{db}}.windows_1m") == truth
    assert one.query("SELECT count(), sum(bytes_sent), sum(bytes_received) FROM {db}.events") == truth
    assert one.query("SELECT sum(messages), sum(events), sum(gaps) FROM {db}.progress") == [(count, count, 0)]


def mine(one: Deployment, worker: WorkerProcess) -> int:
    """How many of the access logs' partitions a worker has."""
    partitions = json.loads(worker.get("/healthz")[1])["partitions"]
    return sum(partition["topic"] == one.topic for partition in partitions)


def test_two_workers_share_the_partitions_and_count_once(deployment):
    one = deployment()
    first = one.start_worker()
    first.wait_ready()
    one.produce([istio_json(number) for number in range(2000)])
    second = one.start_worker()
    second.wait_ready()
    one.produce([istio_json(number) for number in range(2000, 4000)])
    one.wait_for_messages(4000)
    assert one.value("SELECT sum(requests) FROM {db}.windows_1m") == 4000
    until(lambda: mine(one, second) == 2, "half of the partitions are the second's")


def test_fausts_own_command_line_runs_the_worker(deployment):
    one = deployment()
    one.produce([istio_json(number) for number in range(10)])
    command = [sys.executable, "-m", "faust", "-A", "egresslens.worker", "worker", "-l", "warn"]
    with (one.folder / "faust.log").open("wb") as out:
        child = subprocess.Popen(
            command,
            env=one.environment | {"EGRESSLENS_WEB_PORT": "0"},
            stdout=out,
            stderr=out,
            cwd=one.folder,
        )
    try:
        one.wait_for_messages(10)
        child.terminate()
        assert child.wait(PATIENCE_S) == 0
    finally:
        child.kill()
        child.wait()


def test_a_line_split_by_the_container_runtime_is_one_record_through_a_kill(deployment):
    one = deployment(TOPIC_PARTITIONS="1")
    line = istio_json(1).decode()
    parts = [line[:300], line[300:500], line[500:]]
    stamp = "2026-01-02T03:04:05.123456789Z stdout"
    one.produce([istio_json(0), f"{stamp} P {parts[0]}".encode(), f"{stamp} P {parts[1]}".encode()])
    worker = one.start_worker()
    one.wait_for_messages(3)
    until(lambda: '"committed": 1' in worker.get("/healthz")[1], "nothing is committed past the open line")
    worker.kill()
    one.produce([f"{stamp} F {parts[2]}".encode(), istio_json(2)])
    one.start_worker()
    one.wait_for_messages(5)
    assert one.query("SELECT offset FROM {db}.events ORDER BY offset") == [(0,), (3,), (4,)]
    assert one.query("SELECT messages, filtered['partial'] FROM {db}.progress") == [(5, 2)]


def test_too_many_dead_letters_stop_the_worker_with_nothing_of_them_stored(deployment):
    one = deployment()
    one.produce([b"bad deploy"] * 5000)
    worker = one.start_worker(EGRESSLENS_MAX_REJECTED_SHARE="0.5")
    assert worker.child.wait(PATIENCE_S) == EX_DATAERR
    assert "EGRESSLENS_MAX_REJECTED_SHARE" in worker.log.read_text()
    assert one.value("SELECT count() FROM {db}.progress") == 0
    assert one.value("SELECT count() FROM {db}.dead_letters") == 0


def test_records_and_dead_letters_of_any_size_do_not_stop_the_stream(deployment):
    one = deployment(TOPIC_PARTITIONS="1")
    one.produce([istio_json(0, user_agent="\x01" * 150_000), b"x" * 1_040_000, istio_json(2)])
    one.start_worker()
    one.wait_for_messages(3)
    found = one.query("SELECT length(user_agent), damage FROM {db}.events ORDER BY offset")
    assert found == [(16_384, "long_field"), (10, None)]
    (letter,) = one.consume(one.settings.dead_letter_topic, 1)
    assert len(letter.value) == 900_000
    assert dict(letter.headers)["raw_size"] == b"1040000"


def test_what_is_new_is_judged_by_the_workers_themselves(deployment):
    one = deployment(ROLL_UP_INTERVAL_S="0.5", TOPIC_PARTITIONS="2")
    writer = connect(one.settings, "writer")
    long_ago = datetime.now(timezone.utc) - timedelta(days=1)
    registry_store.load(writer, one.settings, registry(entry("net/api", "host-1.example.com")), long_ago)
    workers = [one.start_worker(), one.start_worker()]
    one.produce([istio_json(number) for number in range(4)])
    judged = (
        "SELECT destination_host, destination_scope, service_entry FROM {db}.windows_1d "
        "WHERE destination_scope_reason != 'not judged yet' ORDER BY destination_host"
    )
    until(lambda: len(one.query(judged)) == 4, "all destinations are judged")
    assert one.query(judged)[1] == ("host-1.example.com", "external", "net/api")
    until(
        lambda: sum(worker.metric('egresslens_judged_total{kind="destinations"}') for worker in workers) >= 4,
        "it is counted",
    )
