"""The formats' names are a closed, documented set."""

from __future__ import annotations

from access_lines import LAYOUTS, json_line, read, text
from egresslens.parse.formats import FORMATS

LINES = {
    **{layout: text(layout) for layout in LAYOUTS},
    "istio_json": json_line(),
    "envoy_gateway_json": json_line(**{"authority": ..., ":authority": "a.example.com"}),
    "envoy_json": json_line(response_code=..., status=200),
    "ztunnel_text": "2026-01-02T03:04:05.678901Z info access connection complete src.addr=10.0.0.1:1",
    "ztunnel_json": '{"message":"connection complete","src.addr":"10.0.0.1:1"}',
}


def test_a_line_of_each_format_carries_its_name():
    assert {name: record["format"] for name, record in zip(LINES, read(*LINES.values()), strict=True)} == {
        name: name for name in LINES
    }


def test_every_format_is_described():
    assert FORMATS.keys() == LINES.keys()
