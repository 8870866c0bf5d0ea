"""OpenTelemetry's messages: many records in one, as protobuf or JSON."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from egresslens.parse import parse
from egresslens.rules import Rules

POD = "web-7c9f8d6b5-x2x7q"
TEXT = (
    '[2026-01-02T03:04:05.678Z] "GET /v1/charges HTTP/1.1" 200 - via_upstream - "-" 0 512 14 13 "-" '
    '"curl/8" "2a8f6f1e-0001-4c52-9d5e-1f0a8a2b8f11" "api.stripe.com" "54.187.174.169:443" '
    "outbound|443||api.stripe.com 10.0.1.7:41234 54.187.174.169:443 10.0.1.7:51234 - default\n"
)
FIELDS = {
    "start_time": "2026-01-02T03:04:05.678Z",
    "method": "GET",
    "path": "/v1/charges",
    "protocol": "HTTP/1.1",
    "response_code": "200",
    "response_flags": "-",
    "authority": "api.stripe.com",
    "upstream_cluster": "outbound|443||api.stripe.com",
    "user_agent": "curl/8",
    "duration": "14",
    "bytes_sent": "512",
}
NANOS = 1767323045_123456789
SENDER = {
    "k8s.pod.name": POD,
    "k8s.namespace.name": "shop",
    "k8s.deployment.name": "web",
    "k8s.cluster.name": "c1",
    "cloud.region": "r1",
    "cloud.availability_zone": "z1",
}


def any_value(value):
    if isinstance(value, dict):
        return AnyValue(kvlist_value=KeyValueList(values=pairs(value)))
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return AnyValue(string_value=value)


def pairs(values):
    return [KeyValue(key=key, value=any_value(value)) for key, value in values.items()]


def record(body, attributes=None, nanos=NANOS):
    return LogRecord(
        body=None if body is None else any_value(body),
        attributes=pairs(attributes or {}),
        time_unix_nano=nanos,
        observed_time_unix_nano=NANOS,
    )


def request(*records, sender=SENDER):
    resource = Resource(attributes=pairs(sender))
    return ExportLogsServiceRequest(
        resource_logs=[ResourceLogs(resource=resource, scope_logs=[ScopeLogs(log_records=records)])]
    )


def as_proto(message):
    return message.SerializeToString()


def as_json(message):
    return json.dumps(MessageToDict(message)).encode()


ENCODINGS = pytest.mark.parametrize("encode", [as_proto, as_json], ids=["proto", "json"])


def read(*values):
    return parse(list(values), Rules())


@ENCODINGS
@pytest.mark.parametrize("body", [TEXT, json.dumps(FIELDS), FIELDS, TEXT.encode()], ids=str)
def test_the_body_is_the_line_whatever_its_type(encode, body):
    found = read(encode(request(record(body))))
    row = found.records.row(0, named=True)
    assert (found.records.height, found.rejects.height) == (1, 0)
    assert row["upstream_cluster"] == "outbound|443||api.stripe.com"
    assert row["authority"] == "api.stripe.com"
    assert row["source_workload"] == "web"
    assert row["source_namespace"] == "shop"
    assert row["source_pod"] == POD
    assert (row["source_cluster"], row["source_region"], row["source_zone"]) == ("c1", "r1", "z1")
    assert row["envelope_time"] == datetime(2026, 1, 2, 3, 4, 5, 123_000, tzinfo=timezone.utc)


@ENCODINGS
def test_every_record_of_every_resource_has_its_own_seq_and_source(encode):
    message = request(record(TEXT), record(TEXT), record("no log"), record(TEXT))
    other = request(record(TEXT), sender={"k8s.pod.name": "db-0", "k8s.namespace.name": "data"})
    message.resource_logs.extend(other.resource_logs)
    found = read(TEXT.encode(), encode(message))
    assert found.records.select("message", "seq", "source_workload").rows() == [
        (0, 0, None),
        (1, 0, "web"),
        (1, 1, "web"),
        (1, 3, "web"),
        (1, 4, "db"),
    ]
    assert found.rejects.select("message", "seq", "reason").rows() == [(1, 2, "unknown_format")]


@ENCODINGS
def test_the_labels_of_istios_provider_are_the_record_where_the_body_is_none(encode):
    found = read(encode(request(record("GET api.stripe.com", FIELDS), record("", FIELDS))))
    assert found.records["upstream_cluster"].to_list() == ["outbound|443||api.stripe.com"] * 2
    assert found.records["response_code"].to_list() == [200, 200]


@ENCODINGS
def test_labels_beside_a_whole_line_tell_the_source(encode):
    labels = {"POD_NAME": POD, "POD_NAMESPACE": "shop", "workload": "front", "cluster_id": "c2"}
    found = read(encode(request(record(TEXT, labels), sender={})))
    row = found.records.row(0, named=True)
    assert (row["source_cluster"], row["source_namespace"], row["source_workload"], row["source_pod"]) == (
        "c2",
        "shop",
        "front",
        POD,
    )


@ENCODINGS
def test_other_containers_records_are_filtered_each_by_itself(encode):
    other = f"/var/log/pods/shop_{POD}_uid/app/0.log"
    own = f"/var/log/pods/shop_{POD}_uid/istio-proxy/0.log"
    message = request(
        record("hello", {"log.file.path": other}), record(TEXT, {"log.file.path": own}), sender={}
    )
    found = read(encode(message))
    assert found.filtered.select("seq", "reason").rows() == [(0, "other_container")]
    assert found.records.select("seq", "source_workload").rows() == [(1, "web")]


@ENCODINGS
def test_a_record_without_a_body_is_a_bad_envelope(encode):
    found = read(encode(request(record(None), record(TEXT))))
    assert found.rejects.rows() == [(0, 0, "bad_envelope", "body")]
    assert found.records["seq"].to_list() == [1]


@ENCODINGS
def test_a_message_without_records_is_a_bad_envelope(encode):
    found = read(encode(request()))
    assert found.rejects.rows() == [(0, 0, "bad_envelope", "logRecords")]


@ENCODINGS
def test_too_many_records_reject_the_whole_message(encode):
    value = encode(request(*[record(TEXT)] * 4))
    found = parse([TEXT.encode(), value], Rules(max_records_per_message=3))
    assert found.records["message"].to_list() == [0]
    assert found.rejects.rows() == [(1, 0, "too_large", None)]
    assert parse([value], Rules(max_records_per_message=4)).records.height == 4


@ENCODINGS
def test_the_observed_time_stands_in_for_the_records(encode):
    found = read(encode(request(record(TEXT, nanos=0))))
    assert found.records["envelope_time"][0].year == 2026


def test_older_collectors_library_logs_are_read_in_both_encodings():
    scope = ScopeLogs(log_records=[record(TEXT)]).SerializeToString()
    # Field 1000, length-delimited: what `instrumentation_library_logs` was.
    library_logs = b"\xc2\x3e" + bytes([len(scope) & 0x7F | 0x80, len(scope) >> 7]) + scope
    resource_logs = (
        ResourceLogs(resource=Resource(attributes=pairs(SENDER))).SerializeToString() + library_logs
    )
    message = b"\x0a" + bytes([len(resource_logs) & 0x7F | 0x80, len(resource_logs) >> 7]) + resource_logs
    body = {"body": {"stringValue": TEXT}}
    as_text = json.dumps({"resourceLogs": [{"instrumentationLibraryLogs": [{"logs": [body]}]}]}).encode()
    assert read(message).records["source_workload"].to_list() == ["web"]
    assert read(as_text).records["upstream_cluster"].to_list() == ["outbound|443||api.stripe.com"]


def test_the_node_id_of_older_proxies_tells_the_source():
    sender = {
        "log_name": "otel_envoy_accesslog",
        "zone_name": "z1",
        "cluster_name": "web.shop",
        "node_name": f"router~10.0.0.1~{POD}.shop~shop.svc.cluster.local",
    }
    row = read(as_proto(request(record(TEXT), sender=sender))).records.row(0, named=True)
    assert (row["source_workload"], row["source_zone"], row["source_role"]) == ("web", "z1", "gateway")


@pytest.mark.parametrize(
    "value",
    [
        as_proto(request(record(TEXT)))[:-3],
        as_proto(request(record(TEXT)))[:40],
        b"\x0a\x05\x00\x01",
        b"\x0a\xff\xff\xff\xff\xff",
        b"\n\x12\x12\x12",
    ],
)
def test_bytes_that_begin_like_otlp_and_are_none_are_invalid(value):
    assert read(value).rejects.rows() == [(0, 0, "invalid_protobuf", None)]


@pytest.mark.parametrize(
    "value",
    [
        b"\n" + TEXT.encode(),
        b"\n\n \n" + TEXT.encode(),
        b"\n" + TEXT.replace("curl/8", "caf\xe9").encode("latin-1"),
        b"\n" + TEXT.replace("curl/8", "bell\x07").encode(),
        b"\n" + json.dumps(FIELDS).encode(),
        b"\n" + json.dumps(FIELDS, indent=2).encode(),
    ],
)
def test_a_line_that_begins_with_a_newline_is_still_text(value):
    found = read(value)
    assert found.records["upstream_cluster"].to_list() == ["outbound|443||api.stripe.com"]


@pytest.mark.parametrize(
    "value",
    [
        {"resourceLogs": None},
        {"resourceLogs": {}},
        {"resourceLogs": [None, 1, {"scopeLogs": 3}, {"scopeLogs": [{"logRecords": "x"}]}]},
        {"resourceLogs": [{"resource": [], "scopeLogs": [{"logRecords": [1, None, "x"]}]}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": 1, "attributes": [{"key": 1}, 2]}]}]}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"bytesValue": "%"}}]}]}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"kvlistValue": 1}}]}]}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": ["x"]}}]}]}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": "9" * 5000}]}]}]},
    ],
)
def test_messages_of_the_wrong_shape_are_rejected_not_lost(value):
    found = read(json.dumps(value).encode())
    assert found.records.is_empty()
    assert found.rejects.height + found.filtered.height >= 1


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(1, 255))
def test_no_bytes_behind_a_newline_make_it_raise_or_lose_a_message(tail, place, flip):
    valid = bytearray(as_proto(request(record(TEXT), record(FIELDS))))
    valid[place % len(valid)] ^= flip
    values = [b"\n" + tail, bytes(valid), bytes(valid[: place % len(valid)])]
    found = read(*values)
    messages = {*found.records["message"], *found.rejects["message"], *found.filtered["message"]}
    assert messages == {0, 1, 2}
