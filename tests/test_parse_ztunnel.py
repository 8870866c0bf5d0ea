"""ztunnel's access log, text and JSON, as far as it tells what a record holds."""

from __future__ import annotations

import json

import pytest

from access_lines import read

FIELDS = {
    "src.addr": "10.42.0.9:33772",
    "src.workload": "sleep-7656cf8794-6lsm4",
    "src.namespace": "shop",
    "src.identity": "spiffe://cluster.local/ns/shop/sa/sleep",
    "dst.addr": "10.42.0.5:15008",
    "dst.hbone_addr": "10.42.0.5:9080",
    "dst.service": "details.default.svc.cluster.local",
    "dst.workload": "details-v1-857849f66-ft8wx",
    "dst.namespace": "default",
    "direction": "outbound",
    "bytes_sent": 84,
    "bytes_recv": 358,
    "duration": "15ms",
}
BARE = {"src.addr", "dst.addr", "dst.hbone_addr", "bytes_sent", "bytes_recv"}
TIME = "2024-08-21T15:32:05.754291Z"


def as_text(message: str = "connection complete", between: str = "\t", **fields: object) -> str:
    given = {**FIELDS, **{name.replace("__", "."): value for name, value in fields.items()}}
    pairs = (
        f"{name}={value}" if name in BARE else f"{name}={json.dumps(value)}"
        for name, value in given.items()
        if value is not None
    )
    return between.join([TIME, "info", "access", message, " ".join(pairs)])


def as_json(message: str = "connection complete", **fields: object) -> str:
    given = {**FIELDS, **{name.replace("__", "."): value for name, value in fields.items()}}
    known = {name: value for name, value in given.items() if value is not None}
    return json.dumps({"level": "info", "time": TIME, "scope": "access", "message": message, **known})


BOTH = pytest.mark.parametrize("line", [as_text, as_json], ids=["text", "json"])


@BOTH
def test_a_connection_is_one_record(line):
    record = read(line())[0]
    assert {name: record[name] for name in ("direction", "authority", "start_time", "duration_ms")} == {
        "direction": "outbound",
        "authority": "details.default.svc.cluster.local",
        "start_time": "2024-08-21T15:32:05.739Z",
        "duration_ms": 15,
    }
    assert {name: record[name] for name in ("upstream_host", "downstream_local_address")} == {
        "upstream_host": "10.42.0.5:15008",
        "downstream_local_address": "10.42.0.5:9080",
    }
    names = ("protocol", "method", "path", "response_code", "response_flags", "upstream_cluster", "damage")
    assert {record[name] for name in names} == {None}


@BOTH
def test_the_source_is_the_client(line):
    record = read(line())[0]
    assert {name: record[name] for name in record if name.startswith("source_")} == {
        "source_cluster": None,
        "source_namespace": "shop",
        "source_workload": "sleep",
        "source_pod": "sleep-7656cf8794-6lsm4",
        "source_region": None,
        "source_zone": None,
        "source_role": None,
        "source_pod_ip": None,
    }
    assert record["downstream_remote_address"] == "10.42.0.9:33772"


@BOTH
def test_an_identity_gives_the_namespace_where_nothing_else_does(line):
    record = read(line(src__workload=None, src__namespace=None))[0]
    assert (record["source_namespace"], record["source_workload"]) == ("shop", None)


@BOTH
@pytest.mark.parametrize(("direction", "received"), [("outbound", 84), ("inbound", 358)])
def test_bytes_received_are_what_the_source_sent(line, direction, received):
    record = read(line(direction=direction))[0]
    assert (record["bytes_received"], record["bytes_sent"]) == (received, 442 - received)


@BOTH
def test_an_unknown_destination_has_no_authority(line):
    record = read(line(dst__service=None, dst__hbone_addr=None, dst__addr="203.0.113.7:443"))[0]
    assert (record["authority"], record["downstream_local_address"]) == (None, "203.0.113.7:443")


@BOTH
def test_an_error_is_the_failure_reason(line):
    error = 'io error: "x" a=b src.addr=6.6.6.6:1 (os error 111)'
    record = read(line(error=error))[0]
    assert record["upstream_transport_failure_reason"] == error
    assert record["downstream_remote_address"] == "10.42.0.9:33772"


@BOTH
def test_an_opened_connection_is_not_counted(line):
    assert read(line(message="connection opened")) == [{"filtered": "proxy_log"}]


@BOTH
def test_a_duration_that_is_none_is_a_bad_value(line):
    assert read(line(duration="long")) == [{"rejected": "bad_value", "field": "duration"}]


@pytest.mark.parametrize("between", [" ", "\t", "  "])
def test_spaces_and_tabs_may_stand_between_words(between):
    assert read(as_text(between=between))[0]["format"] == "ztunnel_text"


@pytest.mark.parametrize("prefix", ["2026-01-02T03:04:06.123456789Z stdout F ", "ztunnel-fv5f8 istio-proxy "])
def test_a_prefix_may_stand_before_a_line(prefix):
    record = read(prefix + as_text())[0]
    assert (record["source_pod"], record["format"]) == ("sleep-7656cf8794-6lsm4", "ztunnel_text")


def test_the_first_versions_layout_is_read():
    line = as_text().replace(
        "\tinfo\taccess\tconnection complete\t", "  INFO access: connection complete\n    "
    )
    assert read(line)[0]["authority"] == "details.default.svc.cluster.local"


def test_formats_are_named():
    assert [record["format"] for record in read(as_text(), as_json())] == ["ztunnel_text", "ztunnel_json"]


def test_a_broken_line_is_rejected():
    assert read(as_text() + ' error="\\q"') == [{"rejected": "unknown_format", "field": None}]
