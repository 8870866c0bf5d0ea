"""Lines that a container runtime split, across messages of one partition."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egresslens.parse import parse
from egresslens.parse.partials import DOCKER_PIECE, Partials
from egresslens.rules import Rules

LINE = (
    '[2026-01-02T03:04:05.678Z] "GET /v1/charges HTTP/1.1" 200 - via_upstream - "-" 0 512 14 13 "-" '
    '"curl/8" "2a8f6f1e-0001-4c52-9d5e-1f0a8a2b8f11" "api.stripe.com" "54.187.174.169:443" '
    "outbound|443||api.stripe.com 10.0.1.7:41234 54.187.174.169:443 10.0.1.7:51234 - default"
)
TIME = "2026-01-02T03:04:05.123456789Z"


def cri(text, tag, stream="stdout"):
    return f"{TIME} {stream} {tag} {text}".encode()


def fluent_bit(text, tag, pod="web-1", stream="stdout", key="logtag"):
    return json.dumps(
        {
            "log": text,
            "stream": stream,
            key: tag,
            "kubernetes": {"pod_name": pod, "namespace_name": "shop", "container_name": "istio-proxy"},
        }
    ).encode()


def docker(text, pod="web-1"):
    return json.dumps(
        {"log": text, "stream": "stdout", "kubernetes": {"pod_name": pod, "namespace_name": "shop"}}
    ).encode()


def joined(*values, **bounds):
    return Partials(**bounds).join(range(len(values)), list(values))


def log_of(value):
    return json.loads(value)["log"]


def test_parts_of_a_cri_line_become_one_line_in_the_message_that_completes_it():
    found = joined(cri(LINE[:100], "P"), cri(LINE[100:200], "P"), cri(LINE[200:], "F"))
    assert found.values[2] == cri(LINE, "F")
    assert list(found.partial) == [0, 1]
    assert not found.unfinished


def test_a_joined_line_parses_like_the_line_that_was_never_split():
    found = joined(cri(LINE[:100], "P"), cri(LINE[100:], "F"))
    records = parse([found.values[1]], Rules()).records
    assert records.equals(parse([cri(LINE, "F")], Rules()).records)
    assert records["upstream_cluster"].to_list() == ["outbound|443||api.stripe.com"]


SPLIT_INSIDE = {
    "cri": [cri(LINE[:100], "P"), cri(LINE[100:200], "P"), cri(LINE[200:], "F")],
    "fluent bit": [fluent_bit(LINE[:100], "P"), fluent_bit(LINE[100:], "F")],
    "docker": [docker("x" * DOCKER_PIECE), docker("y\n")],
}


@pytest.mark.parametrize("kind", SPLIT_INSIDE)
def test_parts_inside_one_message_are_one_line_of_it(kind):
    parts = SPLIT_INSIDE[kind]
    assert joined(b"\n".join(parts)).values == [joined(*parts).values[-1]]


def test_a_message_whose_parts_are_complete_inside_is_no_part():
    assert not joined(b"\n".join([cri(LINE[:100], "P"), cri(LINE[100:], "F")])).partial


def test_other_lines_of_the_message_stay_where_they_are():
    first, last = cri(LINE.replace("GET", "PUT"), "F"), cri(LINE.replace("GET", "HEAD"), "F")
    found = joined(b"\n".join([first, cri(LINE[:100], "P"), cri(LINE[100:], "F"), last]))
    assert found.values == [b"\n".join([first, cri(LINE, "F"), last])]


def test_two_streams_split_inside_one_message_are_told_apart():
    out, err = LINE, LINE.replace("GET", "PUT")
    parts = [
        cri(out[:99], "P"),
        cri(err[:99], "P", "stderr"),
        cri(err[99:], "F", "stderr"),
        cri(out[99:], "F"),
    ]
    assert joined(b"\n".join(parts)).values == [b"\n".join([cri(err, "F", "stderr"), cri(out, "F")])]


def test_a_part_beside_other_lines_of_its_message_waits_for_no_other_message():
    value = b"\n".join([cri(LINE, "F"), cri(LINE[:100], "P")])
    partials = Partials()
    assert (partials.join([0], [value]).values, partials.oldest_open) == ([value], None)


def test_a_message_that_ends_a_line_may_hold_a_split_one_as_well():
    value = b"\n".join([cri(LINE[100:], "F"), cri(LINE[:50], "P"), cri(LINE[50:], "F")])
    assert joined(cri(LINE[:100], "P"), value).values[1] == b"\n".join([cri(LINE, "F"), cri(LINE, "F")])


def test_parsing_alone_joins_the_parts_of_one_message():
    found = parse([b"\n".join([cri(LINE[:100], "P"), cri(LINE[100:], "F")])], Rules()).records
    assert found.equals(parse([cri(LINE, "F")], Rules()).records)


def test_parts_in_an_array_of_records_are_one_record():
    parts = [json.loads(fluent_bit(LINE[:100], "P")), json.loads(fluent_bit(LINE[100:], "F"))]
    found = parse([json.dumps(parts).encode()], Rules())
    assert (found.records["authority"].to_list(), found.rejects.height) == (["api.stripe.com"], 0)


def test_a_part_that_ends_in_a_space_keeps_it():
    cut = LINE.index(" 200") + 1
    found = parse([b"\n".join([cri(LINE[:cut], "P"), cri(LINE[cut:], "F")])], Rules())
    assert found.records["response_code"].to_list() == [200]


def test_a_message_of_many_large_lines_without_parts_comes_back_untouched():
    value = b"\n".join([fluent_bit(LINE, "F")] * 100)
    found = joined(value)
    assert found.values[0] == value


def test_parts_inside_one_message_are_bounded_as_others_are():
    big = "x" * 300_000
    parts = [cri(LINE[:60] + big, "P"), *[cri(big, "P")] * 3, cri("end", "F")]
    # The oldest part falls out of the line, and stays in the message as it is.
    assert joined(b"\n".join(parts)).values[0].startswith(parts[0] + b"\n")


def test_parts_inside_fluent_bit_envelopes_are_joined_in_the_completing_envelope():
    for key in ("logtag", "_p"):
        found = joined(fluent_bit(LINE[:100], "P", key=key), fluent_bit(LINE[100:], "F", key=key))
        assert log_of(found.values[1]) == LINE
        assert json.loads(found.values[1])["kubernetes"]["pod_name"] == "web-1"


def test_parts_of_cri_lines_inside_an_envelope_are_joined_without_their_prefixes():
    first = json.dumps({"log": cri(LINE[:100], "P").decode(), "kubernetes": {"pod_name": "web-1"}}).encode()
    second = json.dumps({"log": cri(LINE[100:], "F").decode(), "kubernetes": {"pod_name": "web-1"}}).encode()
    assert log_of(joined(first, second).values[1]) == cri(LINE, "F").decode()


def test_vectors_partial_events_are_joined_in_message():
    pod = {"kubernetes": {"pod_name": "web-1", "pod_namespace": "shop"}}
    first = json.dumps({"message": LINE[:100], "_partial": True, **pod}).encode()
    second = json.dumps({"message": LINE[100:], **pod}).encode()
    assert json.loads(joined(first, second).values[1])["message"] == LINE


def test_docker_pieces_of_16_kib_without_a_newline_are_joined():
    line = LINE.replace("curl/8", "x" * 20_000) + "\n"
    found = joined(docker(line[:DOCKER_PIECE]), docker(line[DOCKER_PIECE:]))
    assert log_of(found.values[1]) == line
    assert list(found.partial) == [0]


def test_a_character_cut_in_two_by_the_runtime_is_whole_again():
    text = LINE.replace("curl/8", "é").encode()
    cut = text.index("é".encode()) + 1
    head, tail = (f"{TIME} stdout {tag} ".encode() for tag in "PF")
    assert joined(head + text[:cut], tail + text[cut:]).values[1] == tail + text


def test_other_pods_messages_between_the_parts_stay_as_they_are():
    other = fluent_bit(LINE, "F", pod="web-2")
    found = joined(fluent_bit(LINE[:100], "P"), other, fluent_bit(LINE[100:], "F"))
    assert found.values[1] is other
    assert log_of(found.values[2]) == LINE


def test_lines_of_two_pods_split_at_the_same_time_are_told_apart():
    found = joined(
        fluent_bit("[2026-01-01T00:00:00Z] a", "P", pod="web-1"),
        fluent_bit("[2026-01-01T00:00:00Z] b", "P", pod="web-2"),
        fluent_bit("A", "F", pod="web-1"),
        fluent_bit("B", "F", pod="web-2"),
    )
    assert [log_of(value)[-2:] for value in found.values[2:]] == ["aA", "bB"]


def test_stdout_and_stderr_of_one_container_are_told_apart():
    found = joined(cri("[2026-01-01T00:00:00Z] a", "P"), cri("x", "F", "stderr"), cri("A", "F"))
    assert found.values[1] == cri("x", "F", "stderr")
    assert found.values[2] == cri("[2026-01-01T00:00:00Z] aA", "F")


def test_a_line_that_begins_anew_is_not_glued_to_a_part_that_lost_its_end():
    lost = fluent_bit(LINE[:100], "P")
    found = joined(lost, fluent_bit(LINE, "F"), fluent_bit(LINE, "F"))
    assert [log_of(value) for value in found.values[1:]] == [LINE, LINE]
    assert [part.offset for part in found.unfinished] == [0]
    assert found.unfinished[0].value == lost


def test_a_part_is_given_up_after_its_span_of_offsets():
    values = [cri(LINE[:100], "P"), *[b"x"] * 5]
    assert not joined(*values[:5], span=5).unfinished
    assert [part.offset for part in joined(*values, span=5).unfinished] == [0]


def test_a_line_beyond_its_bytes_loses_its_oldest_parts():
    parts = [fluent_bit("x" * 200, "P") for _ in range(4)]
    found = joined(*parts, line_bytes=2 * len(parts[0]))
    assert [part.offset for part in found.unfinished] == [0, 1]


def test_all_open_lines_together_are_bounded():
    parts = [fluent_bit("x" * 200, "P", pod=f"web-{index}") for index in range(4)]
    found = joined(*parts, total_bytes=2 * len(parts[0]))
    assert [part.offset for part in found.unfinished] == [0, 1]


def test_the_oldest_open_part_is_what_may_not_be_committed_over():
    partials = Partials()
    assert partials.oldest_open is None
    partials.join([7, 8], [cri(LINE[:9], "P"), b"x"])
    assert partials.oldest_open == 7
    partials.join([9], [cri(LINE[9:], "F")])
    assert partials.oldest_open is None


def test_messages_without_parts_come_back_untouched():
    values = [LINE.encode(), fluent_bit(LINE, "F"), None, b"", b"{", b'{"log":1,"logtag":"P"}', b"\xff\xfe"]
    assert joined(*values).values == values


def test_a_user_agent_that_imitates_a_part_splits_nothing():
    line = LINE.replace("curl/8", "2026-01-02T03:04:05Z stdout P x").encode()
    found = joined(line, line)
    assert found.values == [line, line]
    assert not found.partial


# --- properties ---------------------------------------------------------------------------------------------

PIECES = st.one_of(
    st.builds(
        fluent_bit,
        st.sampled_from(["[2026-01-01T00:00:00Z] a", "b", "cc", '{"d', ""]),
        st.sampled_from("PPF"),
        st.sampled_from(["web-1", "web-2", "web"]),
        st.sampled_from(["stdout", "stderr"]),
    ),
    st.builds(cri, st.sampled_from(["[2026-01-01T00:00:00Z] a", "b", "cc", ""]), st.sampled_from("PF")),
    st.builds(docker, st.sampled_from(["x" * DOCKER_PIECE, "y\n", "z"])),
    st.sampled_from([LINE.encode(), None, b"{", b'{"logtag":"P","log":{}}']),
)
STREAMS = st.lists(PIECES, max_size=30)
BOUNDS = st.fixed_dictionaries(
    {"span": st.integers(1, 12), "line_bytes": st.sampled_from([150, 400, 40_000]),
     "total_bytes": st.sampled_from([300, 600, 50_000])}
)  # fmt: skip


def run(partials, offsets, values):
    """What each offset became, in a form that does not depend on batches."""
    found = partials.join(offsets, values)
    partial = set(found.partial)
    became = {
        offset: "part" if index in partial else value
        for index, (offset, value) in enumerate(zip(offsets, found.values, strict=True))
    }
    return became, list(found.unfinished)


@settings(deadline=None)
@given(STREAMS, BOUNDS, st.lists(st.integers(0, 30), max_size=6))
def test_any_cut_into_batches_gives_the_same(values, bounds, cuts):
    offsets = list(range(len(values)))
    whole, whole_unfinished = run(Partials(**bounds), offsets, values)
    edges = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
    partials = Partials(**bounds)
    became, unfinished = {}, []
    for start, end in itertools.pairwise(edges):
        some, given_up = run(partials, offsets[start:end], values[start:end])
        became |= some
        unfinished += given_up
    assert became == whole
    assert sorted(unfinished) == sorted(whole_unfinished)


@settings(deadline=None, max_examples=300)
@given(STREAMS, BOUNDS, st.data())
def test_a_restart_from_the_oldest_open_part_gives_the_same(values, bounds, data):
    offsets = list(range(len(values)))
    stop = data.draw(st.integers(0, len(values)))
    never_stopped = Partials(**bounds)
    run(never_stopped, offsets[:stop], values[:stop])
    oldest = never_stopped.oldest_open
    committed = data.draw(st.integers(0, stop if oldest is None else oldest))
    restarted = Partials(**bounds)
    run(restarted, offsets[committed:stop], values[committed:stop])
    assert run(restarted, offsets[stop:], values[stop:]) == run(never_stopped, offsets[stop:], values[stop:])
    assert restarted.oldest_open == never_stopped.oldest_open


@settings(deadline=None)
@given(STREAMS, BOUNDS)
def test_a_part_waits_is_joined_or_is_given_up_and_nothing_else_changes(values, bounds):
    partials = Partials(**bounds)
    found = partials.join(range(len(values)), values)
    given_up = [part.offset for part in found.unfinished]
    assert len(set(given_up)) == len(given_up)
    assert set(given_up) <= set(found.partial)
    for index, value in enumerate(found.values):
        assert value == values[index] or index not in found.partial


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.binary(max_size=80), PIECES), max_size=20))
def test_no_bytes_make_it_raise(values):
    assert len(Partials().join(range(len(values)), values).values) == len(values)


DEEP = "[" * 300 + "]" * 300


@pytest.mark.parametrize("glue", ["\n", ",", None])
def test_an_envelope_too_deep_to_be_written_again_stops_nothing(glue):
    part = '{"log":"abc","logtag":"P","stream":"stdout"}'
    rest = f'{{"log":"def","logtag":"F","stream":"stdout","x":{DEEP}}}'
    messages = [part, rest] if glue is None else [glue.join([part, rest])]
    values = [(f"[{one}]" if glue == "," else one).encode() for one in messages]
    joined = Partials().join(range(len(values)), values)
    parsed = parse(joined.values, Rules())
    assert parsed.records.is_empty()
    assert {*parsed.rejects["message"], *parsed.filtered["message"]} == set(range(len(values)))


def test_a_part_that_is_no_text_and_a_rest_in_an_envelope_become_one_line():
    values = [
        b"2026-01-02T03:04:05.123456789Z stdout P ab\xff",
        b'{"log":"cd","logtag":"F","stream":"stdout"}',
    ]
    found = Partials().join([0, 1], values)
    assert found.partial == [0]
    assert json.loads(found.values[1])["log"] == "ab\ufffdcd"


def test_a_record_too_deep_inside_an_object_stops_nothing():
    message = f'{{"a":{{"start_time":"x","upstream_cluster":"y","authority":"z","deep":{DEEP}}}}}'
    parsed = parse([message.encode()], Rules())
    assert parsed.records.height + parsed.rejects.height + parsed.filtered.height == 1
