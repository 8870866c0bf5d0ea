"""Dead letters, replayed: each origin is applied once, however often."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaProducer

from egresslens.kafka.broker import Broker
from egresslens.store.process import StoreProcess
from functional.deployment import COMMAND, Deploy, Deployment, deployments, istio_json

pytestmark = pytest.mark.functional

# A format that only the operator's setting explains.
FORMAT = "EGRESS %START_TIME% %REQ(:METHOD)% %REQ(:AUTHORITY)% %RESPONSE_CODE% %UPSTREAM_CLUSTER_RAW%"
LINES = [
    f"EGRESS 2026-11-24T09:00:0{n}.000Z GET host-{n}.example 200 PassthroughCluster".encode()
    for n in range(5)
]
MENDED = {"EGRESSLENS_LOG_FORMAT": FORMAT}


@pytest.fixture
def deployment(broker: Broker, store: StoreProcess, tmp_path: Path) -> Iterator[Deploy]:
    yield from deployments(broker.bootstrap, store, tmp_path)


def run(one: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=one.environment, capture_output=True, text=True, check=False
    )


def unread(one: Deployment) -> None:
    """A worker that cannot read the format has made dead letters of five lines; it has stopped."""
    worker = one.start_worker()
    one.produce([*LINES, istio_json(1)])
    one.wait_for_messages(6)
    assert worker.stop() == 0
    assert one.value("SELECT count() FROM {db}.dead_letters") == 5


def test_the_list_counts_by_reason(deployment):
    one = deployment()
    unread(one)
    found = run(one, "dlq", "list", "--json")
    (row,) = [json.loads(line) for line in found.stdout.splitlines()]
    assert (row["reason"], row["letters"], row["topic"]) == ("unknown_format", 5, one.topic)


def test_a_letter_is_shown_with_its_bytes_and_no_terminal_escape(deployment):
    one = deployment()
    worker = one.start_worker()
    one.produce([b"bad \x1b[31mred"])
    one.wait_for_messages(1)
    assert worker.stop() == 0
    found = run(one, "dlq", "show", "--reason", "unknown_format")
    assert "bad \\x1b[31mred" in found.stdout
    assert found.returncode == 0


def test_replayed_again_and_again_each_is_applied_once(deployment):
    one = deployment()
    unread(one)
    one.start_worker(**MENDED)
    for times in (1, 2, 3):
        assert "5 messages were sent" in run(one, "dlq", "replay").stdout
        one.wait_for_messages(6 + 5 * times)
    counts = "SELECT destination_host, sum(requests) FROM {db}.windows_1m"
    hosts = dict(one.query(f"{counts} WHERE label = 'passthrough' GROUP BY 1"))
    assert hosts == {f"host-{n}.example": 1 for n in range(5)}
    assert one.value("SELECT count() FROM {db}.events") == 6
    assert one.value("SELECT sum(filtered['replayed']) FROM {db}.progress") == 10


def test_a_replay_through_a_kill_is_applied_once(deployment):
    one = deployment()
    unread(one)
    worker = one.start_worker(**MENDED)
    run(one, "dlq", "replay")
    run(one, "dlq", "replay")
    worker.kill()
    one.start_worker(**MENDED)
    one.wait_for_messages(16)
    assert one.value("SELECT count() FROM {db}.events") == 6
    assert one.value("SELECT sum(requests) FROM {db}.windows_1m") == 6


def test_what_still_cannot_be_read_stays_a_dead_letter_and_may_be_applied_later(deployment):
    one = deployment()
    unread(one)
    worker = one.start_worker()
    run(one, "dlq", "replay")
    one.wait_for_messages(11)
    assert one.value("SELECT count() FROM {db}.events") == 1
    assert worker.stop() == 0
    one.start_worker(**MENDED)
    run(one, "dlq", "replay", "--topic", one.topic)
    one.wait_for_messages(16)
    assert one.value("SELECT count() FROM {db}.events") == 6


def test_of_a_message_with_several_records_only_the_unread_ones_are_applied(deployment):
    one = deployment(TOPIC_PARTITIONS="1")
    good, bad = istio_json(1).decode(), istio_json(2, response_code="abc").decode()
    worker = one.start_worker()
    one.produce([f"[{good},{bad}]".encode()])
    one.wait_for_messages(1)
    assert one.value("SELECT count() FROM {db}.events") == 1
    run(one, "dlq", "replay")
    one.wait_for_messages(2)
    assert one.value("SELECT count() FROM {db}.events") == 1
    assert worker.child.poll() is None


def test_a_dry_run_sends_nothing(deployment):
    one = deployment()
    unread(one)
    assert "5 messages would be sent" in run(one, "dlq", "replay", "--dry-run").stdout
    one.start_worker(**MENDED)
    one.produce([istio_json(2)])
    one.wait_for_messages(7)
    assert one.value("SELECT count() FROM {db}.events") == 2


def test_of_a_half_mended_message_each_part_is_applied_once(deployment):
    one = deployment(TOPIC_PARTITIONS="1")
    bad = [istio_json(number, response_code="abc").decode() for number in range(2)]
    one.start_worker()
    one.produce([f"[{bad[0]},{bad[1]},{istio_json(3).decode()}]".encode()])
    one.wait_for_messages(1)
    for times in (1, 2):
        assert "1 messages were sent" in run(one, "dlq", "replay").stdout
        one.wait_for_messages(1 + times)
    assert one.value("SELECT count() FROM {db}.events") == 1
    assert one.value("SELECT sum(requests) FROM {db}.windows_1m") == 1


def test_a_hostile_header_is_no_replay_and_stops_nothing(deployment):
    one = deployment(TOPIC_PARTITIONS="1")
    producer = KafkaProducer(bootstrap_servers=one.settings.kafka_brokers)
    for said in (b'{"seqs":[99999999999]}', b"\\xff", b'{"stream_epoch":"e","topic":"t","partition":1e99}'):
        headers = [("egresslens-origin", said)]
        producer.send(one.settings.replay_topic, istio_json(1), headers=headers, partition=0)
    producer.flush()
    producer.close()
    worker = one.start_worker()
    one.wait_for_messages(3)
    assert worker.child.poll() is None
