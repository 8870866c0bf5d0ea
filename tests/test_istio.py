"""Egress traffic as Istio's metrics: what is counted, under which labels, and how many there can be."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from egresslens.istio import (
    FAMILIES,
    HTTP_LABELS,
    IDLE_S,
    PREFIX,
    TCP_LABELS,
    IstioMetrics,
    increments,
    labels,
)
from egresslens.record import WINDOW
from egresslens.windows import Windows
from test_windows import frame, record

# The labels of https://istio.io/latest/docs/reference/config/metrics/ that a caller's access log can fill.
ISTIO_LABELS = {
    "reporter", "source_workload", "source_workload_namespace", "source_cluster", "destination_service",
    "destination_service_name", "destination_service_namespace", "request_protocol", "response_code",
    "response_flags",
}  # fmt: skip

Sample = tuple[str, dict[str, str]]


def advance(windows: Windows, *records: dict[str, Any]) -> pl.DataFrame:
    batch = frame(list(records))
    windows.load(windows.missing(batch), pl.DataFrame(schema=WINDOW))
    return increments(windows.apply(batch, 1))


def counted(*records: dict[str, Any], limit: int = 100) -> dict[str, list[tuple[dict[str, str], float]]]:
    metrics = IstioMetrics(limit)
    metrics.add(advance(Windows(100), *records), 0)
    return samples(metrics)


def samples(metrics: IstioMetrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(metrics.exposition()):
        for one in family.samples:
            found.setdefault(one.name.removeprefix(PREFIX), []).append((one.labels, one.value))
    return found


def http(offset: int, **fields: Any) -> dict[str, Any]:
    return record(offset, protocol="HTTP/1.1", response_code=200, **fields)


def tcp(offset: int, **fields: Any) -> dict[str, Any]:
    return record(offset, protocol=None, response_code=None, **fields)


def test_an_http_request_is_counted_with_its_labels():
    [(found, count)] = counted(
        http(0, source_namespace="shop", source_workload="checkout", destination_host="api.example.com",
             destination_port=443, label="outbound")
    )["requests_total"]  # fmt: skip
    assert count == 1
    assert set(found) == {*HTTP_LABELS}
    assert found | {"reporter": "source"} == found
    assert (found["source_workload_namespace"], found["source_workload"]) == ("shop", "checkout")
    assert (found["destination_service"], found["destination_port"]) == ("api.example.com", "443")
    assert (found["request_protocol"], found["response_code"], found["response_flags"]) == (
        "http",
        "200",
        "-",
    )
    assert found["egress_label"] == "outbound"


def test_the_labels_are_istios_and_two_of_ours():
    assert {*HTTP_LABELS} - ISTIO_LABELS == {"destination_port", "egress_label"}
    assert {*HTTP_LABELS} - {*TCP_LABELS} == {"response_code"}


def test_bytes_and_durations_of_requests_add_up():
    found = counted(
        http(0, bytes_sent=5, bytes_received=7, duration_ms=3),
        http(1, bytes_sent=10, bytes_received=1, duration_ms=700),
    )
    assert [value for _, value in found["response_bytes_sum"]] == [15]
    assert [value for _, value in found["request_bytes_sum"]] == [8]
    assert [value for _, value in found["request_duration_milliseconds_sum"]] == [703]
    below = {one["le"]: value for one, value in found["request_duration_milliseconds_bucket"]}
    assert (below["1"], below["5"], below["500"], below["1000"], below["+Inf"]) == (0, 1, 1, 2, 2)


def test_a_tcp_connection_counts_bytes_and_no_request():
    found = counted(tcp(0, bytes_sent=5, bytes_received=7))
    assert "requests_total" not in found
    [(labels, sent)] = found["tcp_sent_bytes_total"]
    assert (sent, labels["request_protocol"]) == (5, "tcp")
    assert [value for _, value in found["tcp_received_bytes_total"]] == [7]
    assert [value for _, value in found["tcp_connections_closed_total"]] == [1]


@pytest.mark.parametrize(
    ("label", "host", "name", "namespace"),
    [
        ("passthrough", "httpbin.org", "PassthroughCluster", "unknown"),
        ("blackhole", "evil.example", "BlackHoleCluster", "unknown"),
        ("outbound", "api.example.com", "api.example.com", "unknown"),
        ("outbound", "reviews.shop.svc.cluster.local", "reviews", "shop"),
    ],
)
def test_the_service_name_is_the_one_istio_gives(label, host, name, namespace):
    [(found, _)] = counted(http(0, label=label, destination_host=host))["requests_total"]
    assert found["destination_service"] == host
    assert (found["destination_service_name"], found["destination_service_namespace"]) == (name, namespace)
    assert found["egress_label"] == label


def test_response_flags_tell_records_of_one_window_apart():
    found = counted(
        http(0, bytes_sent=1, duration_ms=1),
        http(1, bytes_sent=2, duration_ms=1, response_flags=["UF", "URX"]),
        http(2, bytes_sent=4, duration_ms=9, response_flags=["UF", "URX"]),
    )
    assert {one["response_flags"]: value for one, value in found["requests_total"]} == {"-": 1, "UF,URX": 2}
    assert {one["response_flags"]: value for one, value in found["response_bytes_sum"]} == {
        "-": 1,
        "UF,URX": 6,
    }


def test_a_destination_that_always_fails_has_no_empty_counters():
    found = counted(http(0, response_flags=["UH"]))
    assert [one["response_flags"] for one, _ in found["requests_total"]] == ["UH"]


def test_a_record_that_comes_again_is_not_counted_again():
    windows, metrics = Windows(100), IstioMetrics(100)
    batch = frame([http(0), http(1, response_flags=["UF"])])
    windows.load(windows.missing(batch), pl.DataFrame(schema=WINDOW))
    first = windows.apply(batch, 1)
    metrics.add(increments(first), 0)
    again = Windows(100)
    again.load(again.missing(batch), first.rows)
    metrics.add(increments(again.apply(frame([http(0), http(1, response_flags=["UF"]), http(2)]), 1)), 0)
    assert sum(value for _, value in samples(metrics)["requests_total"]) == 3


def test_what_is_no_name_does_not_become_a_label_value():
    hosts = ['a"} 1\negresslens_ready 0', "back\\slash", "x" * 300, "ünïcode", "tab\there", ""]
    found = counted(*(http(number, destination_host=host) for number, host in enumerate(hosts)))
    assert {one["destination_service"] for one, _ in found["requests_total"]} == {"invalid"}


@settings(deadline=None)
@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=20))
def test_the_text_can_be_read_whatever_records_hold(host, workload, flag):
    metrics = IstioMetrics(10)
    metrics.add(
        advance(
            Windows(100), http(0, destination_host=host, source_workload=workload, response_flags=[flag])
        ),
        0,
    )
    assert sum(value for _, value in samples(metrics)["requests_total"]) == 1


def test_beyond_the_limit_everything_is_still_counted():
    found = counted(
        *(http(number, destination_host=f"host-{number % 7}.example") for number in range(70)),
        http(70, destination_host="host-0.example"),
        *(
            tcp(71 + number, label="blackhole", destination_host=f"db-{number}.example")
            for number in range(5)
        ),
        limit=3,
    )
    assert sum(value for _, value in found["requests_total"]) == 71
    assert sum(value for _, value in found["tcp_connections_closed_total"]) == 5
    [(rest, _)] = [
        one for one in found["tcp_connections_closed_total"] if one[0]["source_workload"] == "other"
    ]
    assert (rest["egress_label"], rest["destination_service_name"]) == ("blackhole", "other")
    assert (rest["destination_service"], rest["destination_port"]) == ("other", "other")


def test_those_with_most_requests_are_admitted():
    found = counted(
        *(http(number, destination_host="busy.example") for number in range(5)),
        *(http(5 + number, destination_host=f"rare-{number}.example") for number in range(5)),
        limit=1,
    )
    assert {one["destination_service"]: value for one, value in found["requests_total"]} == {
        "busy.example": 5,
        "other": 5,
    }


def test_the_number_of_label_sets_is_bounded_whatever_comes():
    metrics, windows = IstioMetrics(10), Windows(10_000)
    for batch in range(20):
        rows = [
            record(
                batch * 50 + number,
                destination_host=f"host-{batch}-{number}.example",
                protocol=f"HTTP/{number}",
                response_code=100 + number,
                label=("outbound", "passthrough", "blackhole")[number % 3],
                hop=("sidecar", "gateway", "waypoint", None)[number % 4],
            )
            for number in range(50)
        ]
        metrics.add(advance(windows, *rows), batch)
    found = samples(metrics)["requests_total"]
    assert sum(value for _, value in found) == 1000
    assert len(found) <= 10 + 3 * 4


def test_a_label_set_that_is_idle_gives_way_to_a_new_one():
    metrics, windows = IstioMetrics(1), Windows(100)
    metrics.add(advance(windows, http(0, destination_host="old.example")), 0)
    metrics.add(advance(windows, http(1, destination_host="soon.example")), IDLE_S)
    metrics.add(advance(windows, http(2, destination_host="new.example")), 2 * IDLE_S)
    found = {one["destination_service"]: value for one, value in samples(metrics)["requests_total"]}
    assert found == {"other": 1, "new.example": 1}


def test_counters_of_those_that_stay_survive_one_that_goes():
    metrics, windows = IstioMetrics(2), Windows(100)
    metrics.add(
        advance(windows, http(0, destination_host="a.example"), http(1, destination_host="b.example")), 0
    )
    metrics.add(advance(windows, http(2, destination_host="b.example")), IDLE_S)
    metrics.add(
        advance(windows, http(3, destination_host="c.example"), http(4, destination_host="b.example")),
        IDLE_S + 1,
    )
    found = {one["destination_service"]: value for one, value in samples(metrics)["requests_total"]}
    assert found == {"b.example": 3, "c.example": 1}


def test_nothing_to_count_is_no_trouble():
    metrics = IstioMetrics(5)
    metrics.add(increments(Windows(5).apply(frame([]), 1)), 0)
    assert samples(metrics) == {}
    assert [name for name in FAMILIES if f"# TYPE {PREFIX}{name} " not in metrics.exposition()] == []


def test_a_waypoint_and_an_inbound_record_are_reported_as_istio_does():
    given: dict[str, Any] = dict.fromkeys(
        (
            "source_cluster",
            "source_namespace",
            "source_workload",
            "destination_host",
            "destination_port",
            "flags",
        )
    )
    assert labels(**given, label="outbound", hop="waypoint", response_code=200, http=True)[0] == "waypoint"
    assert labels(**given, label="inbound", hop="sidecar", response_code=200, http=True)[0] == "destination"
