"""Two brokers: partitions change their leaders, by kill -9 and in order, under a running worker."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from conftest import require_kafka
from egresslens.kafka.broker import Broker, embedded_broker, free_port
from egresslens.store.process import StoreProcess
from functional.deployment import Deploy, Deployment, deployments, istio_json, until

pytestmark = [pytest.mark.functional, pytest.mark.extended]

TWICE = {"offsets.topic.replication.factor": "2", "auto.leader.rebalance.enable": "false"}


def second_of(first: Broker, folder: Path) -> Broker:
    """Another broker of the first one's cluster, whose controller the first stays."""
    config = (first.folder / "server.properties").read_text()
    meta = (first.folder / "log" / "meta.properties").read_text()
    (folder / "log").mkdir(parents=True)
    (folder / "log" / "meta.properties").write_text(
        f"version=1\nnode.id=2\ncluster.id={_value('cluster.id', meta)}\n"
    )
    port = free_port()
    return Broker(
        folder,
        port,
        TWICE
        | {
            "process.roles": "broker",
            "node.id": "2",
            "listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.quorum.voters": _value("controller.quorum.voters", config),
        },
    )


def _value(key: str, properties: str) -> str:
    found = re.search(rf"^{re.escape(key)}=(.+)$", properties, re.MULTILINE)
    assert found, properties
    return found[1]


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[tuple[Broker, Broker]]:
    require_kafka()
    with embedded_broker(tmp_path / "first", properties=TWICE) as first:
        second = second_of(first, tmp_path / "second")
        second.start()
        yield first, second
        second.kill()


@pytest.fixture
def deployment(brokers: tuple[Broker, Broker], store: StoreProcess, tmp_path: Path) -> Iterator[Deploy]:
    both = ",".join(broker.bootstrap for broker in brokers)
    yield from deployments(both, store, tmp_path)


def leaders(admin: KafkaAdminClient, one: Deployment) -> set[int]:
    try:
        topic = admin.describe_topics([one.topic])[0]
    except KafkaError:  # it asked the broker that is gone
        return set()
    return {partition["leader_id"] for partition in topic["partitions"]}


def test_a_worker_follows_partitions_to_their_new_leaders(brokers, deployment):
    first, second = brokers
    one = deployment(TOPIC_PARTITIONS="2", TOPIC_REPLICATION="2")
    admin = KafkaAdminClient(bootstrap_servers=first.bootstrap)
    until(lambda: leaders(admin, one) == {1, 2}, "a leader on each broker")
    worker = one.start_worker()
    one.produce([istio_json(number) for number in range(200)])
    one.wait_for_messages(200)
    second.kill()
    until(lambda: leaders(admin, one) == {1}, "the first broker leads both")
    one.produce([istio_json(number) for number in range(200, 400)])
    one.wait_for_messages(400)
    second.start()
    until(lambda: _elected(admin, one), "the second broker leads again")
    one.produce([istio_json(number) for number in range(400, 600)])
    one.wait_for_messages(600)
    admin.close()
    assert worker.child.poll() is None, worker.log.read_text()[-3000:]
    assert one.value("SELECT count() FROM {db}.events") == 600
    assert one.value("SELECT sum(requests) FROM {db}.windows_1m") == 600


def _elected(admin: KafkaAdminClient, one: Deployment) -> bool:
    with contextlib.suppress(KafkaError):
        admin.elect_leaders(0, [one.topic], raise_errors=False)
    return leaders(admin, one) == {1, 2}
