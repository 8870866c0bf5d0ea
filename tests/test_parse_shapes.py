"""Many lines of one shape read as text: always what the JSON reader makes of each line alone."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egresslens.parse import parse
from egresslens.parse.keys import FIELD_KEYS, ISTIO_KEYS
from egresslens.parse.shapes import FEWEST_LINES, read, shape_of
from egresslens.rules import Rules

LINE: dict[str, Any] = {
    **dict.fromkeys(ISTIO_KEYS),
    "start_time": "2026-01-02T03:04:05.678Z",
    "method": "GET",
    "path": "/a?token=1",
    "protocol": "HTTP/1.1",
    "response_code": 200,
    "response_flags": "-",
    "bytes_received": 0,
    "bytes_sent": 512,
    "duration": 14,
    "user_agent": "curl/8",
    "authority": "a.example",
    "upstream_cluster": "outbound|443||a.example",
    "upstream_host": "203.0.113.7:443",
    "downstream_remote_address": "10.1.0.9:40000",
}


def dumps(fields: dict[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def frame(texts: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"message": range(len(texts)), "text": texts})


def fitting(text: str) -> int:
    """How many of a batch of this line and of plain ones are read by shape, the plain ones left out."""
    found, _ = read(frame([dumps(LINE)] * FEWEST_LINES + [text]))
    return sum(rows.height for rows in found) - FEWEST_LINES


def results(values: list[bytes]) -> list[Any]:
    """What became of each message, its number left out."""
    parsed = parse(values, Rules())
    outcomes: list[list[Any]] = [[] for _ in values]
    for part in (parsed.records, parsed.rejects, parsed.filtered):
        for number, *row in part.iter_rows():
            outcomes[number].append(row)
    return outcomes


def test_lines_of_one_shape_are_all_read_so():
    assert fitting(dumps(LINE | {"path": "/b", "response_code": 503, "user_agent": "é,: null"})) == 1


def test_lines_of_a_second_shape_are_read_so_too():
    turned = dumps(dict(reversed(LINE.items())))
    found, others = read(frame([dumps(LINE)] * FEWEST_LINES + [turned] * FEWEST_LINES))
    assert ([rows.height for rows in found], others.height) == ([FEWEST_LINES] * 2, 0)


@pytest.mark.parametrize(
    "text",
    [
        dumps(LINE | {"user_agent": 'a"b'}),
        dumps(LINE | {"user_agent": "a\\b"}),
        dumps(LINE).replace("curl", "cu\trl"),
        dumps(LINE).replace("curl", 'cu"rl'),
        dumps(LINE).replace('"curl/8"', '"'),
        dumps(LINE).replace(":200,", ":0200,"),
        dumps(LINE).replace(":200,", ":2e2,"),
        dumps(LINE).replace(":200,", ":null,"),
        dumps(LINE).replace(":null", ":nil"),
        dumps(LINE).replace(":null", ":true"),
        dumps(LINE).replace('"route_name":null', '"route_name":null,"route_name":"x"'),
        dumps(LINE) + "}",
        dumps(LINE) + " ",
        dumps(LINE | {"start_time": None}),
        dumps(LINE | {"start_time": ""}),
        dumps(LINE | {"more": "x"}),
        dumps(dict(reversed(LINE.items()))),
        json.dumps(LINE),
    ],
)
def test_what_is_not_wholly_of_the_shape_is_left_to_the_json_reader(text):
    assert fitting(text) == 0


@pytest.mark.parametrize("key", [keys[0] for keys in FIELD_KEYS.values() if len(keys) > 1])
def test_a_field_that_may_be_under_another_key_makes_no_shape(key):
    assert shape_of(dumps({one: value for one, value in LINE.items() if one != key})) is None


texts = st.one_of(
    st.none(),
    st.sampled_from(
        ["", "-", "null", ":null,", ',"', '","path":"', "\\", '"', "\t", "\x7f", "\u2028", "é", "12"]
    ),
    st.text(max_size=12),
)
values = st.one_of(
    texts, st.integers(-(10**20), 10**20), st.booleans(), st.floats(allow_nan=False), st.just({})
)


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """Lines in one order of keys, some with strange values, some damaged."""
    keys = draw(st.permutations(ISTIO_KEYS))
    found = []
    for _ in range(draw(st.integers(1, 6))):
        fields = LINE | draw(st.dictionaries(st.sampled_from(ISTIO_KEYS), values, max_size=5))
        text = dumps({key: fields[key] for key in keys})
        if draw(st.booleans()):
            at = draw(st.integers(0, len(text) - 1))
            text = (
                text[:at] + draw(st.sampled_from(["", '"', ",", ":", "\\", " ", '"",', "0"])) + text[at + 1 :]
            )
        found.append(text)
    return found


@given(lines())
@settings(max_examples=60, deadline=None)
def test_a_line_among_many_becomes_what_it_becomes_alone(some):
    alone = [results([text.encode()])[0] for text in some]
    often = -(-FEWEST_LINES // len(some))
    assert results([text.encode() for text in some] * often) == alone * often
