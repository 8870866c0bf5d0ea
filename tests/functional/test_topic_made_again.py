"""A topic that is deleted and made again starts at offset 0: nothing is skipped, nothing overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from egresslens.cli.worker import topics
from egresslens.kafka.broker import Broker
from egresslens.kafka.topics import create_topics
from egresslens.store.process import StoreProcess
from functional.deployment import Deploy, Deployment, deployments, istio_json, until

pytestmark = pytest.mark.functional


@pytest.fixture
def deployment(broker: Broker, store: StoreProcess, tmp_path: Path) -> Iterator[Deploy]:
    yield from deployments(broker.bootstrap, store, tmp_path)


def make_again(one: Deployment) -> None:
    admin = KafkaAdminClient(bootstrap_servers=one.settings.kafka_brokers)
    admin.delete_topics([one.topic])

    def made() -> bool:
        try:
            return one.topic in create_topics(one.settings, topics(one.settings))
        except Exception:  # noqa: BLE001 - the old topic is still being deleted
            return False

    until(made, "the topic is made again")
    admin.close()


def supervised(one: Deployment, count: int) -> None:
    """Wait for messages, with a supervisor that starts the worker again."""

    def arrived() -> bool:
        if one.workers[-1].child.poll() is not None:
            one.start_worker()
        return (one.value("SELECT sum(messages) FROM {db}.progress") or 0) >= count

    until(arrived, f"{count} messages in progress", 120)


def test_a_topic_made_again_while_no_worker_runs_is_read_from_its_beginning(deployment):
    one = deployment()
    worker = one.start_worker()
    one.produce([istio_json(number) for number in range(200)])
    one.wait_for_messages(200)
    assert worker.stop() == 0
    make_again(one)
    one.produce([istio_json(number) for number in range(300)])
    one.start_worker()
    supervised(one, 500)
    assert one.value("SELECT count() FROM {db}.events") == 500
    assert one.value("SELECT sum(requests) FROM {db}.windows_1m") == 500
    epochs = f"SELECT uniqExact(stream_epoch) FROM {{db}}.progress WHERE topic = '{one.topic}'"
    assert one.value(epochs) == 2


def test_a_topic_made_again_under_a_running_worker_is_read_from_its_beginning(deployment):
    one = deployment()
    one.start_worker()
    one.produce([istio_json(number) for number in range(200)])
    one.wait_for_messages(200)
    make_again(one)
    # Longer than the old one: no offset is out of range, only the topic's id tells.
    one.produce([istio_json(number) for number in range(400)])
    supervised(one, 600)
    assert one.value("SELECT count() FROM {db}.events") == 600
    assert one.value("SELECT sum(requests) FROM {db}.windows_1m") == 600
