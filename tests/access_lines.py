"""Builders of access-log lines: every default layout, with any values."""

from __future__ import annotations

import json
from typing import Any

from egresslens.parse import parse
from egresslens.rules import Rules

VALUES: dict[str, str] = {
    "start_time": "2026-01-02T03:04:05.678Z",
    "method": "GET",
    "path": "/items",
    "protocol": "HTTP/1.1",
    "response_code": "200",
    "response_flags": "-",
    "response_code_details": "via_upstream",
    "connection_termination_details": "-",
    "istio_policy_status": "-",
    "upstream_transport_failure_reason": "-",
    "bytes_received": "11",
    "bytes_sent": "22",
    "duration": "33",
    "upstream_service_time": "32",
    "x_forwarded_for": "-",
    "user_agent": "curl/8.5.0",
    "request_id": "0b5a3f0e-7d52-9f0e-8f0c-2b8a3f1c0d4e",
    "authority": "api.example.com",
    "upstream_host": "203.0.113.7:443",
    "upstream_cluster": "outbound|443||api.example.com",
    "upstream_local_address": "10.0.0.9:40001",
    "downstream_local_address": "203.0.113.7:443",
    "downstream_remote_address": "10.0.0.9:40000",
    "requested_server_name": "-",
    "route_name": "default",
}
_HEAD = '[{start_time}] "{method} {path} {protocol}" {response_code} {response_flags} '
_NUMBERS = "{bytes_received} {bytes_sent} {duration} {upstream_service_time} "
_HEADERS = '"{x_forwarded_for}" "{user_agent}" "{request_id}" "{authority}" "{upstream_host}"'
_TAIL_4 = (
    " {upstream_cluster} {upstream_local_address} {downstream_local_address} {downstream_remote_address}"
)
_TAIL_5 = _TAIL_4 + " {requested_server_name}"
_TAIL_6 = _TAIL_5 + " {route_name}"
_MIXER = '"{istio_policy_status}" '
_REASON = '"{upstream_transport_failure_reason}" '
LAYOUTS: dict[str, str] = {
    "istio_text_1.9": _HEAD
    + "{response_code_details} {connection_termination_details} "
    + _REASON
    + _NUMBERS
    + _HEADERS
    + _TAIL_6,
    "istio_text_1.8": _HEAD + _REASON + _NUMBERS + _HEADERS + _TAIL_6,
    "istio_text_1.3": _HEAD + _MIXER + _REASON + _NUMBERS + _HEADERS + _TAIL_6,
    "istio_text_1.2": _HEAD + _MIXER + _REASON + _NUMBERS + _HEADERS + _TAIL_5,
    "istio_text_1.1": _HEAD + _MIXER + _NUMBERS + _HEADERS + _TAIL_5,
    "istio_text_1.0": _HEAD.replace("{path} {", "{path}{") + _NUMBERS + _HEADERS + _TAIL_4,
    "istio_text_1.0_tcp": "[{start_time}] {response_flags} {bytes_received} {bytes_sent} {duration} "
    '"{upstream_host}"' + _TAIL_4,
    "envoy_text": _HEAD + _NUMBERS + _HEADERS,
    "envoy_text_details": _HEAD + "{response_code_details} " + _NUMBERS + _HEADERS,
}
NUMBERS = {
    "response_code", "bytes_received", "bytes_sent", "duration", "upstream_service_time",
}  # fmt: skip


def text(layout: str = "istio_text_1.9", **values: str) -> str:
    """A line of a layout."""
    return LAYOUTS[layout].format_map({**VALUES, **values})


def fields_of(layout: str) -> list[str]:
    """The fields that a layout prints, except Mixer's, which no record has."""
    return [name for name in VALUES if f"{{{name}}}" in LAYOUTS[layout] and name != "istio_policy_status"]


def json_line(**values: Any) -> str:
    """A line of Istio's JSON format; None leaves a key out."""
    typed = {
        name: int(value) if name in NUMBERS - {"upstream_service_time"} else value
        for name, value in VALUES.items()
        if name != "istio_policy_status"
    }
    absent = {
        name: None if value == "-" and name != "response_flags" else value for name, value in typed.items()
    }
    return json.dumps({name: value for name, value in {**absent, **values}.items() if value != ...})


def wanted(name: str, value: str | None) -> Any:
    """What a record holds for a field's text."""
    if value in ("-", "", None):
        return None
    if name == "response_flags":
        return value.split(",")
    return int(value) if name in NUMBERS else value


def read(*lines: str | bytes | None, **rules: Any) -> list[dict[str, Any]]:
    """What each message became: its record, or `{"rejected": reason, "field": …}` or `{"filtered": reason}`.

    Messages with several records give the first. `start_time` comes as text, `duration_ms` as `duration` too.
    """
    values = [line.encode() if isinstance(line, str) else line for line in lines]
    parsed = parse(values, Rules(**{"keep_query": True, **rules}))
    became: dict[int, dict[str, Any]] = {}
    for row in parsed.filtered.to_dicts():
        became[row["message"]] = {"filtered": row["reason"]}
    for row in parsed.rejects.to_dicts():
        became[row["message"]] = {"rejected": row["reason"], "field": row["field"]}
    for row in reversed(parsed.records.to_dicts()):
        time = row["start_time"]
        stamp = f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z" if time else None
        became[row["message"]] = {**row, "start_time": stamp, "duration": row["duration_ms"]}
    return [became[message] for message in range(len(values))]
