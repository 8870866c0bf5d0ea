"""From messages to records: times, what is kept, and what is left out."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import polars as pl
import pytest

from egresslens.encode import json_rows
from egresslens.enrich import enrich, origin
from egresslens.record import LATEST, SCHEMA
from egresslens.rules import Rules
from functional.deployment import istio_json

NOON = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)


def at(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def line(started: datetime | None = NOON, **fields) -> bytes:
    text = f"{started:%Y-%m-%dT%H:%M:%S}.000Z" if started else None
    return istio_json(1, start_time=text, duration=1500, **fields)


def enriched(*values: bytes, kafka: datetime | None = NOON, rules: Rules | None = None, **options):
    stamp = at(kafka) if kafka else -1
    origins = origin("e", "t", 3, range(10, 10 + len(values)), [stamp] * len(values))
    return enrich(values, origins, rules or Rules(), 7, **options)


def test_records_have_the_schemas_columns_and_their_identity():
    records = enriched(line()).records
    assert dict(records.drop("message").schema) == SCHEMA
    identity = records.select("rules_version", "stream_epoch", "topic", "partition", "offset", "seq").row(0)
    assert identity == (7, "e", "t", 3, 10, 0)


def test_a_record_belongs_to_the_moment_it_ended():
    assert enriched(line()).records["event_time"][0] == NOON + timedelta(milliseconds=1500)


def test_without_a_time_of_its_own_a_record_has_kafkas():
    assert enriched(line(None)).records["event_time"][0] == NOON


def test_without_any_time_of_kafka_the_event_stands_in():
    assert enriched(line(), kafka=None).records["kafka_timestamp"][0] == NOON + timedelta(milliseconds=1500)


def test_a_record_without_any_time_is_rejected():
    found = enriched(line(None), line(), kafka=None)
    assert found.rejects.select("message", "reason", "field").rows() == [(0, "bad_value", "start_time")]
    assert found.records["message"].to_list() == [1]


@pytest.mark.parametrize("stamp", [-(2**63), -5, at(LATEST), 253_402_300_800_000, 2**53, 2**63 - 1])
def test_a_kafka_time_that_nothing_can_hold_is_none(stamp: int):
    origins = origin("e", "t", 3, [10, 11], [stamp, stamp])
    found = enrich([line(), line(None)], origins, Rules())
    assert found.records["kafka_timestamp"].to_list() == [NOON + timedelta(milliseconds=1500)]
    assert found.rejects["message"].to_list() == [1]


@pytest.mark.parametrize(
    "envelope", ["9999-12-31T23:59:59Z", "2100-01-01T00:00:00Z", "1900-01-01T00:00:00Z", 2**62, 1e300]
)
def test_an_envelopes_time_that_nothing_can_hold_is_none(envelope: object):
    value = json.dumps({"@timestamp": envelope, "time": envelope, "message": line(None).decode()}).encode()
    assert enriched(value).records["event_time"].to_list() == [NOON]


def test_an_event_that_ends_beyond_all_times_is_rejected():
    last = LATEST - timedelta(seconds=1)
    assert enriched(line(last), kafka=last).rejects["reason"].to_list() == ["future_event_time"]


def test_an_event_far_ahead_of_its_kafka_time_is_rejected():
    found = enriched(line(NOON + timedelta(days=2)))
    assert found.rejects["reason"].to_list() == ["future_event_time"]
    assert found.records.is_empty()


def test_an_event_older_than_every_tier_is_rejected():
    found = enriched(line(NOON - timedelta(days=100)))
    assert found.rejects["reason"].to_list() == ["past_retention"]


def test_an_old_event_within_the_windows_retention_is_kept():
    assert enriched(line(NOON - timedelta(days=60))).records.height == 1


@pytest.mark.parametrize(
    ("cluster", "reason"),
    [
        ("inbound|8080||", "inbound"),
        ("InboundPassthroughCluster", "inbound_passthrough"),
        ("prometheus_stats", "internal"),
    ],
)
def test_what_is_not_kept_is_filtered_by_its_label(cluster, reason):
    found = enriched(line(upstream_cluster=cluster))
    assert found.filtered["reason"].to_list() == [reason]
    assert found.records.is_empty()


def test_operators_may_keep_more_labels():
    rules = Rules(keep=("inbound",))
    found = enriched(line(upstream_cluster="inbound|8080||"), line(), rules=rules)
    assert found.records["label"].to_list() == ["inbound"]
    assert found.filtered["reason"].to_list() == ["outbound"]


def test_everything_is_kept_where_nothing_is_stored():
    assert enriched(line(upstream_cluster="inbound|8080||"), keep_all=True).records.height == 1


def test_a_query_string_is_dropped_unless_it_is_to_be_kept():
    assert enriched(line()).records["path"][0] == "/item/1"
    assert enriched(line(), rules=Rules(keep_query=True)).records["path"][0] == "/item/1?token=secret"


def test_paths_are_redacted_by_pattern():
    rules = Rules(redact=(r"/users/[^/]+",))
    assert enriched(line(path="/users/alice/x"), rules=rules).records["path"][0] == "[redacted]/x"


def test_no_messages_are_no_records():
    found = enriched()
    assert (found.records.height, found.rejects.height, found.filtered.height) == (0, 0, 0)


def test_a_row_of_json_has_its_times_in_utc_with_milliseconds():
    frame = pl.DataFrame({"at": [NOON], "n": [1], "list": [["a", "b"]], "nothing": [None]})
    (text,) = json_rows(frame.with_columns(pl.col("at").dt.cast_time_unit("ms")))
    assert json.loads(text) == {"at": "2026-06-01T12:00:00.000Z", "n": 1, "list": ["a", "b"], "nothing": None}
