"""Doctor judges values: what one real broker does not show (functional/test_deployed.py has the rest)."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import polars as pl
import pytest
from kafka import TopicPartition

from egresslens.doctor import groups, sample, topics, worker
from egresslens.doctor.finding import Finding, Status, ok
from egresslens.doctor.groups import Place, short
from egresslens.doctor.run import Check, at_once
from egresslens.doctor.sample import Sample
from egresslens.enrich import enrich, origin
from egresslens.settings import Settings
from functional.deployment import istio_json

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
SETTINGS = Settings()
INPUT = topics.Use("logs", ("READ",), needed=True, input=True)
OUTPUT = topics.Use("out", ("WRITE",), needed=True)


# --- topics -------------------------------------------------------------------------------------------------


def described(*partitions: dict, **fields: object) -> dict:
    """A topic as Kafka's metadata describes it."""
    whole = {"leader_id": 1, "replica_nodes": [1, 2], "isr_nodes": [1, 2]}
    listed = [{"partition_index": n, **whole, **one} for n, one in enumerate(partitions or ({},))]
    return {"error_code": 0, "partitions": listed, "authorized_operations": ["READ", "WRITE"], **fields}


def troubles(
    use: topics.Use = INPUT, topic: dict | None = None, brokers: int = 2, **configs: str
) -> list[Finding]:
    spelt = {key.replace("_", "."): value for key, value in configs.items()}
    return list(topics.troubles(use, topic or described(), spelt, brokers, SETTINGS))


def test_a_sound_topic_has_no_trouble():
    assert troubles(retention_ms="604800000", cleanup_policy="delete") == []


def test_partitions_without_a_leader_fail():
    [found] = troubles(topic=described({}, {"leader_id": -1, "isr_nodes": []}))
    assert (found.status, found.said) == (Status.FAIL, "logs: partitions [1] have no leader")


def test_replicas_that_are_behind_are_a_warning():
    [found] = troubles(topic=described({"isr_nodes": [1]}))
    assert (found.status, found.said) == (Status.WARN, "logs: partitions [0] lack replicas in sync")


def test_one_replica_is_a_warning_where_there_are_more_brokers():
    alone = described({"replica_nodes": [1], "isr_nodes": [1]})
    assert [one.status for one in troubles(topic=alone)] == [Status.WARN]
    assert troubles(topic=alone, brokers=1) == []


def test_old_brokers_that_do_not_tell_rights_are_no_trouble():
    assert troubles(topic=described(authorized_operations=None)) == []


def test_a_topic_for_records_must_take_records_of_a_megabyte():
    [found] = troubles(OUTPUT, max_message_bytes="100000")
    assert "max.message.bytes=1048588" in found.mend
    assert troubles(OUTPUT, max_message_bytes="1048588") == []


def test_retention_without_end_is_no_trouble():
    assert troubles(retention_ms="-1") == []


# --- lag ----------------------------------------------------------------------------------------------------


def place(committed: int | None, beginning: int, end: int, age: timedelta | None = None) -> Place:
    return Place(TopicPartition("logs", 0), committed, beginning, end, NOW - age if age else None)


@pytest.mark.parametrize(
    ("committed", "beginning", "unread", "lost"),
    [(80, 0, 20, 0), (100, 0, 0, 0), (None, 40, 60, 0), (30, 40, 60, 10), (120, 0, 0, 0)],
)
def test_unread_and_lost_follow_from_the_offsets(committed, beginning, unread, lost):
    one = place(committed, beginning, 100)
    assert (one.unread, one.lost) == (unread, lost)


def test_messages_that_were_removed_before_they_were_read_fail():
    [lost, _] = groups.judge_lag([place(30, 40, 100)], NOW)
    assert lost.status is Status.FAIL
    assert lost.said == "logs/0: 10 messages were removed before they were read"


def test_unread_messages_are_a_warning_once_they_are_old():
    [young] = groups.judge_lag([place(0, 0, 100, timedelta(seconds=10))], NOW)
    [old] = groups.judge_lag([place(0, 0, 100, timedelta(hours=3))], NOW)
    assert (young.status, old.status) == (Status.OK, Status.WARN)
    assert "the oldest 3 h old" in old.said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.02, "20 ms"), (3, "3 s"), (119, "119 s"), (300, "5 min"), (7_200, "2 h"), (200_000, "2 d")],
)
def test_lengths_of_time_are_short(seconds, said):
    assert short(timedelta(seconds=seconds)) == said


# --- messages -----------------------------------------------------------------------------------------------


def sampled(*values: bytes, written: datetime = NOW) -> Sample:
    stamp = int(written.timestamp() * 1000)
    table = origin("", "logs", 0, list(range(len(values))), [stamp] * len(values))
    return Sample(values, table, enrich(values, table, SETTINGS.rules))


def record(number: int, ended: datetime = NOW, **fields: object) -> bytes:
    began = ended.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    labels = {"pod_name": "cart-1", "namespace_name": "shop", "labels": {"app": "cart"}}
    line = istio_json(number, start_time=began, duration=0, **fields)
    return json.dumps({"log": line.decode(), "kubernetes": labels}).encode()


def test_no_messages_ask_for_the_shipper():
    [found] = sample.messages(sampled(), SETTINGS, NOW)
    assert found.status is Status.WARN
    assert "shipper" in found.mend


def test_only_inbound_records_ask_for_the_client_side():
    inbound = [record(n, upstream_cluster="inbound|8080||") for n in range(30)]
    [found] = [one for one in sample.messages(sampled(*inbound), SETTINGS, NOW) if one.status is Status.WARN]
    assert "match.mode CLIENT" in found.mend


def test_records_without_a_cluster_ask_for_the_operators_that_label():
    blind = [record(n, upstream_cluster=None, route_name=None) for n in range(30)]
    found = sample.messages(sampled(*blind), SETTINGS, NOW)
    assert any("%UPSTREAM_CLUSTER%" in one.mend for one in found)


def test_a_few_that_cannot_be_read_are_said_and_no_failure():
    found = sample.rejects(sampled(*(record(n) for n in range(199)), b"nonsense"), SETTINGS)
    assert (found.status, found.details["reasons"]) == (Status.OK, {"unknown_format": 1})


def test_the_share_at_which_workers_stop_is_a_failure():
    found = sample.rejects(sampled(*[b"nonsense"] * 95, *(record(n) for n in range(5))), SETTINGS)
    assert found.status is Status.FAIL


def test_messages_from_the_future_are_a_matter_of_clocks():
    [found] = sample.times(sampled(record(1), written=NOW + timedelta(minutes=1)), NOW)
    assert (found.part, found.status) == ("clocks", Status.WARN)


def test_old_messages_are_said():
    found = sample.times(sampled(record(1, NOW - timedelta(hours=5)), written=NOW - timedelta(hours=5)), NOW)
    assert [one.said for one in found if one.status is Status.WARN] == ["the newest message is 5 h old"]


def test_late_records_name_the_shipper():
    late = [record(n, NOW - timedelta(hours=1)) for n in range(30)]
    [found] = sample.times(sampled(*late), NOW)
    assert "The shipper is behind" in found.mend
    assert found.said.startswith("records reach Kafka 60 min after the event")


def test_a_sample_of_what_is_filtered_has_no_delay():
    assert sample.times(sampled(record(1, upstream_cluster="inbound|8080||")), NOW) == []


def test_a_sample_keeps_the_kafka_time():
    assert sampled(record(1)).newest == NOW
    assert isinstance(sampled().origins, pl.DataFrame)


# --- running ------------------------------------------------------------------------------------------------


def test_a_check_that_never_ends_costs_its_time_and_no_more():
    end = threading.Event()
    began = time.monotonic()
    never, quick = at_once(
        [Check("a", lambda: [ok("a", str(end.wait()))]), Check("b", lambda: [ok("b", "fine")])], 0.2
    )
    assert time.monotonic() - began < 5
    assert never[0].said == "no answer within 0.2 s"
    assert quick == [ok("b", "fine")]
    end.set()


def test_a_worker_that_answers_something_else_is_no_worker():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"part": "x", "said": "y", "partitions": 3}')

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        [found] = worker.ready(f"http://127.0.0.1:{server.server_port}", 5)
        server.shutdown()
        thread.join()
    assert (found.status, found.part) == (Status.FAIL, "worker")


def test_a_check_with_a_bug_hides_no_other():
    broken, fine = at_once(
        [Check("a", lambda: [ok("a", str(1 // 0))]), Check("b", lambda: [ok("b", "fine")])], 5
    )
    assert "ZeroDivisionError" in broken[0].said
    assert fine[0].status is Status.OK
