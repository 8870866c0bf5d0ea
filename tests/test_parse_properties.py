"""What holds for any input: nothing is lost, nothing raises, no record depends on its neighbours."""

from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from access_lines import LAYOUTS, VALUES, fields_of, json_line, read, text, wanted
from egresslens.parse import Parsed, parse
from egresslens.parse.damage import Damage
from egresslens.rules import Rules
from samples_truth import samples

RULES = Rules(keep_query=True, max_message_bytes=20_000, max_records_per_message=20)
SAMPLES = [sample["raw"] for sample in samples()]
STAMP = "2026-01-02T03:04:06.123456789Z"
PIECES = [
    *SAMPLES[:20],
    *(text(layout) for layout in LAYOUTS),
    json_line(),
    json_line(user_agent="\ud83d\ude00"),
    '{"level":"info","time":"2026-01-02T03:04:05Z","scope":"ads","msg":"push"}',
    "2026-01-02T03:04:05.678901Z\tinfo\tads\tpush",
    "[2026-01-02 03:04:05.678][12][warning][config] x",
    f'{STAMP} info access connection complete src.addr=10.0.0.1:1 dst.addr=10.0.0.2:2 duration="1ms"',
    json.dumps({"log": text() + "\n", "kubernetes": {"pod_name": "web-7c9f8d6b5-x2x7q"}}),
    json.dumps({"message": json_line(), "@version": "1"}),
    json.dumps({"streams": [{"stream": {"pod": "web-0"}, "values": [["1767323045123456789", text()]]}]}),
    json.dumps([json.loads(json_line()), {"log": text()}]),
    f"{STAMP} stdout F {text()}",
    f"web-7c9f8d6b5-x2x7q istio-proxy {text()}",
    text() + "\n" + text("envoy_text"),
    json_line() + json_line(),
]  # fmt: skip
# What breaks parsers: structure, escapes, halves of pairs, controls, other encodings.
SPLINTERS = [
    '"', "\\", "{", "}", "[", "]", ",", ":", " ", "\n", "\r", "\t", "\x00", "\x1b[0m", "\u2028", "-",
    "\ufeff", "\\ud800", "\\udc00", "\\u0000", "null", "NaN", "1e999", '","', '":', '" "', "|",
    '{"a":{"a":{"a":1}}}',
    '"upstream_cluster":"x",', '"authority": 1, "authority": 2,', 'HTTP/1.1" 200 - ', "\U0001f600", "٣",
]  # fmt: skip


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A message that is almost one of PIECES."""
    message = draw(st.sampled_from(PIECES))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(message)))
        end = draw(st.integers(start, min(len(message), start + draw(st.sampled_from([0, 1, 5, 400])))))
        message = message[:start] + draw(st.sampled_from(SPLINTERS) | st.text(max_size=5)) + message[end:]
    raw = message.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(raw)))
        raw = raw[:place] + draw(st.binary(min_size=1, max_size=4)) + raw[place:]
    return raw


MESSAGE = (
    mangled()
    | st.sampled_from([piece.encode() for piece in PIECES])
    | st.binary(max_size=60)
    | st.text(max_size=60).map(str.encode)
    | st.none()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["log", "message", *VALUES]), inner, max_size=4)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode())
)
MESSAGES = st.lists(MESSAGE, max_size=8)
THOROUGH = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def became(parsed: Parsed, message: int) -> list[tuple]:
    """What became of a message: rows of records, rejects and filtered, without the message's number."""
    frames = {"record": parsed.records, "reject": parsed.rejects, "filtered": parsed.filtered}
    return [
        (kind, *row)
        for kind, frame in frames.items()
        for row in frame.filter(pl.col("message") == message).drop("message").rows()
    ]


@THOROUGH
@given(MESSAGES)
def test_what_becomes_of_a_message_does_not_depend_on_its_neighbours(messages):
    together = parse(messages, RULES)
    for number, message in enumerate(messages):
        assert became(together, number) == became(parse([message], RULES), 0)


@THOROUGH
@given(MESSAGES)
def test_every_message_becomes_something(messages):
    parsed = parse(messages, RULES)
    assert all(became(parsed, number) for number in range(len(messages)))


@THOROUGH
@given(MESSAGES)
def test_no_part_of_a_message_becomes_two_things(messages):
    parsed = parse(messages, RULES)
    places = pl.concat(
        frame.select("message", "seq") for frame in (parsed.records, parsed.rejects, parsed.filtered)
    )
    assert places.is_unique().all()


@THOROUGH
@given(MESSAGES)
def test_whatever_comes_in_absent_is_null_and_damage_is_named(messages):
    records = parse(messages, RULES).records
    named = {damage.value for damage in Damage}
    for row in records.to_dicts():
        assert "-" not in row.values()
        assert "" not in row.values()
        assert set((row["damage"] or "no_timestamp").split(",")) <= named


PLAIN = st.text(
    st.characters(codec="utf-8", exclude_characters="\n\r\x00", exclude_categories=["Cs"]),
    min_size=1,
    max_size=30,
)
# Headers made of what the log itself writes.
IMITATION = [
    '"',
    '" "',
    " ",
    "-",
    "1",
    "[",
    "] ",
    "HTTP/1.1",
    '" 200 - ',
    '" 1 2 3 4 "',
    "a:1",
    "x|1||y",
    "\\",
]
IMITATIONS = st.lists(
    st.sampled_from([*IMITATION, *(text(layout) for layout in LAYOUTS)]), min_size=1, max_size=6
).map("".join)
TEXTS = (PLAIN | IMITATIONS).filter(lambda value: value.strip() == value)


@THOROUGH
@given(st.sampled_from([name for name in LAYOUTS if name != "istio_text_1.0_tcp"]), TEXTS)
def test_no_user_agent_changes_any_other_field(layout, agent):
    record = read(text(layout, user_agent=agent))[0]
    names = [name for name in fields_of(layout) if name not in ("user_agent", "x_forwarded_for")]
    assert {name: record.get(name) for name in names} == {name: wanted(name, VALUES[name]) for name in names}


@THOROUGH
@given(st.sampled_from(["istio_text_1.9", "istio_text_1.3", "envoy_text"]), TEXTS, TEXTS, TEXTS)
def test_no_headers_together_change_any_other_field(layout, agent, forwarded, request_id):
    record = read(text(layout, user_agent=agent, x_forwarded_for=forwarded, request_id=request_id))[0]
    names = [n for n in fields_of(layout) if n not in ("user_agent", "x_forwarded_for", "request_id")]
    assert {name: record.get(name) for name in names} == {name: wanted(name, VALUES[name]) for name in names}
    assert record["damage"] in (None, "forged_fields")


@THOROUGH
@given(TEXTS)
def test_no_user_agent_changes_any_field_of_json(agent):
    record = read(json_line(user_agent=agent))[0]
    values = {**VALUES, "user_agent": agent}
    names = fields_of("istio_text_1.9")
    assert {name: record.get(name) for name in names} == {name: wanted(name, values[name]) for name in names}


def garbage_of(kind: str, number: int, line: bytes) -> bytes:
    return {
        "words": b"connection %d refused" % number,
        "braces": b"{%d}" % number,
        "no utf-8": bytes((number * place * 7 + place) % 256 for place in range(200)),
        "half a line": line[: len(line) // 2],
        "a lost quote": line.replace(b'"', b"", 1),
        "nothing": b"",
    }[kind]


@pytest.mark.parametrize("kind", ["words", "braces", "no utf-8", "half a line", "a lost quote", "nothing"])
@pytest.mark.parametrize("line", [text, json_line], ids=["text", "json"])
def test_one_percent_of_garbage_takes_no_good_line_with_it(line, kind):
    """What it costs is measured in bench/; here, what becomes of it."""
    clean = [line(bytes_sent=str(number)).encode() for number in range(2_000)]
    mixed = [one if number % 100 else garbage_of(kind, number, one) for number, one in enumerate(clean)]
    good = [number for number in range(2_000) if number % 100]
    assert set(good) <= set(parse(mixed, Rules()).records["message"].to_list())
