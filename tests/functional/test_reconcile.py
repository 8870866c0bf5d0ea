"""Reconcile, against the real Kafka and the real ClickHouse engine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.structs import OffsetAndMetadata

from egresslens.clickhouse.client import connect
from egresslens.kafka.broker import Broker
from egresslens.store.process import StoreProcess
from functional.deployment import COMMAND, Deploy, Deployment, deployments, istio_json

pytestmark = pytest.mark.functional

INBOUND = {"upstream_cluster": "inbound|8080||"}
CHANGE = {"mutations_sync": 2}


@pytest.fixture(scope="module")
def stored(
    broker: Broker, store: StoreProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """400 records, two rejected and one filtered message, stored by a worker that has stopped."""
    yield from deployed(broker, store, tmp_path_factory.mktemp("stored"))


@pytest.fixture(scope="module")
def damaged(
    broker: Broker, store: StoreProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """The same, for tests that damage it: each a partition of its own."""
    yield from deployed(broker, store, tmp_path_factory.mktemp("damaged"))


def deployed(broker: Broker, store: StoreProcess, folder: Path) -> Iterator[Deployment]:
    makes: Iterator[Deploy] = deployments(broker.bootstrap, store, folder)
    one = next(makes)(TOPIC_PARTITIONS="8")
    worker = one.start_worker()
    one.produce([*(istio_json(number) for number in range(400)), b"unread", b"", istio_json(1, **INBOUND)])
    one.wait_for_messages(403)
    assert worker.stop() == 0
    yield one
    next(makes, None)


def reconcile(one: Deployment, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [*COMMAND, "reconcile", *arguments], env=one.environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def differences(one: Deployment, partition: int) -> list[tuple[str, int]]:
    """Check and surplus of each difference of a partition."""
    code, said = reconcile(one, "--json")
    assert code == 1, said
    found = json.loads(said)["differences"]
    return [
        (each["check"], each["found"] - each["expected"]) for each in found if each["partition"] == partition
    ]


def alter(one: Deployment, statement: str) -> None:
    writer = connect(one.settings, "writer")
    writer.command(statement.replace("{db}", one.settings.database), settings=CHANGE)
    writer.close()


def commit(one: Deployment, partition: int, offset: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=one.settings.kafka_brokers)
    where = TopicPartition(one.topic, partition)
    admin.alter_group_offsets(one.settings.kafka_group, {where: OffsetAndMetadata(offset, "", -1)})
    admin.close()


def test_what_a_worker_stored_is_all_equal(stored):
    code, said = reconcile(stored)
    assert code == 0, said
    assert "403 messages of 8 partitions became 400 records" in said
    assert "all is equal" in said


def test_json_holds_the_figures(stored):
    code, said = reconcile(stored, "--json")
    assert code == 0
    report = json.loads(said)
    assert (report["ok"], report["messages"], report["records"]) == (True, 403, 400)
    assert report["minutes"] >= 8


def test_an_event_that_was_written_twice_is_no_difference(stored):
    alter(stored, "INSERT INTO {db}.raw_events SELECT * FROM {db}.raw_events WHERE offset < 5")
    assert reconcile(stored)[0] == 0


def test_a_commit_behind_the_progress_is_no_difference(stored):
    commit(stored, 0, 3)
    assert reconcile(stored)[0] == 0


def test_rows_of_a_killed_worker_beyond_its_progress_are_no_difference(stored):
    """Windows and events of the last unit are stored, its progress is not: the next worker goes on there."""
    counts = ("messages", "messages_with_records", "records", "events")
    replaced = ", ".join(f"20 AS {name}" for name in counts)
    commit(stored, 4, 20)
    alter(
        stored,
        "INSERT INTO {db}.raw_progress SELECT * EXCEPT (updated_at) "
        f"REPLACE (19 AS last_offset, {replaced}), now() FROM {{db}}.raw_progress FINAL WHERE partition = 4",
    )
    alter(stored, "ALTER TABLE {db}.raw_progress DELETE WHERE partition = 4 AND last_offset > 19")
    code, said = reconcile(stored)
    assert code == 0, said
    assert "373 messages of 8 partitions became 370 records" in said


def test_it_holds_while_workers_write(stored):
    worker = stored.start_worker()
    worker.wait_ready()
    for start in range(0, 20_000, 4_000):
        stored.produce([istio_json(number) for number in range(start, start + 4_000)])
        code, said = reconcile(stored)
        assert code == 0, said
    stored.wait_for_messages(20_403)
    assert reconcile(stored)[0] == 0


def test_a_lost_event_is_found_in_its_minute(damaged):
    alter(damaged, "ALTER TABLE {db}.raw_events DELETE WHERE partition = 1 AND offset = 7")
    assert sorted(check for check, _ in differences(damaged, 1)) == ["minute", "minute_bytes"]


def test_a_lost_window_is_found_in_its_minute_and_in_the_total(damaged):
    alter(
        damaged,
        "ALTER TABLE {db}.raw_windows_1m DELETE WHERE partition = 2 "
        "AND destination_host = 'host-2.example.com'",
    )
    found = differences(damaged, 2)
    assert ("total", -2) in found
    assert sum(surplus for check, surplus in found if check == "minute") == -2


def test_an_account_that_does_not_add_up_is_named(damaged):
    alter(damaged, "ALTER TABLE {db}.raw_progress UPDATE messages_filtered = 7 WHERE partition = 3")
    assert [check for check, _ in differences(damaged, 3)] == ["messages"]


def test_a_commit_beyond_the_progress_is_a_difference(damaged):
    alter(damaged, "ALTER TABLE {db}.raw_progress DELETE WHERE partition = 4")
    assert "committed" in [check for check, _ in differences(damaged, 4)]


def test_without_a_store_it_says_69(stored, monkeypatch):
    monkeypatch.setitem(stored.environment, "EGRESSLENS_CLICKHOUSE_URL", "http://127.0.0.1:9")
    code, said = reconcile(stored)
    assert code == 69, said
    assert "ClickHouse at http://127.0.0.1:9" in said


@pytest.mark.extended
def test_without_a_broker_it_says_69(stored, monkeypatch):
    monkeypatch.setitem(stored.environment, "EGRESSLENS_KAFKA_BROKERS", "127.0.0.1:9")
    code, said = reconcile(stored)
    assert code == 69, said
    assert "Kafka at 127.0.0.1:9" in said
