"""A change of rules, with and without a crash in between: no record under two keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import NoError
from kafka.structs import OffsetAndMetadata

from egresslens.clickhouse.client import connect
from egresslens.kafka.broker import Broker
from egresslens.store.process import StoreProcess
from functional.deployment import Deploy, deployments, istio_json, until

pytestmark = pytest.mark.functional

# The old rules know this host as an egress gateway, whose records count under the host asked for.
GATEWAY = "outbound|443||way-out.infra.svc.cluster.local"
OLD = {"EGRESSLENS_EGRESS_GATEWAYS": "^way-out"}


@pytest.fixture
def deployment(broker: Broker, store: StoreProcess, tmp_path: Path) -> Iterator[Deploy]:
    yield from deployments(broker.bootstrap, store, tmp_path)


def hosts(one) -> dict[str, int]:
    return dict(
        one.query("SELECT destination_host, sum(requests) FROM {db}.windows_1m GROUP BY destination_host")
    )


def test_new_rules_count_new_messages_and_leave_the_old_ones(deployment):
    one = deployment()
    first = one.start_worker(**OLD)
    one.produce([istio_json(n, upstream_cluster=GATEWAY, authority="real.example") for n in range(100)])
    one.wait_for_messages(100)
    assert first.stop() == 0
    one.produce([istio_json(n, upstream_cluster=GATEWAY, authority="real.example") for n in range(50)])
    one.start_worker()
    one.wait_for_messages(150)
    assert hosts(one) == {"real.example": 100, "way-out.infra.svc.cluster.local": 50}
    assert one.query("SELECT rules_version, count() FROM {db}.events GROUP BY 1 ORDER BY 1") == [
        (1, 100),
        (2, 50),
    ]


def test_a_crash_before_progress_and_new_rules_count_each_record_under_one_key(deployment):
    """The old worker dies with events and windows stored beyond its progress, as a crash can leave them."""
    one = deployment(TOPIC_PARTITIONS="1")
    first = one.start_worker(**OLD)
    one.produce([istio_json(n, upstream_cluster=GATEWAY, authority="real.example") for n in range(60)])
    one.wait_for_messages(60)
    committed = until(lambda: '"committed": 60' in first.get("/healthz")[1], "the first part is committed")
    assert committed
    one.produce([istio_json(n, upstream_cluster=GATEWAY, authority="real.example") for n in range(40)])
    one.produce([b"nonsense"])
    one.wait_for_messages(101)
    first.kill()
    rewind(one, 60)
    one.start_worker()
    one.wait_for_messages(101)
    assert hosts(one) == {"real.example": 60, "way-out.infra.svc.cluster.local": 40}
    assert one.value("SELECT count() FROM {db}.events") == 100
    assert one.value("SELECT count() FROM {db}.dead_letters") == 1
    assert one.query("SELECT messages, events, messages_rejected FROM {db}.progress") == [(101, 100, 1)]


def rewind(one, offset: int) -> None:
    """Put Kafka's commit and the stored progress back, as if the crash had come before them."""
    writer = connect(one.settings, "writer")
    raw = f"{one.settings.database}.raw_progress"
    (row,) = writer.query(f"SELECT * EXCEPT (updated_at) FROM {raw} FINAL").named_results()
    writer.command(f"TRUNCATE TABLE {raw}")
    kept = row | {
        "last_offset": offset - 1,
        "messages": offset,
        "messages_with_records": offset,
        "messages_rejected": 0,
        "records": offset,
        "events": offset,
        "rejected": {},
    }
    writer.insert(raw, [list(kept.values())], column_names=list(kept))
    admin = KafkaAdminClient(bootstrap_servers=one.settings.kafka_brokers)
    partition = TopicPartition(one.topic, 0)
    wanted = {partition: OffsetAndMetadata(offset, "", -1)}
    until(
        lambda: admin.alter_group_offsets(one.settings.kafka_group, wanted)[partition] is NoError,
        "the dead worker's session has ended and the commit is put back",
    )
    admin.close()
