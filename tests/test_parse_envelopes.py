"""Envelopes: every shipper's way to wrap a line, around Istio's text and JSON."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egresslens.parse import Parsed, parse
from egresslens.parse.envelopes import epoch_ms, times
from egresslens.rules import Rules

POD = "web-7c9f8d6b5-x2x7q"
TEXT = (
    '[2026-01-02T03:04:05.678Z] "GET /v1/charges HTTP/1.1" 200 - via_upstream - "-" 0 512 14 13 "-" '
    '"curl/8" "2a8f6f1e-0001-4c52-9d5e-1f0a8a2b8f11" "api.stripe.com" "54.187.174.169:443" '
    "outbound|443||api.stripe.com 10.0.1.7:41234 54.187.174.169:443 10.0.1.7:51234 - default"
)
FIELDS = {
    "start_time": "2026-01-02T03:04:05.678Z",
    "route_name": "default",
    "method": "GET",
    "path": "/v1/charges",
    "protocol": "HTTP/1.1",
    "response_code": 200,
    "response_flags": "-",
    "response_code_details": "via_upstream",
    "connection_termination_details": None,
    "bytes_received": 0,
    "bytes_sent": 512,
    "duration": 14,
    "upstream_service_time": "13",
    "x_forwarded_for": None,
    "user_agent": "curl/8",
    "request_id": "2a8f6f1e-0001-4c52-9d5e-1f0a8a2b8f11",
    "authority": "api.stripe.com",
    "upstream_host": "54.187.174.169:443",
    "upstream_cluster": "outbound|443||api.stripe.com",
    "upstream_local_address": "10.0.1.7:41234",
    "downstream_local_address": "54.187.174.169:443",
    "downstream_remote_address": "10.0.1.7:51234",
    "requested_server_name": None,
    "upstream_transport_failure_reason": None,
}
JSON = json.dumps(FIELDS)
LINES = pytest.mark.parametrize("line", [TEXT, JSON], ids=["text", "json"])
ENVELOPE_TIME = datetime(2026, 1, 2, 3, 4, 5, 123_000, tzinfo=timezone.utc)


# --- the shippers -------------------------------------------------------------------------------------------


def kubernetes(container="istio-proxy"):
    return {
        "pod_name": POD,
        "namespace_name": "shop",
        "pod_id": "5d1f0a8a",
        "labels": {
            "app": "x",
            "pod-template-hash": "7c9f8d6b5",
            "service.istio.io/canonical-name": "web",
        },
        "annotations": {"a": '{"log":{"upstream_cluster":"x"}}'},
        "host": "node-1",
        "container_name": container,
        "docker_id": "0a1b",
        "container_image": "proxyv2",
    }


def docker_json(line, container="istio-proxy"):
    del container
    return {"log": f"{line}\n", "stream": "stdout", "time": "2026-01-02T03:04:05.123456789Z"}


def fluent_bit(line, container="istio-proxy"):
    return {
        "@timestamp": 1767323045.999,
        "log": line,
        "stream": "stdout",
        "_p": "F",
        "logtag": "F",
        "time": "2026-01-02T03:04:05.123456789Z",
        "kubernetes": kubernetes(container),
    }


def fluent_bit_cri(line, container="istio-proxy"):
    found = fluent_bit(f"2026-01-02T03:04:05.123456789Z stdout F {line}", container)
    return {key: found[key] for key in ("@timestamp", "log", "kubernetes")} | {
        "@timestamp": 1767323045.123456
    }


def fluent_bit_merged(line, container="istio-proxy"):
    """`Merge_Log On`, `Keep_Log Off`: only JSON is merged."""
    found = fluent_bit(line, container)
    if not line.startswith("{"):
        return found
    del found["log"]
    return {**found, **json.loads(line)}


def fluent_bit_merged_and_kept(line, container="istio-proxy"):
    return {**fluent_bit_merged(line, container), "log": line}


def fluent_bit_merge_log_key(line, container="istio-proxy"):
    found = fluent_bit(line, container)
    if line.startswith("{"):
        found["log_processed"] = json.loads(line)
        found["log"] = ""
    return found


def fluentd(line, container="istio-proxy"):
    return {
        "log": line,
        "stream": "stdout",
        "time": "2026-01-02T12:04:05.123456789+09:00",
        "docker": {"container_id": "0a1b"},
        "kubernetes": {
            "container_name": container,
            "namespace_name": "shop",
            "pod_name": POD,
            "labels": {"app_kubernetes_io/name": "x", "service_istio_io/canonical-name": "web"},
            "host": "node-1",
            "master_url": "https://10.0.0.1",
        },
        "tag": "kube.x",
    }


def filebeat(line, container="istio-proxy"):
    return {
        "@timestamp": "2026-01-02T03:04:05.123Z",
        "@metadata": {"beat": "filebeat", "type": "_doc"},
        "message": line,
        "stream": "stdout",
        "log": {"offset": 1, "file": {"path": f"/var/log/containers/{POD}_shop_{container}-0a1b0a1b.log"}},
        "input": {"type": "container"},
        "kubernetes": {
            "pod": {"name": POD, "uid": "1", "ip": "10.0.0.1"},
            "namespace": "shop",
            "node": {
                "name": "node-1",
                "labels": {"topology_kubernetes_io/zone": "z1", "topology_kubernetes_io/region": "r1"},
            },
            "labels": {"app": "x", "service_istio_io/canonical-name": "web"},
            "deployment": {"name": "y"},
            "replicaset": {"name": "y-7c9f8d6b5"},
            "container": {"name": container},
        },
        "orchestrator": {"cluster": {"name": "c1"}},
        "cloud": {"region": "other", "availability_zone": "other"},
        "host": {"name": "node-1"},
        "agent": {},
        "ecs": {},
    }


def filebeat_without_kubernetes(line, container="istio-proxy"):
    found = filebeat(line, container)
    del found["kubernetes"], found["orchestrator"], found["cloud"]
    return found


def filebeat_decoded(line, container="istio-proxy"):
    """`decode_json_fields` with a target."""
    found = filebeat(line, container)
    if line.startswith("{"):
        found["json"] = json.loads(line)
        del found["message"]
    return found


def vector(line, container="istio-proxy"):
    return {
        "file": f"/var/log/pods/shop_{POD}_uid/{container}/0.log",
        "kubernetes": {
            "pod_name": POD,
            "pod_namespace": "shop",
            "pod_labels": {"app": "web"},
            "pod_node_name": "node-1",
            "pod_owner": "ReplicaSet/web-7c9f8d6b5",
            "pod_ip": "10.0.0.1",
            "container_name": container,
            "namespace_labels": {},
            "node_labels": {"topology.kubernetes.io/region": "r1", "topology.kubernetes.io/zone": "z1"},
        },
        "message": line,
        "source_type": "kubernetes_logs",
        "stream": "stdout",
        "timestamp": "2026-01-02T03:04:05.123Z",
    }


def logstash(line, container="istio-proxy"):
    return {
        "@timestamp": "2026-01-02T03:04:05.123Z",
        "@version": "1",
        "message": line,
        "event": {"original": line},
        "host": {"name": "x"},
        "kubernetes": filebeat(line, container)["kubernetes"],
        "tags": [],
    }


def logstash_original(line, container="istio-proxy"):
    found = logstash(line, container)
    del found["message"]
    return found


def google_cloud(line, container="istio-proxy"):
    payload = {"jsonPayload": json.loads(line)} if line.startswith("{") else {"textPayload": line}
    return {
        **payload,
        "insertId": "x",
        "resource": {
            "type": "k8s_container",
            "labels": {
                "cluster_name": "c1",
                "location": "r1",
                "namespace_name": "shop",
                "pod_name": POD,
                "container_name": container,
            },
        },
        "labels": {"k8s-pod/app": "web"},
        "timestamp": "2026-01-02T03:04:05.123456789Z",
        "logName": "projects/p/logs/stdout",
    }


def ship(line, container="istio-proxy"):
    return {
        "time": "2026-01-02T03:04:05.123Z",
        "stream": "stdout",
        "log": line,
        "cluster": "c1",
        "kubernetes": {
            "pod_name": POD,
            "namespace_name": "shop",
            "host": "node-1",
            "container_name": container,
            "labels": {"service.istio.io/canonical-name": "web"},
            "node_labels": {"topology.kubernetes.io/region": "r1", "topology.kubernetes.io/zone": "z1"},
        },
    }


def loki(line, container="istio-proxy"):
    return {
        "stream": {"namespace": "shop", "pod": POD, "container": container, "app": "web", "node_name": "n"},
        "values": [["1767323045123456789", line]],
    }


def loki_push(line, container="istio-proxy"):
    return {"streams": [loki(line, container)]}


def journald(line, container="istio-proxy"):
    return {"MESSAGE": line, "CONTAINER_NAME": f"k8s_{container}_{POD}_shop_uid_0", "_HOSTNAME": "node-1"}


def otel_resources(line, container="istio-proxy"):
    """Vector's `opentelemetry` source."""
    return {
        "message": line,
        "resources": {
            "k8s.pod.name": POD,
            "k8s.namespace.name": "shop",
            "k8s.container.name": container,
            "k8s.deployment.name": "web",
        },
        "source_type": "opentelemetry",
        "timestamp": "2026-01-02T03:04:05.123Z",
    }


FULL = [
    fluent_bit,
    fluent_bit_cri,
    fluent_bit_merged,
    fluent_bit_merged_and_kept,
    fluent_bit_merge_log_key,
    fluentd,
    filebeat,
    filebeat_without_kubernetes,
    filebeat_decoded,
    vector,
    logstash,
    logstash_original,
    google_cloud,
    ship,
    loki,
    loki_push,
    journald,
    otel_resources,
]


def read(*values, **rules) -> Parsed:
    return parse(
        [
            value
            if isinstance(value, bytes | None)
            else value.encode()
            if isinstance(value, str)
            else json.dumps(value).encode()
            for value in values
        ],
        Rules(**rules),
    )


def only(found: Parsed):
    assert (found.records.height, found.rejects.rows(), found.filtered.rows()) == (1, [], [])
    return found.records.row(0, named=True)


def line_of(row):
    return {key: value for key, value in row.items() if key not in ("envelope_time", "source_role")
            and not key.startswith("source_")}  # fmt: skip


def messages(found: Parsed):
    return {*found.records["message"], *found.rejects["message"], *found.filtered["message"]}


# --- the line -----------------------------------------------------------------------------------------------


@LINES
@pytest.mark.parametrize("wrap", [docker_json, *FULL])
def test_a_wrapped_line_reads_like_the_line_alone(wrap, line):
    assert line_of(only(read(wrap(line)))) == line_of(only(read(line)))


@LINES
@pytest.mark.parametrize("wrap", [docker_json, *FULL])
def test_neither_spaces_nor_the_order_of_keys_matter(wrap, line):
    def reversed_keys(value):
        if isinstance(value, dict):
            return {key: reversed_keys(item) for key, item in reversed(value.items())}
        return value

    spaced = only(read(json.dumps(wrap(line), separators=(" , ", " : "))))
    assert spaced == only(read(json.dumps(wrap(line), separators=(",", ":"))))
    assert only(read(reversed_keys(wrap(line)))) == spaced


@LINES
@pytest.mark.parametrize("wrap", FULL)
def test_an_envelope_tells_the_pod(wrap, line):
    row = only(read(wrap(line)))
    assert (row["source_namespace"], row["source_workload"], row["source_pod"]) == ("shop", "web", POD)


@LINES
def test_googles_pod_labels_name_the_workload_before_the_pods_name_does(line):
    found = google_cloud(line)
    found["labels"] = {"k8s-pod/app": "front"}
    assert only(read(found))["source_workload"] == "front"


@LINES
def test_an_envelope_may_tell_the_pods_address(line):
    assert only(read(vector(line)))["source_pod_ip"] == "10.0.0.1"


@LINES
@pytest.mark.parametrize("wrap", [filebeat, vector, ship])
def test_node_labels_tell_region_and_zone(wrap, line):
    row = only(read(wrap(line)))
    assert (row["source_region"], row["source_zone"]) == ("r1", "z1")


@LINES
@pytest.mark.parametrize("wrap", [filebeat, google_cloud, ship])
def test_an_envelope_may_tell_the_cluster(wrap, line):
    assert only(read(wrap(line)))["source_cluster"] == "c1"


@LINES
@pytest.mark.parametrize("wrap", [docker_json, *(wrap for wrap in FULL if wrap is not journald)])
def test_an_envelope_tells_its_time(wrap, line):
    assert only(read(wrap(line)))["envelope_time"] == ENVELOPE_TIME


@LINES
@pytest.mark.parametrize("wrap", FULL)
def test_other_containers_lines_are_filtered(wrap, line):
    found = read(wrap(line, "app"))
    assert found.filtered.rows() == [(0, 0, "other_container")]
    assert found.records.is_empty()
    assert found.rejects.is_empty()


@LINES
def test_an_envelope_without_a_container_is_accepted(line):
    found = fluent_bit(line)
    del found["kubernetes"]["container_name"]
    assert only(read(found))["source_workload"] == "web"


@LINES
@pytest.mark.parametrize("outer", [logstash, docker_json, fluent_bit])
@pytest.mark.parametrize("inner", [filebeat, vector])
def test_envelopes_may_be_nested_and_the_inner_one_knows_better(outer, inner, line):
    row = only(read(outer(json.dumps(inner(line)))))
    assert line_of(row) == line_of(only(read(line)))
    assert (row["source_workload"], row["source_region"]) == ("web", "r1")


def test_the_inner_envelopes_pod_wins_over_the_outer_ones():
    inner = fluent_bit(TEXT)
    inner["kubernetes"]["pod_name"] = "db-0"
    inner["kubernetes"]["labels"] = {}
    row = only(read(fluent_bit(json.dumps(inner))))
    assert (row["source_pod"], row["source_workload"]) == ("db-0", "db")


def test_too_many_nested_envelopes_are_rejected():
    value = TEXT
    for _ in range(8):
        value = json.dumps({"log": value})
    assert read(value).rejects.rows() == [(0, 0, "bad_envelope", None)]


@LINES
@pytest.mark.parametrize(
    "key", ["log", "message", "MESSAGE", "msg", "line", "body", "@rawstring", "textPayload"]
)
def test_a_payload_is_found_under_any_of_its_keys(key, line):
    assert line_of(only(read({key: line, "x": 1}))) == line_of(only(read(line)))


def test_a_parsed_line_is_found_under_any_key():
    row = only(read({"kubernetes": kubernetes(), "mine": {"deep": FIELDS}}))
    assert (row["upstream_cluster"], row["source_workload"]) == ("outbound|443||api.stripe.com", "web")


# --- an object under `log` ----------------------------------------------------------------------------------


def test_an_object_under_log_is_about_the_file_and_not_the_line():
    assert only(read(filebeat(TEXT)))["upstream_cluster"] == "outbound|443||api.stripe.com"


def test_a_string_under_log_that_holds_json_is_the_line():
    value = {**fluent_bit(JSON), "message": "something else"}
    assert only(read(value))["upstream_cluster"] == "outbound|443||api.stripe.com"


def test_json_text_with_a_log_object_inside_a_string_is_still_a_string():
    line = json.dumps({**FIELDS, "user_agent": '"log":{"x":1}', "log": {"x": '"log":{'}})
    value = {"log": line, "message": "no line", "kubernetes": kubernetes()}
    assert only(read(value))["user_agent"] == '"log":{"x":1}'


def test_an_object_under_log_that_is_the_parsed_line_is_read():
    assert only(read({"log": FIELDS, "kubernetes": kubernetes()}))["source_workload"] == "web"


def test_spaces_between_key_and_object_change_nothing():
    value = json.dumps(filebeat(TEXT)).replace('"log": {', '"log" :  {')
    assert only(read(value))["upstream_cluster"] == "outbound|443||api.stripe.com"


# --- what is no access log ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [docker_json, fluent_bit, filebeat, vector, ship])
@pytest.mark.parametrize(
    "line",
    [
        "2026-01-02T03:04:05.123456Z\tinfo\txdsproxy\tconnected to upstream XDS server: istiod:15012",
        '{"level":"info","time":"2026-01-02T03:04:05.123456Z","scope":"xdsproxy","msg":"connected"}',
    ],
)
def test_the_agents_own_log_is_filtered_in_every_envelope(wrap, line):
    found = read(wrap(line))
    assert found.filtered.rows() == [(0, 0, "proxy_log")]
    assert found.rejects.is_empty()


def test_a_merged_agent_log_is_filtered_too():
    value = {**fluent_bit("x"), "level": "info", "scope": "xdsproxy", "msg": "connected"}
    del value["log"]
    assert read(value).filtered.rows() == [(0, 0, "proxy_log")]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"kubernetes": kubernetes(), "stream": "stdout"}, "log"),
        ({"@metadata": {}, "kubernetes": {}}, "message"),
        ({"source_type": "kubernetes_logs", "kubernetes": {}}, "message"),
        ({"logName": "x", "resource": {}}, "textPayload"),
        ({"streams": [{"stream": {}, "values": 1}]}, "values"),
        ({"streams": []}, "values"),
        ({"stream": {"pod": "x"}, "values": [[1]]}, "values"),
    ],
)
def test_an_envelope_without_its_payload_names_the_key(value, field):
    assert read(value).rejects.rows() == [(0, 0, "bad_envelope", field)]


@pytest.mark.parametrize("blank", ["", "\n", "  \n"])
@pytest.mark.parametrize("wrap", [docker_json, fluent_bit, filebeat, loki])
def test_a_blank_payload_is_empty(wrap, blank):
    assert read(wrap(blank)).rejects.rows() == [(0, 0, "empty", None)]


# --- several records in one message -------------------------------------------------------------------------


@LINES
@pytest.mark.parametrize("wrap", [lambda line: line, json.dumps, fluent_bit, vector])
def test_an_array_holds_one_record_for_each_item(wrap, line):
    if wrap is json.dumps or (isinstance(wrap(line), str) and line is TEXT):
        items = json.dumps([line] * 3)
    else:
        item = wrap(line)
        items = f"[{','.join([item if isinstance(item, str) else json.dumps(item)] * 3)}]"
    found = read(TEXT, items)
    assert found.records.select("message", "seq").rows() == [(0, 0), (1, 0), (1, 1), (1, 2)]
    assert set(found.records["upstream_cluster"]) == {"outbound|443||api.stripe.com"}


@LINES
@pytest.mark.parametrize(
    "shape",
    [
        lambda record: [1767323045.123456, record],
        lambda record: [[1767323045.123456, {"meta": 1}], record],
        lambda record: ["kube.web", 1767323045.123456, record],
        lambda record: ["kube.web", [[1767323045.123456, record]]],
    ],
    ids=["fluent bit", "fluent bit 2.1", "fluentd", "fluentd forward"],
)
def test_times_and_tags_in_an_array_are_no_records(shape, line):
    record = fluent_bit(line)
    del record["time"], record["@timestamp"]
    row = only(read(shape(record)))
    assert (row["source_workload"], row["envelope_time"]) == ("web", ENVELOPE_TIME)


@LINES
@pytest.mark.parametrize("between", ["\n", "\r\n", "\n\n  \n"])
def test_lines_one_after_the_other_are_records_of_their_own(line, between):
    found = read(between.join([line, line, line]) + between)
    assert found.records.select("message", "seq").rows() == [(0, 0), (0, 1), (0, 2)]


def test_objects_without_anything_between_them_are_records_of_their_own():
    assert read(JSON + JSON).records["seq"].to_list() == [0, 1]


def test_envelopes_one_after_the_other_are_records_of_their_own():
    both = json.dumps(fluent_bit(TEXT)) + "\n" + json.dumps(vector(JSON))
    assert read(both).records.select("seq", "source_region").rows() == [(0, None), (1, "r1")]


def test_json_over_several_lines_is_one_record():
    assert only(read(json.dumps(FIELDS, indent=2)))["authority"] == "api.stripe.com"
    assert only(read(json.dumps(fluent_bit(TEXT), indent=2)))["source_workload"] == "web"


def test_several_objects_over_several_lines_each_are_told_apart():
    value = "\n".join([json.dumps(FIELDS, indent=2)] * 3)
    assert read(value).records["seq"].to_list() == [0, 1, 2]


def test_an_array_over_several_lines_is_an_array():
    assert read(json.dumps([FIELDS, FIELDS], indent=2)).records["seq"].to_list() == [0, 1]


def test_a_broken_line_spoils_only_itself():
    found = read(f'{JSON}\n{{"start_time":}}\n{JSON}')
    assert found.records["seq"].to_list() == [0, 2]
    assert found.rejects["seq"].to_list() == [1]


def test_several_lines_inside_a_payload_are_records_of_their_own():
    assert read(fluent_bit(f"{TEXT}\n{TEXT}\n")).records["seq"].to_list() == [0, 1]


def test_every_part_of_a_message_has_its_own_seq_whatever_becomes_of_it():
    items = [
        fluent_bit(f"{TEXT}\n{TEXT}"),
        fluent_bit(TEXT, "app"),
        None,
        {"kubernetes": {}},
        loki_push(TEXT),
        FIELDS,
    ]
    found = read(items)
    frames = (found.records, found.rejects, found.filtered)
    seqs = [seq for frame in frames for seq in frame["seq"]]
    assert sorted(seqs) == list(range(7))
    assert (found.records.height, found.rejects.height, found.filtered.height) == (4, 2, 1)


def test_a_stream_of_lokis_has_one_record_for_each_value():
    value = loki(TEXT)
    value["values"] = [["1767323045123456789", TEXT], ["1767323045124456789", JSON, {"trace": "x"}]]
    found = read({"streams": [value, value]})
    assert found.records["seq"].to_list() == [0, 1, 2, 3]
    assert found.records["envelope_time"].n_unique() == 2


@pytest.mark.parametrize(
    "several",
    [
        lambda count: "\n".join([JSON] * count),
        lambda count: "\n".join([TEXT] * count),
        lambda count: f"[{','.join([JSON] * count)}]",
        lambda count: json.dumps({**loki(TEXT), "values": [["1", TEXT]] * count}),
        lambda count: json.dumps(fluent_bit("\n".join([TEXT] * count))),
        lambda count: json.dumps([FIELDS, fluent_bit("\n".join([TEXT] * (count - 1)))]),
    ],
)
def test_a_message_with_too_many_records_is_rejected_as_a_whole(several):
    found = read(TEXT, several(5), TEXT, max_records_per_message=4)
    assert found.records["message"].to_list() == [0, 2]
    assert found.rejects.rows() == [(1, 0, "too_large", None)]
    assert read(several(4), max_records_per_message=4).records.height == 4


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("[]", "empty"),
        ("[null]", "empty"),
        ("[[]]", "empty"),
        ('[{"a":1}', "invalid_json"),
        ('[{"a":1},]', "invalid_json"),
        ('[{"a":1}] x', "invalid_json"),
        ('["\\ud800"]', "lone_surrogate"),
        ('[{"log":"\\ud800"}]', "lone_surrogate"),
        ('["x"]', "unknown_format"),
        ("[" * 200 + "]" * 200, "bad_envelope"),
    ],
)
def test_arrays_that_hold_no_record_are_rejected(value, reason):
    assert read(value).rejects["reason"].to_list() == [reason]


def test_a_multi_line_custom_format_keeps_its_lines_together():
    found = read("[x]\n[2026-01-02]", log_format=("[%REQ(A)%]\n[%REQ(B)%]",))
    assert {*found.records["seq"], *found.rejects["seq"]} == {0}


# --- identity in the record itself --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "own",
    [
        {"pod_name": POD, "namespace": "shop", "workload": "front", "cluster_id": "c1"},
        {
            "POD_NAME": POD,
            "POD_NAMESPACE": "shop",
            "ISTIO_META_WORKLOAD_NAME": "front",
            "source_cluster": "c1",
        },
    ],
)
def test_a_json_format_may_carry_the_pod_itself(own):
    row = only(read({**FIELDS, **own}))
    assert (row["source_cluster"], row["source_namespace"], row["source_workload"], row["source_pod"]) == (
        "c1",
        "shop",
        "front",
        POD,
    )


def test_what_the_shipper_knows_wins_over_what_the_record_says():
    row = only(read({**fluent_bit_merged(JSON), "workload": "liar", "namespace": "liar"}))
    assert (row["source_workload"], row["source_namespace"]) == ("web", "shop")


def test_a_spiffe_principal_in_the_record_gives_the_namespace():
    row = only(read({**FIELDS, "source_principal": "spiffe://td/ns/shop/sa/x"}))
    assert (row["source_namespace"], row["source_workload"]) == ("shop", None)


def test_a_node_called_host_is_no_authority():
    value = {**fluent_bit_merged(JSON), "host": "node-1", "authority": None}
    assert only(read(value))["authority"] is None


# --- time ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05Z", 1767323045000),
        ("2026-01-02T03:04:05.1Z", 1767323045100),
        ("2026-01-02T03:04:05.12Z", 1767323045120),
        ("2026-01-02T03:04:05.123456789Z", 1767323045123),
        ("2026-01-02T12:04:05.123456789+09:00", 1767323045123),
        ("2026-01-02T12:04:05+0900", 1767323045000),
        ("1767323045", 1767323045000),
        ("1767323045.123456", 1767323045123),
        ("1767323045.1", 1767323045100),
        ("1767323045123", 1767323045123),
        ("1767323045123456", 1767323045123),
        ("1767323045123456789", 1767323045123),
        ("yesterday", None),
        ("2026-13-02T03:04:05Z", None),
        ("{}", None),
        (None, None),
    ],
)
def test_shippers_times_are_read_in_every_spelling(text, expected):
    found = times(pl.Series([text, "2026-01-02T03:04:05Z"], dtype=pl.String)).dt.epoch("ms")
    assert found.to_list() == [expected, 1767323045000]


def test_one_epoch_time_is_read_as_a_column_of_them():
    for text in ("1767323045", "1767323045.123456", "1767323045123456789", "x"):
        column = times(pl.Series([text], dtype=pl.String)).dt.epoch("ms")
        assert column.to_list() == [epoch_ms(text)]


# --- hostile input ------------------------------------------------------------------------------------------

HOSTILE = [
    {"kubernetes": []},
    {"kubernetes": "x", "log": TEXT},
    {"kubernetes": {"labels": {str(index): "x" * 100 for index in range(2000)}}, "log": TEXT},
    {"kubernetes": {"labels": [{"app": "x"}], "pod_name": {"a": 1}, "namespace_name": None}, "log": TEXT},
    {"kubernetes": kubernetes(), "log": None},
    {"kubernetes": kubernetes(), "log": 7},
    {"kubernetes": kubernetes(), "log": [TEXT]},
    {"log": {"log": {"log": {}}}},
    {"message": {"message": TEXT}},
    {"event": {"original": None}},
    {"event": TEXT},
    {"time": {"a": 1}, "log": TEXT},
    {"time": "x" * 1000, "log": TEXT},
    {"stream": {}, "values": {}},
    {"stream": {}, "values": []},
    {"streams": {}},
    {"resourceLogs": 1},
    {"level": "info"},
    {},
    {"": ""},
    {"jsonPayload": {"user_agent": "\x01\x02", "start_time": "2026-01-02T03:04:05.678Z"}},
]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: json.dumps(value)[:40])
def test_hostile_metadata_never_raises_and_never_loses_a_message(value):
    assert messages(read(value, TEXT)) == {0, 1}


def test_hostile_metadata_of_a_good_line_does_not_lose_the_line():
    for value in HOSTILE[1:4]:
        assert only(read(value))["upstream_cluster"] == "outbound|443||api.stripe.com"


def test_deep_and_endless_texts_are_rejected_in_bounded_time():
    quotes = '{"a":"' + '\\"' * 200_000
    values = [
        '{"kubernetes":' + '{"a":' * 100_000,
        "[" * 400_000,
        "[" + "[1," * 100_000,
        quotes + "}\n{",
        quotes + "}{",
        "[{" + quotes,
        "{}\n" * 200_000,
        "[{}," * 100_000,
        f"[{'{a},' * 200_000}1]",
        "{a}" * 300_000,
        f"[{','.join(['1'] * 400_000)}]",
        '{"streams":' + "[" * 100_000,
    ]
    start = time.process_time()
    assert messages(read(*values)) == set(range(len(values)))
    assert time.process_time() - start < 20


WRAPS = st.sampled_from([docker_json, *FULL])
CONTENT = st.one_of(
    st.sampled_from([TEXT, JSON, f"{TEXT}\n{JSON}", "", "hello", "{", "[2026", '{"level":"info","msg":"x"}']),
    st.text(max_size=30),
)
WRAPPED = st.recursive(
    st.builds(lambda wrap, line: json.dumps(wrap(line) if not line.startswith("{") or line == JSON
                                            else fluent_bit(line)), WRAPS, CONTENT),
    lambda inner: st.one_of(
        st.builds(
            lambda wrap, line: json.dumps(wrap(line)), st.sampled_from([docker_json, fluent_bit]), inner
        ),
        st.builds(lambda items: f"[{','.join(items)}]", st.lists(inner, max_size=3)),
        st.builds("\n".join, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=4,
)  # fmt: skip
DAMAGED = st.builds(
    lambda text, at, junk: text[: at % (len(text) + 1)] + junk + text[at % (len(text) + 1) :],
    WRAPPED,
    st.integers(0, 2000),
    st.sampled_from(["", '"', "\\", "{", "}", "\n", "\x00", "\\ud800", "[", ","]),
)
VALUES = st.lists(st.one_of(WRAPPED, DAMAGED, CONTENT), min_size=1, max_size=6)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_a_batch_is_its_messages_each_alone(values):
    together = read(*values)
    assert messages(together) == set(range(len(values)))
    for index, value in enumerate(values):
        alone = read(value)
        for name in ("records", "rejects", "filtered"):
            mine = getattr(together, name).filter(pl.col("message") == index).drop("message")
            assert mine.equals(getattr(alone, name).drop("message"))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_no_two_parts_of_a_message_share_a_seq(values):
    found = read(*values)
    for index in range(len(values)):
        seqs = [
            seq
            for frame in (found.records, found.rejects, found.filtered)
            for seq in frame.filter(pl.col("message") == index)["seq"]
        ]
        assert sorted(seqs) == list(range(len(seqs)))
