"""Any record that a format prints is read back as it was."""

import json
from datetime import datetime, timedelta, timezone

from hypothesis import given, settings
from hypothesis import strategies as st

import envoy_format
from egresslens.parse import parse
from egresslens.rules import Rules

EPOCH = datetime(2020, 1, 1, tzinfo=timezone.utc)
TIMES = st.integers(0, 5 * 10**11).map(lambda ms: EPOCH + timedelta(milliseconds=ms))
NUMBERS = st.integers(0, 2**31)
WORDS = st.text("abcXYZ019.:/_[]{}~é漢?=&%", min_size=1, max_size=20)
CLUSTERS = st.sampled_from(
    [
        "PassthroughCluster",
        "outbound|443||api.example.com",
        "outbound|80|v1|a.b;",
        "inbound|8080||",
        "a.b_443",
    ]
)
SENTENCES = st.text("abc XYZ019.;:/()_,", min_size=1, max_size=30).map(str.strip).filter(None)

# Operator -> (field, values). Times are read to the millisecond in every strftime.
CLEAN = {
    "START_TIME": ("start_time", TIMES),
    "DURATION": ("duration_ms", NUMBERS),
    "RESPONSE_CODE": ("response_code", st.integers(0, 599)),
    "RESPONSE_FLAGS": ("response_flags", st.sampled_from(["UH", "UF,URX", "NR", "UAEX,DC"])),
    "BYTES_SENT": ("bytes_sent", NUMBERS),
    "BYTES_RECEIVED": ("bytes_received", NUMBERS),
    "PROTOCOL": ("protocol", st.sampled_from(["HTTP/1.1", "HTTP/2"])),
    "REQ(:METHOD)": ("method", st.sampled_from(["GET", "POST"])),
    "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)": ("path", WORDS),
    "REQ(:AUTHORITY)": ("authority", WORDS),
    "UPSTREAM_CLUSTER": ("upstream_cluster", CLUSTERS),
    "UPSTREAM_HOST": ("upstream_host", WORDS),
    "ROUTE_NAME": ("route_name", WORDS),
    "REQUESTED_SERVER_NAME": ("requested_server_name", WORDS),
    "DOWNSTREAM_REMOTE_ADDRESS": ("downstream_remote_address", WORDS),
    "REQ(X-REQUEST-ID)": ("request_id", WORDS),
    "REQ(USER-AGENT)": ("user_agent", WORDS),
    "REQ(X-TENANT)": (None, WORDS),
    "SOME_NEWER_OPERATOR": (None, WORDS),
    "DYNAMIC_METADATA(envoy.common:x)": (None, WORDS),
}
# Operators that Envoy always prints a value for.
ALWAYS = ("START_TIME", "RESPONSE_CODE", "RESPONSE_FLAGS", "BYTES_")
TIME_FORMATS = [
    "",
    "(%s)",
    "(%s.%3f)",
    "(%Y/%m/%dT%H:%M:%S.%6f%z)",
    "(%d/%b/%Y:%H:%M:%S %z)",
    "(%a %b %e %T %Y)",
]
# What may stand between two operators: each begins with what no word holds.
BETWEEN = [" ", '" "', ' "', '" ', "\t", " - ", " key=", '" key="', ' {"k": "', " 100%% ", "|", ", "]
EXACT_MS = {"", "(%s.%3f)", "(%Y/%m/%dT%H:%M:%S.%6f%z)"}


ANY = tuple(sorted(CLEAN))


@st.composite
def formats(draw, first=ANY):
    """(format string, operators)."""
    names = draw(st.lists(st.sampled_from(sorted(CLEAN)), max_size=11, unique=True))
    start = draw(st.sampled_from(first))
    names = [start, *(name for name in names if name != start)]
    source = draw(st.sampled_from(["", "ACCESS ", '"', "[", '{"ts": "']))
    for index, name in enumerate(names):
        if index:
            source += draw(st.sampled_from(BETWEEN))
        args = draw(st.sampled_from(TIME_FORMATS)) if name == "START_TIME" else ""
        source += f"%{name}{args}%"
        names[index] = name + args
    return source + draw(st.sampled_from(["", "\n", '"', "]", ' end"\n'])), names


def drawn(data, names):
    """A value or None for each operator."""
    values = {}
    for name in names:
        strategy = CLEAN[name.split("(%")[0]][1]
        absent = not name.startswith(ALWAYS) and data.draw(st.integers(0, 4)) == 0
        # What begins with a brace is taken for an object, with a bracket and a quote for an array.
        values[name] = None if absent else data.draw(strategy.filter(lambda value: str(value)[0] not in "{["))
    return values


def expected(names, values):
    """Field -> value as a record holds it."""
    fields = {}
    for name in names:
        field = CLEAN[name.split("(%")[0]][0]
        value = values[name]
        if field == "start_time" and name.removeprefix("START_TIME") not in EXACT_MS:
            value = value.replace(microsecond=0)
        if field == "response_flags" and value:
            value = value.split(",")
        if field:
            fields[field] = value
    return fields


def record_of(line, rules):
    parsed = parse([line.encode()], rules)
    assert parsed.records.height == 1, (parsed.rejects.rows(), parsed.filtered.rows())
    return parsed.records.row(0, named=True)


def assert_reads(line, source, fields):
    record = record_of(line, Rules(log_format=(source,), keep_query=True))
    assert record["format"] == "custom_1"
    assert {field: record[field] for field in fields} == fields


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_record_rendered_through_any_text_format_parses_back_to_itself(data):
    source, names = data.draw(formats())
    values = drawn(data, names)
    assert_reads(envoy_format.text(source, values), source, expected(names, values))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_empty_values_are_absent_too(data):
    # Lines come stripped: where both ends are empty, nobody knows which one a lone word was.
    source, names = data.draw(formats(("START_TIME", "BYTES_SENT")))
    values = drawn(data, names)
    assert_reads(envoy_format.text(source, values, omit_empty=True), source, expected(names, values))


KEYS = st.text("abc_XYZ.-é", min_size=1, max_size=8)


@st.composite
def templates(draw):
    """(JSON template, operators): single operators, mixed texts, constants, objects and lists."""
    names = draw(st.lists(st.sampled_from(sorted(CLEAN)), min_size=1, max_size=12, unique=True))
    for index, name in enumerate(names):
        if name == "START_TIME":
            names[index] += draw(st.sampled_from(TIME_FORMATS))
    leaves = [
        draw(st.sampled_from(["%{}%", "%{}%", "%{}%", "%{}%ms", "at %{}%, 100%%"])).format(name)
        for name in names
    ]
    leaves += draw(st.lists(st.sampled_from(["access", 1, 2.5]), max_size=2))
    keys = draw(st.lists(KEYS, min_size=len(leaves), max_size=len(leaves), unique=True))
    template = {}
    for key, leaf in zip(keys, leaves, strict=True):
        match draw(st.sampled_from(["plain", "plain", "inside", "list"])):
            case "plain":
                template[key] = leaf
            case "inside":
                template.setdefault("inside", {}).setdefault("more", {})[key] = leaf
            case "list":
                template[key] = [leaf, "second"]
    return template, names


@settings(max_examples=200, deadline=None)
@given(st.data(), st.booleans(), st.booleans())
def test_any_record_rendered_through_any_json_format_parses_back_to_itself(data, typed, omit_empty):
    template, names = data.draw(templates())
    values = drawn(data, names)
    line = envoy_format.json_line(template, values, typed=typed, omit_empty=omit_empty)
    source = json.dumps(template)
    fields = expected(names, values)
    if not any(name.startswith("START_TIME") for name in names) and not any(fields.values()):
        return  # nothing tells whose record it is
    assert_reads(line, source, fields)


FORGED = st.lists(
    st.sampled_from(
        ['"', " ", '" "', "evil.com", " 200 ", "PassthroughCluster", '" 500 "', " key=", "-", "\t", "|", ", "]
    ),
    max_size=8,
).map("".join)
INDIFFERENT = {"user_agent", "path", "request_id"}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_hostile_user_agent_changes_no_deciding_field_unmarked(data):
    source, names = data.draw(formats().filter(lambda drawn: "REQ(USER-AGENT)" not in drawn[1]))
    around = data.draw(st.sampled_from(['{} "%REQ(USER-AGENT)%" x', 'x "%REQ(USER-AGENT)%" {}']))
    source = around.format(source.strip())
    values = drawn(data, names)
    line = envoy_format.text(source, values | {"REQ(USER-AGENT)": data.draw(FORGED)})
    record = record_of(line, Rules(log_format=(source,), keep_query=True))
    fields = {field: value for field, value in expected(names, values).items() if field not in INDIFFERENT}
    assert record["format"] == "custom_1"
    assert record["damage"] == "ambiguous" or {field: record[field] for field in fields} == fields
