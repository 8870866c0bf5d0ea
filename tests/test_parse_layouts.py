"""Default text layouts: each version's line is told apart and read, column by column or one by one."""

from __future__ import annotations

import pytest

from access_lines import LAYOUTS, VALUES, fields_of, read, text, wanted
from egresslens.parse import odd


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_line_of_each_layout_is_told_apart(layout):
    assert read(text(layout))[0]["format"] == layout


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_field_of_each_layout_is_read(layout):
    record = read(text(layout))[0]
    assert {name: record[name] for name in fields_of(layout)} == {
        name: wanted(name, VALUES[name]) for name in fields_of(layout)
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_whole_line_is_not_damaged(layout):
    assert read(text(layout))[0]["damage"] is None


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "istio_text_1.0"])
def test_the_exact_way_reads_what_the_columns_read(layout):
    found = odd.read(text(layout))
    assert (found.format, found.damage) == (layout, ())
    assert {name: found.fields[name] for name in fields_of(layout)} == {
        name: VALUES[name] for name in fields_of(layout)
    }


REQUESTS = [
    ("-", "-", "-"),
    ("-", "-", "HTTP/1.1"),
    ("CONNECT", "-", "HTTP/2"),
    ("POST", "/pkg.Service/Method", "HTTP/2"),
    ("GET", "/", "HTTP/3"),
    ("OPTIONS", "*", "HTTP/1.0"),
    ("GET", "/HTTP/1.1", "HTTP/1.1"),
    ("GET", '/a"b"c', "HTTP/1.1"),
    ("GET", "/a b  c", "HTTP/1.1"),
]


@pytest.mark.parametrize(
    ("layout", "method", "path", "protocol"),
    [
        (layout, *request)
        for layout in LAYOUTS
        for request in REQUESTS
        # Istio 1.0 logs TCP in a layout of its own, which has no request.
        if not layout.startswith("istio_text_1.0") or (layout != "istio_text_1.0_tcp" and request[2] != "-")
    ],
)
def test_every_shape_of_request_line_is_split(layout, method, path, protocol):
    record = read(text(layout, method=method, path=path, protocol=protocol))[0]
    assert (record["method"], record["path"], record["protocol"]) == tuple(
        wanted("path", part) for part in (method, path, protocol)
    )


def test_an_absent_value_is_null_whether_a_hyphen_or_nothing_stands_there():
    empty = dict.fromkeys(("response_flags", "upstream_service_time", "x_forwarded_for", "route_name"), "")
    record = read(text(**empty))[0]
    assert [record[name] for name in empty] == [None] * 4


def test_a_tcp_line_with_omitted_empty_values_is_read():
    names = ("method", "path", "protocol", "response_flags", "response_code_details", "route_name",
             "connection_termination_details", "upstream_transport_failure_reason", "upstream_service_time",
             "x_forwarded_for", "user_agent", "request_id", "authority", "requested_server_name")  # fmt: skip
    record = read(text(response_code="0", **dict.fromkeys(names, "")))[0]
    assert (record["format"], record["damage"], record["upstream_cluster"]) == (
        "istio_text_1.9", None, "outbound|443||api.example.com",
    )  # fmt: skip


@pytest.mark.parametrize(
    "details",
    [
        "upstream_reset_before_response_started{connection failure,TLS error: 268435703:SSL routines:x}",
        "rbac_access_denied_matched_policy[ns[a b]-policy[c]-rule[0]]",
        "upstream_reset_before_response_started{connection_failure,delayed_connect_error:_111}",
    ],
)
def test_spaces_inside_the_braces_of_details_part_no_fields(details):
    record = read(text(response_code_details=details))[0]
    assert (record["response_code_details"], record["connection_termination_details"]) == (details, None)
    assert record["damage"] is None


def test_ipv6_addresses_stay_whole():
    address = "[2001:db8::1]:443"
    record = read(text(authority=address, upstream_host=address, downstream_local_address=address))[0]
    assert {record["authority"], record["upstream_host"], record["downstream_local_address"]} == {address}


def test_a_failure_reason_with_spaces_is_read():
    reason = "TLS error: 268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER"
    assert (
        read(text(upstream_transport_failure_reason=reason))[0]["upstream_transport_failure_reason"] == reason
    )


def test_flags_keep_their_order():
    assert read(text(response_flags="URX,UF"))[0]["response_flags"] == ["URX", "UF"]


@pytest.mark.parametrize("other", ["nginx", "apache", "plain", "istio_words"])
def test_other_programs_lines_are_rejected(other):
    line = {
        "nginx": '192.0.2.1 - - [02/Jan/2026:03:04:05 +0000] "GET / HTTP/1.1" 200 612 "-" "curl/8.5.0"',
        "apache": '[Fri Jan 02 03:04:05 2026] [core:error] [pid 1] AH00126: Invalid URI "GET /"',
        "plain": "connection refused",
        "istio_words": "PassthroughCluster BlackHoleCluster outbound|80||a.example.com",
    }[other]
    assert read(line) == [{"rejected": "unknown_format", "field": None}]


def test_a_time_that_is_none_is_named():
    assert read(text(start_time="yesterday")) == [{"rejected": "bad_value", "field": "start_time"}]


def test_a_layout_fits_one_batch_with_all_layouts_mixed():
    layouts = list(LAYOUTS) * 3
    assert [record["format"] for record in read(*(text(layout) for layout in layouts))] == layouts
