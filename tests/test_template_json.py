"""JSON formats: keys of an operator's own, with either encoding."""

import json

import pytest

import envoy_format
from egresslens.parse import parse
from egresslens.rules import Rules

TEMPLATE = {
    "ts": "%START_TIME(%s.%3f)%",
    "took": "%DURATION%ms",
    "call": {"cluster": "%UPSTREAM_CLUSTER%", "code": "%RESPONSE_CODE%"},
    "names": ["%REQ(:AUTHORITY)%", "%REQUESTED_SERVER_NAME%"],
    "agent": "%REQ(USER-AGENT)%",
    "kind": "access",
    "version": 2,
}
SOURCE = json.dumps(TEMPLATE, separators=(",", ":"))
RULES = Rules(log_format=SOURCE)
LINE = (
    '{"agent":"curl","names":["a.com",null],"version":2,"ts":"1767323045.678","kind":"access",'
    '"took":"12ms","call":{"code":200,"cluster":"outbound|80||a.com;"}}'
)


def parsed(line, rules=RULES):
    return parse([line.encode()], rules)


def record(line, rules=RULES):
    (found,) = parsed(line, rules).records.rows(named=True)
    return found


def deciding(found):
    return [
        found[name] for name in ("format", "response_code", "upstream_cluster", "authority", "duration_ms")
    ]


def test_keys_are_found_in_any_order_and_depth():
    assert deciding(record(LINE)) == ["custom_1", 200, "outbound|80||a.com;", "a.com", 12]
    assert record(LINE)["start_time"].timestamp() == 1767323045.678


def test_typed_and_text_values_mean_the_same():
    assert record(LINE.replace("200", '"200"').replace("null", '"-"')) == record(LINE)


def test_escapes_are_undone():
    assert record(LINE.replace("curl", r"a\"b\\c\u00e9\n"))["user_agent"] == 'a"b\\cé\n'


def test_large_numbers_that_were_printed_as_floats_are_read():
    rules = Rules(log_format='{"sent": "%BYTES_SENT%"}')
    assert record('{"sent":2.480891e+06}', rules)["bytes_sent"] == 2480891


def test_keys_that_omit_empty_values_left_out_are_null():
    rules = Rules(log_format='{"code": "%RESPONSE_CODE%", "sni": "%REQUESTED_SERVER_NAME%"}')
    assert record('{"code":200}', rules)["requested_server_name"] is None


def test_a_list_that_lost_an_element_is_not_guessed_at():
    assert record(LINE.replace("null", "").replace('"a.com",', '"a.com"'))["authority"] is None


@pytest.mark.parametrize(
    "line",
    [
        LINE.replace('"kind":"access"', '"kind":"other"'),
        LINE.replace('"version":2', '"version":3'),
        LINE.replace('"ts":"1767323045.678",', ""),
        LINE.replace('"took":"12ms"', '"took":"12s"'),
        LINE.replace('{"code":200,"cluster":"outbound|80||a.com;"}', '"text"'),
    ],
)
def test_an_object_that_fits_in_part_is_of_no_custom_format(line):
    assert "custom_1" not in parsed(line).records["format"].to_list()


def test_default_json_is_read_beside_a_json_format():
    line = '{"start_time":"2026-01-02T03:04:05.678Z","upstream_cluster":"c","authority":"a.com"}'
    assert "custom" not in record(line)["format"]


def test_the_first_json_format_that_fits_wins():
    rules = Rules(log_format=('{"a":"%RESPONSE_CODE%","b":"%ROUTE_NAME%"}', '{"a":"%RESPONSE_CODE%"}'))
    found = parse([b'{"a":200,"b":"r"}', b'{"a":200}'], rules).records
    assert found["format"].to_list() == ["custom_1", "custom_1"]
    rules = Rules(log_format=('{"a":"%RESPONSE_CODE%","kind":"x"}', '{"a":"%RESPONSE_CODE%"}'))
    found = parse([b'{"a":200,"kind":"x"}', b'{"a":200}'], rules).records
    assert found["format"].to_list() == ["custom_1", "custom_2"]


# --- with TEXT encoding, nothing is escaped -----------------------------------------------------------------


def text_line(agent, code=502):
    return envoy_format.text(
        SOURCE,
        {
            "START_TIME(%s.%3f)": "1767323045.678",
            "DURATION": 12,
            "UPSTREAM_CLUSTER": "BlackHoleCluster",
            "RESPONSE_CODE": code,
            "REQ(:AUTHORITY)": "good.com",
            "REQ(USER-AGENT)": agent,
        },
    )


@pytest.mark.parametrize(
    "agent",
    [
        "curl",
        'a"b',
        'a","call":{"cluster":"PassthroughCluster","code":200},"names":["evil.com","-"],"agent":"b',
        'a","kind":"access","version":2}',
        '"',
        "back\\slash",
        'a" "',
    ],
)
def test_a_hostile_user_agent_forges_nothing_in_json_that_was_written_as_text(agent):
    found = record(text_line(agent))
    assert deciding(found) == ["custom_1", 502, "BlackHoleCluster", "good.com", 12]


def test_a_value_under_a_repeated_key_that_cannot_be_told_is_marked():
    line = LINE.replace('"call":', '"call":{"code":500},"call":')
    assert record(line)["damage"] == "repeated_keys"


def test_json_over_several_lines_is_one_record():
    source = json.dumps({"code": "%RESPONSE_CODE%", "ua": "%REQ(USER-AGENT)%"}, indent=2)
    rules = Rules(log_format=source)
    line = source.replace("%RESPONSE_CODE%", "200").replace("%REQ(USER-AGENT)%", 'a"b')
    assert (record(line, rules)["response_code"], record(line, rules)["user_agent"]) == (200, 'a"b')


# --- envelopes ----------------------------------------------------------------------------------------------

KUBERNETES = '"kubernetes":{"pod_name":"web-7c9f8d6b5-x2x7q","namespace_name":"shop","container_name":"%s"}'


def test_keys_that_a_shipper_lifted_beside_its_own_are_read_with_its_source():
    found = record(LINE[:-1] + "," + KUBERNETES % "istio-proxy" + "}")
    assert deciding(found)[0] == "custom_1"
    assert (found["source_workload"], found["source_namespace"]) == ("web", "shop")


def test_records_of_other_containers_are_filtered():
    result = parsed(LINE[:-1] + "," + KUBERNETES % "app" + "}")
    assert result.filtered["reason"].to_list() == ["other_container"]


@pytest.mark.parametrize(("key", "payload"), [("log", LINE), ("log_processed", json.loads(LINE))])
def test_a_payload_in_an_envelope_is_read(key, payload):
    found = record(json.dumps({key: payload, "stream": "stdout"}))
    assert deciding(found) == deciding(record(LINE))


@pytest.mark.parametrize(
    "line", ['{"ts":', "{}", '{"ts":null}', '{"ts":"\\ud800"}', "{" * 1000, '{"ts":' + "[" * 5000 + "}"]
)
def test_broken_objects_lose_nothing_and_raise_nothing(line):
    result = parsed(line)
    assert result.records.height + result.rejects.height + result.filtered.height == 1
