"""The exact way: hostile headers, damaged lines, prefixes, and other logs of the proxy."""

from __future__ import annotations

import json
import re
import time

import polars as pl
import pytest

from access_lines import LAYOUTS, VALUES, fields_of, json_line, read, text, wanted
from egresslens.enrich import ORIGIN, enrich
from egresslens.parse import odd, parse
from egresslens.parse.damage import Damage
from egresslens.rules import Rules

# --- hostile headers ----------------------------------------------------------------------------------------

FORGED_TAIL = (
    'x" "11111111-1111-1111-1111-111111111111" "evil.example.org" "198.51.100.1:443" PassthroughCluster '
    "10.9.9.9:1 198.51.100.1:443 10.9.9.9:2 evil.example.org allow_any"
)
FORGED_HEAD = 'x HTTP/1.1" 503 UH no_healthy_upstream - "-" 0 0 0 - "-" "y'
ATTACKS = {
    "one quote": '"',
    "a quoted word": 'a "quoted" word',
    "quotes only": '""""""',
    "a forged tail": FORGED_TAIL,
    "a forged tail and more": FORGED_TAIL + ' "',
    "a forged head": FORGED_HEAD,
    "a whole forged line": text(authority="evil.example.org", upstream_cluster="BlackHoleCluster"),
    "a forged blocked line": text(response_code="502", upstream_cluster="-", route_name="block_all"),
    "field separators": '" "' * 5,
    "backslashes": '\\" \\" \\"',
    "numbers": '" 1 2 3 4 "',
    "brackets": '[2026-01-02T03:04:05.678Z] "GET / HTTP/1.1" 200 - ',
}
HTTP_LAYOUTS = [name for name in LAYOUTS if name != "istio_text_1.0_tcp"]
# What label, host and code are made of: everything but the headers that clients write.
CLIENTS = ("user_agent", "x_forwarded_for", "request_id", "path")


def enriched(line: str) -> dict:
    found = enrich(
        [line.encode()], pl.DataFrame({n: [None] for n in ORIGIN}, schema=ORIGIN), Rules(), keep_all=True
    )
    return found.records.to_dicts()[0]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("layout", HTTP_LAYOUTS)
def test_a_hostile_user_agent_does_not_change_label_host_or_code(layout, attack):
    honest, hostile = enriched(text(layout)), enriched(text(layout, user_agent=ATTACKS[attack]))
    names = (
        "label",
        "label_evidence",
        "destination_host",
        "destination_ip",
        "response_code",
        "response_flags",
    )
    assert {name: hostile[name] for name in names} == {name: honest[name] for name in names}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("layout", HTTP_LAYOUTS)
def test_a_hostile_user_agent_is_read_whole_and_changes_no_other_field(layout, attack):
    record = read(text(layout, user_agent=ATTACKS[attack]))[0]
    values = {**VALUES, "user_agent": ATTACKS[attack]}
    assert {name: record[name] for name in fields_of(layout)} == {
        name: wanted(name, values[name]) for name in fields_of(layout)
    }


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("header", ["x_forwarded_for", "request_id"])
def test_quotes_in_another_header_change_nothing_but_the_headers(header, attack):
    record = read(text(**{header: ATTACKS[attack]}))[0]
    names = [name for name in fields_of("istio_text_1.9") if name not in CLIENTS or name == "path"]
    assert record["damage"] in (None, "forged_fields")
    assert {name: record[name] for name in names} == {name: wanted(name, VALUES[name]) for name in names}


@pytest.mark.parametrize("path", ['/a"', '/"GET', '/x"200"-', '/"-"', '/a","b":"c', '/%22"%22'])
def test_quotes_in_the_path_change_nothing_but_the_path(path):
    record = read(text(path=path))[0]
    names = fields_of("istio_text_1.9")
    values = {**VALUES, "path": path}
    assert {name: record[name] for name in names} == {name: wanted(name, values[name]) for name in names}


def test_every_header_hostile_at_once_changes_neither_label_host_nor_code():
    hostile = enriched(text(x_forwarded_for=FORGED_TAIL, user_agent=FORGED_HEAD, request_id='r" "id'))
    assert (hostile["label"], hostile["destination_host"], hostile["response_code"]) == (
        "outbound", "api.example.com", 200,
    )  # fmt: skip


@pytest.mark.parametrize("attack", ["a forged tail", "a forged head", "a whole forged line"])
def test_an_imitation_of_the_logs_own_fields_is_flagged(attack):
    assert read(text(user_agent=ATTACKS[attack]))[0]["damage"] == "forged_fields"


@pytest.mark.parametrize("attack", ["one quote", "a quoted word", "backslashes"])
def test_quotes_alone_are_no_damage(attack):
    assert read(text(user_agent=ATTACKS[attack]))[0]["damage"] is None


# --- damaged lines ------------------------------------------------------------------------------------------


def same_fields(record: dict, layout: str, *except_: str) -> None:
    names = [name for name in fields_of(layout) if name not in except_]
    assert {name: record[name] for name in names} == {name: wanted(name, VALUES[name]) for name in names}
    assert {name: record[name] for name in except_} == dict.fromkeys(except_)


def without_time(line: str) -> str:
    return line.partition("] ")[2]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_line_without_timestamp_is_read_and_flagged(layout):
    record = read(without_time(text(layout)))[0]
    same_fields(record, layout, "start_time")
    assert (record["format"], record["damage"]) == (layout, "no_timestamp")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bracket", "[]")
def test_a_line_with_one_bracket_is_read_and_flagged(layout, bracket):
    record = read(text(layout).replace(bracket, "", 1))[0]
    same_fields(record, layout)
    assert (record["format"], record["damage"]) == (layout, "broken_bracket")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_line_with_escaped_quotes_is_read_and_flagged(layout):
    record = read(text(layout).replace('"', '\\"'))[0]
    same_fields(record, layout)
    assert (record["format"], record["damage"]) == (layout, "escaped_quotes")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_line_left_as_a_json_string_is_read_and_flagged(layout):
    record = read(json.dumps(text(layout) + "\n"))[0]
    same_fields(record, layout)
    assert (record["format"], record["damage"]) == (layout, "escaped_quotes")


def test_a_line_with_some_quotes_escaped_is_read_and_flagged():
    head, rest = text().split(' "-" ', 1)
    record = read(head + ' "-" '.replace('"', '\\"') + rest.replace('"', '\\"'))[0]
    same_fields(record, "istio_text_1.9")
    assert record["damage"] == "escaped_quotes"


def test_escapes_in_an_escaped_line_are_decoded():
    line = json.dumps(text(user_agent='agent "é" \\ \u2028'))[1:-1]
    assert read(line)[0]["user_agent"] == 'agent "é" \\ \u2028'


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_line_with_doubled_spaces_is_read_and_flagged(layout):
    record = read(text(layout, user_agent="curl/8.5.0").replace(" ", "  "))[0]
    same_fields(record, layout)
    assert record["damage"] == "odd_spaces"


def test_a_line_broken_in_two_is_read_and_flagged():
    record = read(text().replace('" "api.example.com"', '"\n  "api.example.com"'))[0]
    same_fields(record, "istio_text_1.9")
    assert record["damage"] == "odd_spaces"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_line_broken_at_any_space_of_its_tail_is_the_same_line(layout):
    line = text(layout, user_agent="curl/8.5.0")
    places = [at for at in range(line.rindex('"'), len(line)) if line[at] == " "]
    for at in places:
        same_fields(read(f"{line[:at]}\n{line[at + 1 :]}")[0], layout)


def test_a_time_on_a_line_of_its_own_belongs_to_the_next():
    [record] = read(text().replace("] ", "]\n", 1))
    same_fields(record, "istio_text_1.9")


def test_what_stands_around_a_pasted_line_is_left_out():
    [record] = read(f"```text\n{text()}\n```")
    same_fields(record, "istio_text_1.9")


@pytest.mark.parametrize("quote", ["", '"'])
def test_json_with_escaped_quotes_is_the_same_record(quote):
    line = json_line()
    assert read(quote + json.dumps(line)[1:-1] + quote) == [{**read(line)[0], "damage": "escaped_quotes"}]


def test_json_over_several_lines_with_escaped_quotes_is_the_same_record():
    line = json.dumps(json.loads(json_line()), indent=1).replace('"', '\\"')
    assert read(line) == [{**read(json_line())[0], "damage": "escaped_quotes"}]


def test_an_envelope_with_escaped_quotes_gives_its_line_flagged():
    envelope = json.dumps({"log": json_line(), "stream": "stdout"})
    assert read(json.dumps(envelope)[1:-1])[0]["damage"] == "escaped_quotes"


@pytest.mark.parametrize("key", ["log", "message", "msg", "textPayload"])
def test_json_that_an_envelope_carries_as_a_string_is_no_damage(key):
    assert read(json.dumps({key: json_line(), "stream": "stdout"}))[0]["damage"] is None


def test_a_line_beside_one_with_escaped_quotes_is_not_flagged():
    first, second = parse(
        [f"{json.dumps(json_line())[1:-1]}\n{json_line()}".encode()], Rules()
    ).records.to_dicts()
    assert (first["damage"], second["damage"]) == ("escaped_quotes", None)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_line_whose_quotes_are_escaped_twice_is_read_and_flagged(layout):
    record = read(text(layout).replace('"', '\\\\\\"'))[0]
    same_fields(record, layout)
    assert record["damage"] == "escaped_quotes"


STRAYS = ["`", "'", '"', ",", "',", '",', "**", "\\n", "\\r\\n"]


@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_sticks_to_a_lines_end_is_left_out_and_flagged(layout, stray):
    record = read(text(layout) + stray)[0]
    same_fields(record, layout)
    assert record["damage"] == "stray_end"


@pytest.mark.parametrize("stray", ["`", "'", '"', ",", "',", '",'])
def test_what_sticks_to_an_objects_end_is_left_out_and_flagged(stray):
    assert read(json_line() + stray) == [{**read(json_line())[0], "damage": "stray_end"}]


@pytest.mark.parametrize("mark", ["`", "'"])
@pytest.mark.parametrize("line", [text(), json_line()], ids=["text", "json"])
def test_a_line_between_quotes_of_another_kind_is_the_same_record(line, mark):
    assert read(f"{mark}{line}{mark}") == [{**read(line)[0], "damage": "stray_end"}]


def test_objects_with_commas_between_them_are_their_records():
    found = parse([f"{json_line()},\n{json_line()},\n{json_line()}".encode()], Rules())
    assert (found.records.height, found.rejects.height) == (3, 0)


def test_a_byte_order_mark_before_an_object_is_no_part_of_it():
    assert read("\ufeff" + json_line()) == read(json_line())


def test_a_line_with_markdowns_escapes_is_read_and_flagged():
    record = read(re.sub(r"([\[\]_|])", r"\\\1", text()))[0]
    same_fields(record, "istio_text_1.9")
    assert record["damage"] == "markup"


def test_emphasis_over_words_of_a_line_is_left_out_and_flagged():
    record = read(text().replace(" 200 - via", " **200 -** via"))[0]
    same_fields(record, "istio_text_1.9")
    assert record["damage"] == "markup"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("```\n...", id="fences around nothing"),
        *(pytest.param(text() + " x" * words, id=f"{words} words behind") for words in (1, 1_000, 100_000)),
        pytest.param(
            text(user_agent="\ud7ff").replace('"', '\\"').replace("\ud7ff", "\\ud800"), id="surrogate"
        ),
        pytest.param(f'"{text()[:-1]}\\ud800"', id="surrogate in a string"),
    ],
)
def test_a_hostile_line_is_one_record_or_one_reject(line):
    found = parse([line.encode()], Rules())
    assert found.records.height + found.rejects.height == 1


@pytest.mark.parametrize("line", ['{\\"a\\": \\"\\ud800\\"}', '"{\\"', '"{', "{\\"])
def test_what_only_looks_like_escaped_json_is_rejected(line):
    assert parse([line.encode()], Rules()).rejects.height == 1


@pytest.mark.parametrize(("left", "right"), [("\u201c", "\u201d"), ("&quot;", "&quot;")])
def test_quotes_of_text_editors_and_web_pages_are_read_and_flagged(left, right):
    pieces = text().split('"')
    line = "".join(piece + (left if index % 2 == 0 else right) for index, piece in enumerate(pieces[:-1]))
    record = read(line + pieces[-1])[0]
    same_fields(record, "istio_text_1.9")
    assert record["damage"] == "odd_quotes"


def test_a_line_without_its_route_is_read_and_flagged():
    record = read(text().removesuffix(" default"))[0]
    same_fields(record, "istio_text_1.9", "route_name")
    assert record["damage"] == "missing_fields"


def test_a_line_without_the_end_of_its_tail_is_read_and_flagged():
    record = read(text().removesuffix(" 10.0.0.9:40000 - default"))[0]
    same_fields(record, "istio_text_1.9", "downstream_remote_address", "route_name")
    assert record["damage"] == "missing_fields"


def test_a_line_without_its_cluster_is_read_and_flagged():
    record = read(
        text(requested_server_name="sni.example.com").replace(" outbound|443||api.example.com", "")
    )[0]
    assert (record["upstream_cluster"], record["downstream_local_address"], record["route_name"]) == (
        None, "203.0.113.7:443", "default",
    )  # fmt: skip
    assert record["damage"] == "missing_fields"


def test_a_line_without_one_of_its_numbers_keeps_the_fields_around_them():
    record = read(text().replace(" 11 22 33 32 ", " 11 22 33 "))[0]
    names = (
        "response_code",
        "response_code_details",
        "user_agent",
        "authority",
        "upstream_cluster",
        "route_name",
    )
    assert {name: record[name] for name in names} == {name: wanted(name, VALUES[name]) for name in names}
    assert record["damage"] == "missing_fields"


def test_a_line_without_its_first_quote_is_read_and_flagged():
    record = read(text().replace('"', "", 1))[0]
    same_fields(record, "istio_text_1.9")
    assert record["damage"] == "missing_fields"


@pytest.mark.parametrize(
    "cut",
    ['4:05.678Z] "GET', "/items HTTP", "200 - via", '"-" 11 22', "22 33 32", '"curl/8.5.0"', '"0b5a3f0e'],
)
def test_a_line_without_its_head_keeps_its_tail_and_is_flagged(cut):
    line = text()
    record = read(line[line.index(cut) :])[0]
    names = ("authority", "upstream_host", "upstream_cluster", "downstream_local_address", "route_name")
    assert {name: record[name] for name in names} == {name: wanted(name, VALUES[name]) for name in names}
    assert "truncated_head" in record["damage"]


def test_a_truncated_head_takes_no_status_out_of_a_header():
    line = text(user_agent=FORGED_HEAD)
    assert read(line[line.index('"-" 11 22') :])[0]["response_code"] is None


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_a_line_without_its_tail_is_rejected(share):
    line = text()
    assert read(line[: int(len(line) * share)]) == [{"rejected": "unknown_format", "field": None}]


def test_two_damages_are_both_named():
    record = read(without_time(text()).replace('"', '\\"'))[0]
    assert record["damage"] == "escaped_quotes,no_timestamp"


def test_two_lines_in_one_message_are_two_records():
    lines = [text(path="/one"), text(path="/two", upstream_cluster="PassthroughCluster")]
    rows = parse(["\n".join(lines).encode()], Rules()).records.to_dicts()
    assert [(row["path"], row["upstream_cluster"]) for row in rows] == [
        ("/one", "outbound|443||api.example.com"), ("/two", "PassthroughCluster"),
    ]  # fmt: skip


def test_one_lines_head_is_never_read_with_anothers_tail():
    first = text(path="/one")
    assert odd.read(first[: len(first) // 2] + "\n" + text(path="/two")) is None


@pytest.mark.parametrize("damage", Damage)
def test_damage_names_are_short_words(damage):
    assert damage.value.replace("_", "").isalpha()


# --- prefixes -----------------------------------------------------------------------------------------------

STAMP = "2026-01-02T03:04:06.123456789Z"
PREFIXES = {
    "cri": f"{STAMP} stdout F ",
    "cri stderr": f"{STAMP} stderr F ",
    "cri with offset": "2026-01-02T12:04:06.123456789+09:00 stdout F ",
    "kubectl --timestamps": f"{STAMP} ",
    "kubectl --prefix": "[pod/web-7c9f8d6b5-x2x7q/istio-proxy] ",
    "kubectl --prefix --timestamps": f"[pod/web-7c9f8d6b5-x2x7q/istio-proxy] {STAMP} ",
    "stern": "web-7c9f8d6b5-x2x7q istio-proxy ",
    "stern in colour": "\x1b[32mweb-7c9f8d6b5-x2x7q\x1b[0m \x1b[92mistio-proxy\x1b[0m ",
    "stern over all namespaces": "shop web-7c9f8d6b5-x2x7q istio-proxy ",
    "docker compose": f"envoy-1           | {STAMP} ",
    "docker compose without time": "envoy-1  | ",
    "syslog": "Jan  2 03:04:06 node-1 envoy[123]: ",
    "ambassador": "ACCESS ",
}
TIMED = [name for name in PREFIXES if "03:04:06.1234" in PREFIXES[name] or "+09:00" in PREFIXES[name]]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("layout", ["istio_text_1.9", "envoy_text_details"])
def test_a_prefix_changes_no_field(prefix, layout):
    record = read(PREFIXES[prefix] + text(layout))[0]
    same_fields(record, layout)
    assert (record["format"], record["damage"]) == (layout, None)


@pytest.mark.parametrize("prefix", [name for name in PREFIXES if name not in ("kubectl --prefix", "syslog")])
def test_a_prefix_may_stand_before_json(prefix):
    record = read(PREFIXES[prefix] + json_line())[0]
    assert (record["format"], record["authority"]) == ("istio_json", "api.example.com")


@pytest.mark.parametrize("prefix", TIMED)
def test_the_prefixs_time_is_the_envelopes(prefix):
    record = read(PREFIXES[prefix] + text())[0]
    assert f"{record['envelope_time']:%Y-%m-%dT%H:%M:%S.%f}" == "2026-01-02T03:04:06.123000"


@pytest.mark.parametrize("prefix", [name for name in PREFIXES if "web-7c9f8d6b5-x2x7q" in PREFIXES[name]])
def test_the_prefixs_pod_is_the_source(prefix):
    record = read(PREFIXES[prefix] + text())[0]
    assert (record["source_pod"], record["source_workload"]) == ("web-7c9f8d6b5-x2x7q", "web")


def test_the_prefixs_namespace_is_the_sources():
    assert read(PREFIXES["stern over all namespaces"] + text())[0]["source_namespace"] == "shop"


@pytest.mark.parametrize("prefix", ["stern", "kubectl --timestamps", "docker compose", "ambassador"])
def test_a_prefix_may_stand_before_a_line_without_timestamp(prefix):
    record = read(PREFIXES[prefix] + without_time(text()))[0]
    same_fields(record, "istio_text_1.9", "start_time")
    assert record["damage"] == "no_timestamp"


def test_a_start_time_that_lost_both_brackets_is_no_prefix():
    record = read(text().replace("[", "", 1).replace("]", "", 1))[0]
    assert (record["start_time"], record["damage"]) == (VALUES["start_time"], "broken_bracket")


def test_a_prefix_before_nothing_is_empty():
    assert read(f"{STAMP} stdout F ") == [{"rejected": "empty", "field": None}]


# --- other logs of the proxy --------------------------------------------------------------------------------

PROXY_LOGS = {
    "agent": "2026-01-02T03:04:05.678901Z\tinfo\txdsproxy\tconnected to upstream XDS server",
    "agent without scope": '2026-01-02T03:04:05.678901Z\tinfo\tFLAG: --concurrency="2"',
    "envoy through the agent": "2026-01-02T03:04:05.678901Z\twarning\tenvoy config\tgRPC stream closed: 14",
    "envoy": "[2026-01-02 03:04:05.678][12][warning][config] [source/x.cc:101] stream closed: 14",
    "envoy with an imitation": '[2026-01-02 03:04:05.678][12][debug][http] [C1] "GET / HTTP/1.1" 200 - x',
    "agent with an imitation": f"2026-01-02T03:04:05.678901Z\terror\tx\t{text()}",
    "agent behind cri": f"{STAMP} stdout F 2026-01-02T03:04:05.678901Z\tinfo\tads\tpush",
    "agent behind kubectl": f"{STAMP} 2026-01-02T03:04:05.678901Z\tinfo\tads\tpush",
    "agent behind stern": "web-7c9f8d6b5-x2x7q istio-proxy 2026-01-02T03:04:05.678901Z\tinfo\tads\tpush",
    "agent json": '{"level":"info","time":"2026-01-02T03:04:05.678901Z","scope":"ads","msg":"push"}',
    "agent json without scope": '{"level":"info","time":"2026-01-02T03:04:05.678901Z","msg":"FLAG: --x"}',
    "envoy json": '{"level":"warning","time":"2026-01-02T03:04:05.6Z","scope":"envoy config","msg":"closed"}',
    "ztunnel": "2026-01-02T03:04:05.678901Z\tinfo\tstate_manager\tpod received, starting proxy",
    "ztunnel's dns": '2026-01-02T03:04:05.678901Z\tdebug\tdns\tdomain="a.example.com" endpoints=1',
    "ztunnel json": '{"level":"info","time":"2026-01-02T03:04:05Z","scope":"ztunnel","message":"ready"}',
}


@pytest.mark.parametrize("log", PROXY_LOGS)
def test_the_proxys_own_log_is_filtered(log):
    assert read(PROXY_LOGS[log]) == [{"filtered": "proxy_log"}]


# --- bounds -------------------------------------------------------------------------------------------------

MEGABYTE = 1_000_000
LONG = {
    "quotes": text() + '"' * MEGABYTE,
    "quotes and spaces": text() + '" ' * (MEGABYTE // 2),
    "separators": text(user_agent='" "' * (MEGABYTE // 3)),
    "heads": text(user_agent='x HTTP/1.1" 200 - ' * (MEGABYTE // 18)),
    "numbers": text(user_agent='" 1 2 3 4 "' * (MEGABYTE // 11)),
    "flags": '[x] "GET / HTTP/1.1" 200 ' + "UF," * (MEGABYTE // 3),
    "braces": text(response_code_details="{" * MEGABYTE),
    "spaces in braces": text(response_code_details="x{" + " " * MEGABYTE + "}"),
    "backslashes": '[x] \\"' + "\\" * MEGABYTE,
    "escaped quotes": '[x] \\"GET' + ' \\"' * (MEGABYTE // 3),
    "spaces": "[x] " + " " * MEGABYTE + '"',
    "words": "a " * (MEGABYTE // 2),
    "brackets": "[" * MEGABYTE,
    "no line": "x" * MEGABYTE,
    "a long word and a quote": "x" * MEGABYTE + '"',
    "a prefix without end": "a" * 200 + " " + '"-' * (MEGABYTE // 2),
    "digits": "2026-01-02T03:04:05.678Z " + "1" * MEGABYTE,
    "key=value": "2026-01-02T03:04:05.6Z info access connection complete" + ' a="\\"' * (MEGABYTE // 7),
    "entities": "[x] " + "&quot;" * (MEGABYTE // 6),
    "newlines": "x\n" * (MEGABYTE // 2),
    "json keys": '{"upstream_cluster":"x' + '","a":"' * (MEGABYTE // 7) + "}",
    "broken json": '{"upstream_cluster":"x' + '"' * MEGABYTE + "}",
}


@pytest.mark.parametrize("kind", LONG)
def test_a_hostile_megabyte_is_read_in_bounded_time(kind):
    began = time.process_time()
    read(LONG[kind], max_message_bytes=2 * MEGABYTE)
    # A second is a hundred times what an honest megabyte takes; what is not linear takes minutes.
    assert time.process_time() - began < 5


def test_a_megabyte_of_quotes_in_a_user_agent_is_still_an_honest_record():
    record = read(LONG["separators"], max_message_bytes=2 * MEGABYTE)[0]
    assert (record["response_code"], record["authority"]) == (200, "api.example.com")
