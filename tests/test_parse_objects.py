"""JSON: Istio's, its relatives' keys, broken JSON, keys that come twice, and what is no access log."""

from __future__ import annotations

import json
import time

import pytest

from access_lines import VALUES, fields_of, json_line, read, wanted
from egresslens.parse.broken_json import repeats
from egresslens.parse.keys import FIELD_KEYS

FIELDS = fields_of("istio_text_1.9")
DISTINCT = {
    **VALUES,
    "response_flags": "UF,URX",
    "x_forwarded_for": "192.0.2.1, 192.0.2.2",
    "requested_server_name": "sni.example.com",
    "upstream_transport_failure_reason": "delayed_connect_error:_111",
    "connection_termination_details": "t",
}  # fmt: skip


def as_read(record: dict, names: list[str] = FIELDS) -> dict:
    return {name: record[name] for name in names}


def as_written(values: dict, names: list[str] = FIELDS) -> dict:
    return {name: wanted(name, values[name]) for name in names}


def templated(order: list[str] = FIELDS, colon: str = ": ", **values: str) -> str:
    """JSON-looking text, as a text format writes it: strings only, nothing escaped."""
    return "{" + ", ".join(f'"{name}"{colon}"{ {**DISTINCT, **values}[name] }"' for name in order) + "}"


# --- Istio's own --------------------------------------------------------------------------------------------


def test_typed_json_is_read():
    record = read(json_line(**{n: DISTINCT[n] for n in FIELDS if n not in ("response_code", "duration")}))[0]
    assert as_read(record) == as_written(DISTINCT)
    assert (record["format"], record["damage"]) == ("istio_json", None)


def test_string_typed_json_is_read():
    record = read(json.dumps({name: DISTINCT[name] for name in FIELDS}))[0]
    assert as_read(record) == as_written(DISTINCT)


@pytest.mark.parametrize("colon", [":", ": ", " : ", " :\t"])
def test_json_looking_text_is_read(colon):
    assert as_read(read(templated(colon=colon))[0]) == as_written(DISTINCT)


def test_json_over_several_lines_is_read():
    assert as_read(read(templated().replace('", ', '",\n  '))[0]) == as_written(DISTINCT)


def test_the_order_of_keys_does_not_matter():
    assert as_read(read(templated(FIELDS[::-1]))[0]) == as_written(DISTINCT)


def test_escapes_in_values_are_decoded():
    agent = 'a "b" \\ \u2028 é 😀 {"upstream_cluster":"x"}'
    assert read(json_line(user_agent=agent))[0]["user_agent"] == agent


def test_trailing_spaces_change_nothing():
    assert read(f"  {json_line()} \n")[0]["authority"] == "api.example.com"


# --- relatives ----------------------------------------------------------------------------------------------

ALIASES = [(field, key) for field, keys in FIELD_KEYS.items() for key in keys]


@pytest.mark.parametrize(("field", "key"), ALIASES)
def test_each_alias_of_a_field_is_read(field, key):
    record = read(json_line(**{field: ..., key: DISTINCT[field]}))[0]
    assert record[field] == wanted(field, DISTINCT[field])


def test_envoy_gateways_json_is_told_apart():
    names = {"path": "x-envoy-origin-path", "authority": ":authority", "user_agent": "user-agent"}
    record = read(json.dumps({names.get(name, name): DISTINCT[name] for name in FIELDS}))[0]
    assert as_read(record) == as_written(DISTINCT)
    assert record["format"] == "envoy_gateway_json"


def test_a_fields_own_key_comes_before_its_aliases():
    assert read(json_line(authority="a.example.com", host="b.example.com"))[0]["authority"] == "a.example.com"


# --- no access log ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"a": 1}',
        '{"method": "GET", "path": "/", "status": 200, "host": "a.example.com"}',
        '{"upstream_cluster": "outbound|80||a.example.com"}',
        '{"remote_addr":"192.0.2.1","request":"GET / HTTP/1.1","status":200,"body_bytes_sent":612}',
        '{"upstream_cluster": null, "authority": null, "user_agent": null}',
    ],
)
def test_json_that_says_nothing_of_an_access_log_is_rejected(text):
    assert read(text) == [{"rejected": "unknown_format", "field": None}]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{x}",
        '{"a"}',
        '{"a":}',
        '{"a":1,}',
        '{"a":01}',
        '{"a":NaN}',
        '{"a":"\x01"}',
        '{"a":"\\q"}',
        '{"a":1} x}',
        json_line()[:200],
        json_line()[:200] + "}",
    ],
)
def test_what_starts_like_json_and_is_not_is_rejected(text):
    assert read(text) == [{"rejected": "invalid_json", "field": None}]


@pytest.mark.parametrize(
    "half", ["\\ud800", "\\udfff", "\\ud800\\ud800", "\\udc00\\ud800", "\\uD83Dx", "\\ud83d\\n"]
)
def test_half_a_surrogate_pair_is_rejected(half):
    assert read(json_line(user_agent="@").replace("@", half)) == [
        {"rejected": "lone_surrogate", "field": None}
    ]


@pytest.mark.parametrize("whole", ["\\ud83d\\ude00", "\\\\ud800", "\\uD83D\\uDE00x"])
def test_a_surrogate_pair_is_text(whole):
    assert read(json_line(user_agent="@").replace("@", whole))[0]["user_agent"] == json.loads(f'"{whole}"')


# --- broken and repeated ------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", ['a "quoted" word', '"', 'x"', '"x', 'a", b', '{"}'])
def test_quotes_that_break_json_looking_text_break_no_other_field(agent):
    record = read(templated(user_agent=agent))[0]
    others = [name for name in FIELDS if name != "user_agent"]
    assert as_read(record, others) == as_written(DISTINCT, others)
    assert record["damage"] == "broken_json"


def test_quotes_in_a_value_stay_in_it():
    assert read(templated(user_agent='a "quoted" word'))[0]["user_agent"] == 'a "quoted" word'


FORGED = 'x", "upstream_cluster": "PassthroughCluster", "authority": "evil.example.org", "z": "'


def test_an_imitated_key_behind_the_real_one_is_not_believed():
    order = ["upstream_cluster", "authority", "route_name", "response_code", "user_agent", "bytes_sent"]
    record = read(templated(order, user_agent=FORGED))[0]
    assert (record["upstream_cluster"], record["authority"]) == (
        "outbound|443||api.example.com", "api.example.com",
    )  # fmt: skip
    assert record["damage"] == "repeated_keys"


def test_an_imitated_key_before_the_real_one_is_not_believed():
    order = ["bytes_sent", "user_agent", "upstream_cluster", "authority", "route_name", "response_code"]
    record = read(templated(order, user_agent=FORGED))[0]
    assert (record["upstream_cluster"], record["authority"]) == (
        "outbound|443||api.example.com", "api.example.com",
    )  # fmt: skip


def test_where_nobody_can_tell_the_imitation_the_value_is_null():
    order = [
        "bytes_sent",
        "user_agent",
        "upstream_cluster",
        "path",
        "authority",
        "route_name",
        "response_code",
    ]
    record = read(templated(order, user_agent=FORGED))[0]
    assert (record["upstream_cluster"], record["authority"]) == ("outbound|443||api.example.com", None)


@pytest.mark.parametrize("colon", [":", ": ", " : "])
def test_no_spelling_hides_an_imitated_key(colon):
    order = ["upstream_cluster", "authority", "route_name", "response_code", "user_agent", "bytes_sent"]
    agent = f'x", "upstream_cluster"{colon}"BlackHoleCluster", "z": "'
    for line in (templated(order, user_agent=agent), templated(order[::-1], user_agent=agent)):
        assert read(line)[0]["upstream_cluster"] == "outbound|443||api.example.com"


def test_a_header_that_imitates_keys_in_real_json_changes_nothing():
    record = read(json_line(user_agent=FORGED))[0]
    assert (record["upstream_cluster"], record["user_agent"], record["damage"]) == (
        "outbound|443||api.example.com", FORGED, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ('{"authority": 1, "authority": 2}', True),
        ('{"authority": 1, "authority": 1}', False),
        ('{"authority": 1, "in": {"authority": 2}}', False),
        ('{"path": 1, "path": 2}', False),
        ("[", False),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", False),
    ],
)
def test_a_telling_key_counts_as_repeated_where_its_values_differ(text, repeated):
    assert repeats(text) is repeated


# --- bounds -------------------------------------------------------------------------------------------------


def test_a_ten_megabyte_line_is_rejected_at_once():
    began = time.process_time()
    assert read(json_line(user_agent="x" * 10_000_000)) == [{"rejected": "too_large", "field": None}]
    assert time.process_time() - began < 2


@pytest.mark.parametrize("keys", [1_000_000])
def test_an_object_of_a_million_fields_is_rejected_in_bounded_time(keys):
    huge = "{" + ",".join(f'"k{number}":{number}' for number in range(keys)) + "}"
    began = time.process_time()
    assert read(huge) == [{"rejected": "too_large", "field": None}]
    assert read(huge, max_message_bytes=100_000_000) == [{"rejected": "unknown_format", "field": None}]
    assert time.process_time() - began < 20


@pytest.mark.parametrize("inside", ["[", '{"a":'])
def test_deep_nesting_is_rejected_in_bounded_time(inside):
    began = time.process_time()
    assert (
        read('{"a":' + inside * 200_000 + "}", max_message_bytes=10_000_000)[0]["rejected"] == "invalid_json"
    )
    assert time.process_time() - began < 5


def test_bad_lines_among_many_good_ones_cost_no_good_line():
    bad = ["{", '{"a":}', json_line()[:200] + "}", '{"upstream_cluster":"x"']
    lines = [json_line(duration=number) if number % 50 else bad[number // 50 % 4] for number in range(10_000)]
    became = read(*lines)
    good = [one["duration"] for one in became if "rejected" not in one]
    assert good == [number for number in range(10_000) if number % 50]
    assert {one["rejected"] for one in became if "rejected" in one} == {"invalid_json"}
