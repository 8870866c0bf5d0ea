"""Topics that are made again, grow, or lose what was not read: nothing skipped, nothing overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, TopicPartition

from egresslens.cli.worker import topics
from egresslens.kafka.broker import Broker, embedded_broker
from egresslens.kafka.topics import Topic, create_topics
from egresslens.store.process import StoreProcess
from functional.deployment import Deploy, Deployment, deployments, istio_json, until

pytestmark = pytest.mark.functional


@pytest.fixture
def deployment(broker: Broker, store: StoreProcess, tmp_path: Path) -> Iterator[Deploy]:
    yield from deployments(broker.bootstrap, store, tmp_path)


@pytest.fixture
def admin(broker: Broker) -> Iterator[KafkaAdminClient]:
    one = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    yield one
    one.close()


def lines(count: int, start: int = 0) -> list[bytes | None]:
    return [istio_json(number) for number in range(start, start + count)]


def again(one: Deployment, admin: KafkaAdminClient, partitions: int = 1) -> None:
    """Delete the access-log topic and make it again."""
    admin.delete_topics([one.topic])
    until(lambda: one.topic in create_topics(one.settings, [Topic(one.topic, partitions)]), "a new topic")


def epochs(one: Deployment) -> list[tuple[int, int, int]]:
    return one.query("SELECT first_offset, messages, events FROM {db}.progress ORDER BY updated_at")


def test_a_topic_made_again_while_no_worker_runs_is_read_from_its_first_offset(deployment, admin):
    one = deployment(TOPIC_PARTITIONS="1")
    worker = one.start_worker()
    one.produce(lines(100))
    one.wait_for_messages(100)
    assert worker.stop() == 0
    again(one, admin)
    one.produce(lines(60, start=1000))
    one.start_worker()
    one.wait_for_messages(160)
    assert epochs(one) == [(0, 100, 100), (0, 60, 60)]
    assert one.value("SELECT count() FROM {db}.events") == 160
    assert one.value("SELECT sum(requests) FROM {db}.windows_1m") == 160
    assert one.value("SELECT uniqExact(stream_epoch) FROM {db}.events") == 2


def test_a_topic_made_again_under_a_running_worker_is_read_from_its_first_offset(deployment, admin):
    """A worker that reads on under the old id would count new messages as the old ones."""
    one = deployment(TOPIC_PARTITIONS="1")
    worker = one.start_worker()
    one.produce(lines(100))
    one.wait_for_messages(100)
    again(one, admin)
    one.produce(lines(160, start=1000))

    def supervised() -> bool:
        if one.workers[-1].child.poll() is not None:
            one.start_worker()
        return (one.value("SELECT sum(messages) FROM {db}.progress") or 0) >= 260

    until(supervised, "all of both topics", 150)
    assert epochs(one) == [(0, 100, 100), (0, 160, 160)], worker.log.read_text()[-3000:]
    assert one.value("SELECT count() FROM {db}.events") == 260
    assert one.value("SELECT sum(requests) FROM {db}.windows_1m") == 260


def test_a_topic_that_moved_to_another_cluster_is_read_from_its_first_offset(deployment, tmp_path):
    one = deployment(TOPIC_PARTITIONS="1")
    worker = one.start_worker()
    one.produce(lines(100))
    one.wait_for_messages(100)
    assert worker.stop() == 0
    with embedded_broker(tmp_path / "other") as other:
        brokers = {"EGRESSLENS_KAFKA_BROKERS": other.bootstrap}
        settings = one.settings.model_copy(update={"kafka_brokers": other.bootstrap})
        moved = Deployment(settings, one.environment | brokers, one.folder)
        create_topics(settings, topics(settings))
        moved.produce(lines(60, start=1000))
        worker = moved.start_worker()
        moved.wait_for_messages(160)
        assert worker.stop() == 0
    assert epochs(one) == [(0, 100, 100), (0, 60, 60)]
    assert one.value("SELECT count() FROM {db}.events") == 160
    assert one.value("SELECT sum(requests) FROM {db}.windows_1m") == 160


def test_new_partitions_are_read_from_their_first_offset(deployment, admin):
    one = deployment(TOPIC_PARTITIONS="1")
    one.start_worker()
    one.produce(lines(50))
    one.wait_for_messages(50)
    admin.create_partitions({one.topic: 3})
    until(lambda: partitions(admin, one.topic) == 3, "three partitions")
    one.produce(lines(40, start=50), partition=1)
    one.produce(lines(30, start=90), partition=2)
    one.start_worker()
    one.wait_for_messages(120)
    assert one.query("SELECT partition, messages, gaps FROM {db}.progress ORDER BY partition") == [
        (0, 50, 0),
        (1, 40, 0),
        (2, 30, 0),
    ]
    assert one.value("SELECT sum(requests) FROM {db}.windows_1m") == 120


def partitions(admin: KafkaAdminClient, topic: str) -> int:
    return len(admin.describe_topics([topic])[0]["partitions"])


def test_what_retention_removed_before_it_was_read_is_counted_and_logged(deployment, admin):
    one = deployment(TOPIC_PARTITIONS="1")
    worker = one.start_worker()
    one.produce(lines(50))
    one.wait_for_messages(50)
    assert worker.stop() == 0
    one.produce(lines(50, start=50))
    admin.delete_records({TopicPartition(one.topic, 0): 80})
    one.produce(lines(20, start=100))
    worker = one.start_worker()
    one.wait_for_messages(90)
    assert one.query("SELECT messages, gaps, last_offset FROM {db}.progress") == [(90, 30, 119)]
    said = worker.log.read_text()
    assert "the broker no longer has offsets 50 to 79: 30 messages are lost to retention" in said
    assert worker.metric("egresslens_gap_offsets_total") == 30


def test_a_partition_that_retention_emptied_before_it_was_ever_read_has_no_gap(deployment, admin):
    one = deployment(TOPIC_PARTITIONS="1")
    one.produce(lines(50))
    admin.delete_records({TopicPartition(one.topic, 0): 30})
    one.start_worker()
    one.wait_for_messages(20)
    assert one.query("SELECT first_offset, messages, gaps FROM {db}.progress") == [(30, 20, 0)]
