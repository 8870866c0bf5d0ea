"""Format strings: their grammar, what each operator is, and what is refused."""

import itertools
import json
import time
from pathlib import Path

import polars as pl
import pytest

import envoy_format
from egresslens import settings
from egresslens.parse import parse
from egresslens.parse.template import FormatError, compiled
from egresslens.parse.template.grammar import Operator, tokens
from egresslens.parse.template.operators import Kind, meaning
from egresslens.rules import Rules


def read(source, *lines):
    """The records of lines in one custom format; every line must be of it."""
    parsed = parse([line.encode() for line in lines], Rules(log_format=(source,), keep_query=True))
    assert parsed.rejects.is_empty(), parsed.rejects.rows(named=True)
    assert set(parsed.records["format"]) == {"custom_1"}
    return parsed.records.rows(named=True)


def one(source, line):
    (record,) = read(source, line)
    return record


# --- grammar ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("%PROTOCOL%", (Operator("PROTOCOL"),)),
        ("100%% of %PROTOCOL% ", ("100% of ", Operator("PROTOCOL"), " ")),
        ("%REQ(X?Y):24%", (Operator("REQ", "X?Y", 24),)),
        ("%START_TIME(%s.%3f)%", (Operator("START_TIME", "%s.%3f"),)),
        ("%START_TIME(%Y/%m/%dT%H:%M:%S%z %s)%", (Operator("START_TIME", "%Y/%m/%dT%H:%M:%S%z %s"),)),
        ("%ENVIRONMENT(A:B):3%%%", (Operator("ENVIRONMENT", "A:B", 3), "%")),
        (
            "%CEL(request.headers['x'] || size(request.path) > 2):9% %PROTOCOL%",
            (Operator("CEL", "request.headers['x'] || size(request.path) > 2", 9), " ", Operator("PROTOCOL")),
        ),
        ("%CEL(a(b(c)))%", (Operator("CEL", "a(b(c))"),)),
        ("%A%%B%", (Operator("A"), Operator("B"))),
        ('%COALESCE({"operators": ["A"]}):5%', (Operator("COALESCE", '{"operators": ["A"]}', 5),)),
        ("no operators", ("no operators",)),
    ],
)
def test_a_format_comes_apart_into_literals_and_operators(source, expected):
    assert tokens(source) == expected


@pytest.mark.parametrize("source", ["%", "a %start_time%", "%REQ(A", "%REQ(A):x%", "50% off", "%REQ(%"])
def test_a_percent_sign_that_begins_nothing_is_refused_with_its_position(source):
    with pytest.raises(FormatError) as caught:
        tokens(source)
    assert caught.value.position == source.index("%")


def test_an_error_points_at_the_place():
    with pytest.raises(FormatError) as caught:
        compiled(("[%START_TIME%] %REQ(USER-AGENT)%%REQ(X-FOO)% %PROTOCOL%",))
    *_, shown, caret = str(caught.value).splitlines()
    assert shown[caret.index("^") :].startswith("%REQ(X-FOO)%")


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "%REQ(USER-AGENT)%%REQ(X-FOO)%",
        "%REQ(A)%%UPSTREAM_HOST%",
        "%ROUTE_NAME%%RESPONSE_CODE%",
        "%A_NEW_ONE%%ANOTHER_NEW_ONE%",
        '{"a": "%REQ(A)%%REQ(B)%"}',
    ],
)
def test_operators_without_a_literal_between_them_are_refused(source):
    with pytest.raises(FormatError, match="touch"):
        compiled((source,))


@pytest.mark.parametrize("source", ["%REQ%", "%ENVIRONMENT()%", "x %CEL%"])
def test_operators_that_need_an_argument_are_refused_without(source):
    with pytest.raises(FormatError, match="needs an argument"):
        compiled((source,))


@pytest.mark.parametrize("source", ["no operator at all", '{"a": "constant"}', " "])
def test_formats_without_operators_are_refused(source):
    with pytest.raises(FormatError, match="operator"):
        compiled((source,))


def test_a_bad_format_stops_the_start_and_names_the_setting():
    with pytest.raises(settings.SettingsError, match=r"(?s)^EGRESSLENS_LOG_FORMAT: .*position 4.*\^"):
        settings.load({"EGRESSLENS_LOG_FORMAT": "abc %nope%"})


def test_a_bad_value_in_a_json_format_is_named_by_its_key():
    with pytest.raises(FormatError, match=r"outer\.inner: "):
        compiled(('{"outer": {"inner": "100%"}}',))


# --- how formats are given ----------------------------------------------------------------------------------


def test_several_formats_come_as_a_json_list_of_texts_and_objects():
    loaded = settings.load({"EGRESSLENS_LOG_FORMAT": '["%PROTOCOL% x", {"a": "%PROTOCOL%"}]'})
    assert loaded.log_format == ("%PROTOCOL% x", '{"a":"%PROTOCOL%"}')


def test_a_text_in_brackets_is_one_format():
    assert settings.load({"EGRESSLENS_LOG_FORMAT": "[%START_TIME%]"}).log_format == ("[%START_TIME%]",)


def test_an_empty_setting_is_no_format():
    assert settings.load({"EGRESSLENS_LOG_FORMAT": ""}).log_format == ()


@pytest.mark.parametrize("end", ["", "\n", "\\n", " \n"])
def test_line_ends_of_a_format_do_not_matter(end):
    assert one(f"code=%RESPONSE_CODE%{end}", "code=200\n")["response_code"] == 200


def test_the_first_format_that_fits_wins():
    rules = Rules(
        log_format=("a=%RESPONSE_CODE% b=%UPSTREAM_HOST%", "a=%UPSTREAM_CLUSTER% b=%UPSTREAM_HOST%")
    )
    records = parse([b"a=200 b=h", b"a=c b=h"], rules).records
    assert records["format"].to_list() == ["custom_1", "custom_2"]


def test_default_layouts_are_read_beside_custom_formats():
    line = (
        '[2020-11-22T21:54:18.409Z] "- - -" 0 UH - - "-" 0 0 0 - "-" "-" "-" "-" "-" BlackHoleCluster - '
        "1.2.3.4:443 1.2.3.5:1 - -"
    )
    records = parse([line.encode(), b"200 c"], Rules(log_format="%RESPONSE_CODE% %UPSTREAM_CLUSTER%")).records
    assert records["format"].to_list() == ["istio_text_1.9", "custom_1"]


@pytest.mark.parametrize(
    "line", ["200 c more", "x c", "200  c", "code 200 c", "2026-01-02T03:04:05Z info hello"]
)
def test_a_line_that_fits_in_part_is_of_no_custom_format(line):
    parsed = parse([line.encode()], Rules(log_format="%RESPONSE_CODE% %UPSTREAM_CLUSTER%"))
    assert "custom_1" not in parsed.records["format"].to_list()


# --- operators ----------------------------------------------------------------------------------------------

FIELDS = {
    "REQ(:METHOD)": ("method", "GET"),
    "REQUEST_HEADER(:method)": ("method", "GET"),
    "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)": ("path", "/a?b=c"),
    "PATH(WQ:ORIG)": ("path", "/a"),
    "REQ_WITHOUT_QUERY(X-ENVOY-ORIGINAL-PATH?:PATH)": ("path", "/a"),
    "REQ(:AUTHORITY)": ("authority", "a.com:80"),
    "REQ(HOST)": ("authority", "a.com"),
    "REQ(X-EGRESS-HOST?:AUTHORITY)": ("authority", "a.com"),
    "PROTOCOL": ("protocol", "HTTP/3"),
    "DURATION": ("duration_ms", 12),
    "RESPONSE_CODE": ("response_code", 0),
    "BYTES_SENT": ("bytes_sent", 2**40),
    "BYTES_RECEIVED": ("bytes_received", 7),
    "RESPONSE_CODE_DETAILS": ("response_code_details", "rbac_access_denied_matched_policy[ns[a]-rule[0]]"),
    "CONNECTION_TERMINATION_DETAILS": ("connection_termination_details", "x"),
    "UPSTREAM_CLUSTER": ("upstream_cluster", "outbound|443|v1|a.com;"),
    "UPSTREAM_CLUSTER_RAW": ("upstream_cluster", "outbound_.443_._.a.com"),
    "UPSTREAM_HOST": ("upstream_host", "envoy://connect_originate/1.2.3.4:80"),
    "UPSTREAM_REMOTE_ADDRESS": ("upstream_host", "[2001:db8::1]:443"),
    "UPSTREAM_LOCAL_ADDRESS": ("upstream_local_address", "1.2.3.4:5"),
    "DOWNSTREAM_LOCAL_ADDRESS": ("downstream_local_address", "1.2.3.4:5"),
    "DOWNSTREAM_REMOTE_ADDRESS": ("downstream_remote_address", "1.2.3.4:5"),
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": ("downstream_remote_address", "1.2.3.4:5"),
    "REQUESTED_SERVER_NAME": ("requested_server_name", "a.com"),
    "REQUESTED_SERVER_NAME(SNI_FIRST:ORIG)": ("requested_server_name", "a.com"),
    "REQUESTED_SERVER_NAME(HOST_FIRST)": ("authority", "a.com"),
    "ROUTE_NAME": ("route_name", "allow_any"),
    "REQ(X-REQUEST-ID)": ("request_id", "r-1"),
    "STREAM_ID": ("request_id", "r-1"),
    "REQ(X-FORWARDED-FOR)": ("x_forwarded_for", "10.0.0.1,10.0.0.2"),
    "REQ(USER-AGENT)": ("user_agent", "curl/8"),
    "RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)": ("upstream_service_time", 9),
    "UPSTREAM_HOST_NAME": ("authority", "db.example.com:5432"),
    "CEL(request.host)": ("authority", "a.com"),
    "CEL(request.headers['user-agent'])": ("user_agent", "curl/8"),
    "TYPED_CEL(response.code)": ("response_code", 404),
    "CEL(connection.requested_server_name)": ("requested_server_name", "a.com"),
    'COALESCE({"operators":["REQUESTED_SERVER_NAME",{"command":"REQ","param":":authority"}]})': (
        "requested_server_name",
        "a.com",
    ),
    "ENVIRONMENT(POD_NAMESPACE)": ("source_namespace", "shop"),
    "ENVIRONMENT(ISTIO_META_WORKLOAD_NAME)": ("source_workload", "web"),
    "ENVIRONMENT(ISTIO_META_CLUSTER_ID)": ("source_cluster", "c1"),
    "ENVIRONMENT(POD_NAME)": ("source_pod", "web-0"),
    "HOSTNAME": ("source_pod", "web-7c9f8d6b5-x2x7q"),
    "CEL(xds.node.metadata['WORKLOAD_NAME'])": ("source_workload", "web"),
    'CEL(xds.node.metadata["NAMESPACE"])': ("source_namespace", "shop"),
    "CEL(xds.node.locality.region)": ("source_region", "r1"),
    "CEL(filter_state.downstream_peer.workload)": ("source_workload", "web"),
    "FILTER_STATE(downstream_peer:FIELD:namespace)": ("source_namespace", "shop"),
}


@pytest.mark.parametrize(("operator", "field", "value"), [(k, *v) for k, v in FIELDS.items()])
@pytest.mark.parametrize(
    "around", ["[%START_TIME%] {} end", '[%START_TIME%] "{}" end', '{{"k": "{}", "t": "%START_TIME%"}}']
)
def test_an_operator_is_its_field(operator, field, value, around):
    json_encoded = around.startswith("{{")
    source = around.format(f"%{operator.replace('%', '%%')}%")
    if json_encoded:
        source = source.replace(operator, operator.replace('"', '\\"'))
        line = f'{{"k": "{value}", "t": "2026-01-02T03:04:05.678Z"}}'
    else:
        line = around.format(value).replace("%START_TIME%", "2026-01-02T03:04:05.678Z")
    assert one(source, line)[field] == value


@pytest.mark.parametrize("operator", sorted(FIELDS))
def test_absent_is_null(operator):
    field = FIELDS[operator][0]
    assert one(f"%{operator}% %BYTES_RETRANSMITTED%", "- 0")[field] is None


def test_long_flags_become_short_ones():
    record = one("f=%RESPONSE_FLAGS_LONG%", "f=UpstreamConnectionFailure,UpstreamRetryLimitExceeded,BrandNew")
    assert record["response_flags"] == ["UF", "URX", "BrandNew"]


def test_no_long_flags_are_null():
    assert one("f=%RESPONSE_FLAGS_LONG%", "f=-")["response_flags"] is None


@pytest.mark.parametrize(
    ("ip", "port", "address"),
    [
        ("10.0.0.1", "80", "10.0.0.1:80"),
        ("2001:db8::1", "443", "[2001:db8::1]:443"),
        ("10.0.0.1", "-", "10.0.0.1"),
        ("/run/x.sock", "-", "/run/x.sock"),
        ("-", "-", None),
    ],
)
def test_an_address_and_its_port_come_together(ip, port, address):
    source = "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%|%DOWNSTREAM_LOCAL_PORT%|%RESPONSE_CODE%"
    assert one(source, f"{ip}|{port}|200")["downstream_local_address"] == address


def test_a_masked_address_is_no_address():
    record = one("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)% %RESPONSE_CODE%", "10.1.0.0/16 200")
    assert record["downstream_remote_address"] is None


def test_the_name_of_the_upstream_host_is_no_address():
    assert one("h=%UPSTREAM_HOST_NAME%", "h=10.0.0.1:80")["authority"] is None


def test_the_raw_cluster_is_preferred():
    source = "%UPSTREAM_CLUSTER% %UPSTREAM_CLUSTER_RAW%"
    assert (
        one(source, "httpbin_80; outbound|80||httpbin.org")["upstream_cluster"] == "outbound|80||httpbin.org"
    )


@pytest.mark.parametrize(("unit", "printed"), [("ms", "12"), ("us", "12999"), ("ns", "12999999")])
def test_a_common_duration_of_the_whole_request_is_the_duration(unit, printed):
    assert one(f"d=%COMMON_DURATION(DS_RX_BEG:DS_TX_END:{unit})%", f"d={printed}")["duration_ms"] == 12


def test_other_durations_are_read_over():
    assert one("d=%COMMON_DURATION(US_TX_BEG:US_RX_BEG:us)%", "d=-5")["duration_ms"] is None


def test_operators_of_newer_proxies_are_read_over():
    record = one("%A_NEW_ONE(with args):9% %RESPONSE_CODE%", "anything 200")
    assert record["response_code"] == 200


def test_a_cluster_between_pipes_keeps_its_own():
    source = "%UPSTREAM_CLUSTER%|%UPSTREAM_HOST%|%ROUTE_NAME%|%RESPONSE_FLAGS%"
    registry, passthrough = read(
        source, "outbound|443|v1|a.com|1.2.3.4:443|default|UF,URX", "PassthroughCluster|-||-"
    )
    assert [registry[name] for name in ("upstream_cluster", "upstream_host", "route_name")] == [
        "outbound|443|v1|a.com",
        "1.2.3.4:443",
        "default",
    ]
    assert [passthrough[name] for name in ("upstream_cluster", "upstream_host", "route_name")] == [
        "PassthroughCluster",
        None,
        None,
    ]


def test_commas_between_values_that_hold_commas_are_told_apart():
    source = "%RESPONSE_CODE%,%RESPONSE_FLAGS%,%UPSTREAM_HOST%,%BYTES_SENT%"
    record = one(source, "503,UF,URX,1.2.3.4:80,0")
    assert (record["response_flags"], record["upstream_host"]) == (["UF", "URX"], "1.2.3.4:80")


def test_details_with_spaces_of_older_proxies_are_read():
    source = '%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% "%REQ(:PATH)%"'
    details = "upstream_reset_before_response_started{remote reset, try again}"
    assert one(source, f'503 {details} "/x"')["response_code_details"] == details


def test_a_maximum_length_bounds_the_value():
    source = 'p=%REQ(:PATH):4% t="%REQ(USER-AGENT):3%"'
    assert one(source, 'p=/abc t="a"b"')["user_agent"] == 'a"b'
    assert parse([b'p=/abcd t="x"'], Rules(log_format=source)).records.is_empty()


def test_a_multi_byte_character_that_was_cut_is_still_read():
    line = envoy_format.text("p=%REQ(:PATH):4%", {"REQ(:PATH)": "/aé漢"})
    assert one("p=%REQ(:PATH):4%", line)["path"] == "/aé"
    (record,) = parse([b"p=/ab\xc3"], Rules(log_format="p=%REQ(:PATH):4%")).records.rows(named=True)
    assert record["path"] == "/ab�"


@pytest.mark.parametrize(
    ("strftime", "printed", "iso"),
    [
        ("", "2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.678+00:00"),
        ("(%s)", "1767323045", "2026-01-02T03:04:05+00:00"),
        ("(%s.%3f)", "1767323045.678", "2026-01-02T03:04:05.678+00:00"),
        ("(%s.%9f)", "1767323045.678999999", "2026-01-02T03:04:05.678+00:00"),
        ("(%d/%b/%Y:%H:%M:%S %z)", "02/Jan/2026:05:04:05 +0200", "2026-01-02T03:04:05+00:00"),
        ("(%a %b %e %T %Z %Y)", "Fri Jan  2 03:04:05 UTC 2026", "2026-01-02T03:04:05+00:00"),
        ("(%Y/%m/%d %H:%M:%S.%1f)", "2026/01/02 03:04:05.6", "2026-01-02T03:04:05.600+00:00"),
        ("(%Y-%m-%dT%H:%M:%E3S%Ez)", "2026-01-02T05:04:05.678+02:00", "2026-01-02T03:04:05.678+00:00"),
        ("(%D %r)", "01/02/26 03:04:05 AM", "2026-01-02T03:04:05+00:00"),
        ("(%FT%T.%fZ)", "2026-01-02T03:04:05.678000000Z", "2026-01-02T03:04:05.678+00:00"),
    ],
)
@pytest.mark.parametrize("around", ["[{}] x", "{}", "time={} code=%RESPONSE_CODE%", '"{}" %PROTOCOL%'])
def test_a_time_is_read_by_its_strftime(strftime, printed, iso, around):
    source = around.format(f"%START_TIME{strftime}%")
    line = around.format(printed).replace("%RESPONSE_CODE%", "200").replace("%PROTOCOL%", "HTTP/2")
    assert one(source, line)["start_time"].isoformat(timespec="auto") == iso.replace(
        "678+", "678000+"
    ).replace("600+", "600000+")


@pytest.mark.parametrize("line", ["02/Jan/2026 03:04 200", "99/Jan/2026:03:04:05 200", "yesterday 200"])
def test_what_is_no_time_is_no_record(line):
    assert parse(
        [line.encode()], Rules(log_format="%START_TIME(%d/%b/%Y:%H:%M:%S)% %RESPONSE_CODE%")
    ).records.is_empty()


def test_a_time_of_day_alone_is_no_time():
    assert one("%START_TIME(%H:%M:%S)% %RESPONSE_CODE%", "03:04:05 200")["start_time"] is None


def test_without_a_start_time_the_duration_is_taken_off_the_time_of_emission():
    record = one("%EMIT_TIME% %DURATION%", "2026-01-02T03:04:05.678Z 678")
    assert record["start_time"].isoformat() == "2026-01-02T03:04:05+00:00"


def test_every_kind_is_in_use():
    sources = [*FIELDS, "START_TIME", "RESPONSE_FLAGS", "REQ(X-FOO)", "LOCAL_REPLY_BODY"]
    operators = [operator for source in sources for operator in tokens(f"%{source}%")]
    assert {meaning(operator).kind for operator in operators} == set(Kind)


# --- source -------------------------------------------------------------------------------------------------


def test_the_workload_is_taken_from_the_pods_name_where_nothing_tells_it():
    record = one("%RESPONSE_CODE% %ENVIRONMENT(POD_NAME)%", "200 web-7c9f8d6b5-x2x7q")
    assert (record["source_workload"], record["source_pod"]) == ("web", "web-7c9f8d6b5-x2x7q")


def test_a_peer_is_the_source_and_nothing_of_the_proxys_own_is_mixed_in():
    source = "%HOSTNAME% %ENVIRONMENT(POD_NAMESPACE)% %FILTER_STATE(downstream_peer:FIELD:workload)%"
    at_gateway, at_sidecar = read(source, "egw-1 istio-system web", "web-7c9f8d6b5-x2x7q shop -")
    assert [at_gateway[f"source_{name}"] for name in ("workload", "namespace", "pod")] == ["web", None, None]
    assert [at_sidecar[f"source_{name}"] for name in ("workload", "namespace")] == ["web", "shop"]


@pytest.mark.parametrize(
    "operator", ["DOWNSTREAM_LOCAL_URI_SAN", "UPSTREAM_LOCAL_URI_SAN", "DOWNSTREAM_PEER_URI_SAN"]
)
def test_a_certificate_tells_the_namespace(operator):
    record = one(f"%RESPONSE_CODE% %{operator}%", "200 spiffe://cluster.local/ns/shop/sa/default")
    assert (record["source_namespace"], record["source_workload"]) == ("shop", None)


def test_an_envelope_fills_what_the_format_does_not_tell():
    kubernetes = {
        "pod_name": "web-7c9f8d6b5-x2x7q",
        "namespace_name": "shop",
        "container_name": "istio-proxy",
    }
    line = json.dumps({"log": "200 c1\n", "kubernetes": kubernetes}).encode()
    rules = Rules(log_format="%RESPONSE_CODE% %ENVIRONMENT(ISTIO_META_CLUSTER_ID)%")
    (record,) = parse([line], rules).records.rows(named=True)
    found = [record[f"source_{name}"] for name in ("cluster", "namespace", "workload", "pod")]
    assert found == ["c1", "shop", "web", "web-7c9f8d6b5-x2x7q"]


# --- hostile and odd lines ----------------------------------------------------------------------------------

QUOTED = (
    '[%START_TIME%] "%REQ(:PATH)%" %RESPONSE_CODE% "%REQ(USER-AGENT)%" "%REQ(:AUTHORITY)%" '
    "%UPSTREAM_CLUSTER% %ROUTE_NAME%"
)


@pytest.mark.parametrize(
    "agent",
    [
        'a" "evil.com" PassthroughCluster allow_any',
        'a" 500 "b',
        '"',
        '" "',
        'a" "evil.com" outbound|80||evil.com default\\n[2020-01-01T00:00:00.000Z] "/" 200 "x',
        "no quotes",
        "tab\tand  spaces",
        "",
    ],
)
def test_a_hostile_user_agent_changes_no_other_field(agent):
    line = f'[2026-01-02T03:04:05.678Z] "/a"b" 502 "{agent}" "good.com" BlackHoleCluster block_all'
    record = one(QUOTED, line)
    deciding = ("path", "response_code", "authority", "upstream_cluster", "route_name")
    assert [record[name] for name in deciding] == ['/a"b', 502, "good.com", "BlackHoleCluster", "block_all"]
    assert record["user_agent"] == (agent.strip() or None if not agent.strip() else agent)
    assert record["damage"] is None


def test_a_line_with_two_true_readings_is_marked():
    source = 'ua="%REQ(USER-AGENT)%" host="%REQ(X-HOST?:AUTHORITY)%" code=%RESPONSE_CODE%'
    record = one(source, 'ua="a" host="b" host="c" code=200')
    assert (record["damage"], record["user_agent"], record["authority"]) == ("ambiguous", "a", 'b" host="c')


def test_a_quote_in_one_of_several_header_values_does_not_mark_what_can_be_told():
    source = 'ua="%REQ(USER-AGENT)%" code=%RESPONSE_CODE%'
    assert one(source, 'ua="a" code=500" code=200')["damage"] is None


@pytest.mark.parametrize(
    "source",
    [
        QUOTED,
        "ua=%REQ(USER-AGENT)% ref=%REQ(REFERER)% code=%RESPONSE_CODE%",
        '"%REQ(A)%" "%REQ(B)%" "%REQ(C)%" "%REQ(USER-AGENT)%" %RESPONSE_CODE%',
    ],
)
@pytest.mark.parametrize("hostile", ['" "', " ref= code=", '"', " ", "a" * 9, '" 200 "'])
def test_a_hostile_megabyte_takes_linear_time(source, hostile):
    values = dict.fromkeys(("REQ(A)", "REQ(B)", "REQ(C)", "REQ(:PATH)", "ROUTE_NAME"), "x")

    def seconds(size):
        agent = (hostile * (size // len(hostile) + 1))[:size]
        line = envoy_format.text(source, values | {"REQ(USER-AGENT)": agent}).replace(
            "[-]", "[2026-01-02T03:04:05.678Z]"
        )
        took = []
        for _ in range(3):
            start = time.process_time()
            parse([line.encode()], Rules(log_format=source, max_message_bytes=2**21))
            took.append(time.process_time() - start)
        return min(took)

    small, large = seconds(2**17), seconds(2**20)
    assert large < 5
    assert large < 8 * small * 2.5 + 0.2


def test_multi_line_formats_are_matched_per_record():
    record = one("code=%RESPONSE_CODE%\n\tcluster=%UPSTREAM_CLUSTER%\n", "code=200\n\tcluster=c\n")
    assert (record["response_code"], record["upstream_cluster"]) == (200, "c")


GOLDEN = Path(__file__).parent / "golden"


def test_lines_of_the_real_envoy_in_a_custom_format_are_read_as_they_happened():
    truth = json.loads((GOLDEN / "custom-text.truth.json").read_text())
    lines = (GOLDEN / "custom-text.log").read_text().splitlines()
    records = read(truth["format"], *lines)
    assert len(records) == len(truth["lines"]) > 0
    for record, happened in zip(records, truth["lines"], strict=True):
        known = {name: value for name, value in happened.items() if name in record}
        known["response_flags"] = known["response_flags"] or None
        assert {name: record[name] for name in known} == known


@pytest.mark.parametrize("name", ["istio-text", "envoy-text", "istio-json"])
def test_a_default_format_given_as_custom_reads_the_real_envoys_lines_alike(name):
    form = json.loads((GOLDEN / f"{name}.truth.json").read_text())["format"]
    source = form if isinstance(form, str) else json.dumps(form)
    lines = [line.encode() for line in (GOLDEN / f"{name}.log").read_text().splitlines()]
    as_default = parse(lines, Rules()).records
    as_custom = parse(lines, Rules(log_format=source)).records
    assert as_custom["format"].unique().to_list() == ["custom_1"]
    assert as_custom.drop("format", "damage").equals(as_default.drop("format", "damage"))


def test_an_empty_value_at_either_end_is_read_although_lines_come_stripped():
    assert one("%TRACE_ID% %RESPONSE_CODE% %ROUTE_NAME%", " 200 ")["response_code"] == 200


def test_custom_lines_in_a_container_runtimes_file_are_read():
    record = one(
        "[%START_TIME%] %RESPONSE_CODE%",
        "2026-01-02T03:04:05.123456789Z stdout F [2026-01-02T03:04:05.678Z] 200",
    )
    assert record["response_code"] == 200


def test_results_do_not_depend_on_neighbours():
    lines = ['p="/a" 200', 'p="/a"b" 500', "garbage", 'p="x" y', "{}", '{"log": "p=\\"/c\\" 404"}']
    rules = Rules(log_format='p="%REQ(:PATH)%" %RESPONSE_CODE%')
    single = [parse([line.encode()], rules).records.drop("message") for line in lines]
    for order in itertools.islice(itertools.permutations(range(len(lines))), 0, 720, 37):
        together = parse([lines[i].encode() for i in order], rules).records
        for place, i in enumerate(order):
            assert together.filter(pl.col("message") == place).drop("message").equals(single[i])
