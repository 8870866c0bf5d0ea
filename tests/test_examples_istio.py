"""examples/istio/: what a proxy configured so writes is read as what happened, by whom.

The real Envoy writes the same formats in functional/test_examples_istio.py.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone

import polars as pl
import pytest
import yaml
from jsonschema import Draft202012Validator
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

import envoy_format
from egresslens.demo.formats import ISTIO_JSON, ISTIO_TEXT
from egresslens.enrich import ORIGIN, enrich
from egresslens.parse.keys import ISTIO_KEYS
from egresslens.parse.template import compiled, fields_of
from egresslens.rules import Rules
from istio_examples import (
    ISTIO,
    json_labels,
    json_mesh_wide,
    mesh_config,
    otel_labels,
    provider,
    text,
)
from published import strict

FILES = sorted(file.name for file in ISTIO.glob("*.yaml"))
SOURCE = {
    "source_cluster": "mesh-a",
    "source_namespace": "shop",
    "source_workload": "checkout",
    "source_pod": "checkout-5f6d8c7b9-k4w2z",
    "source_region": "eu-west-1",
    "source_zone": "eu-west-1b",
}
# A blocked attempt, by operator.
PRINTED = {
    "START_TIME": datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=timezone.utc),
    "ROUTE_NAME": "block_all",
    "REQ(:METHOD)": "POST",
    "REQ_WITHOUT_QUERY(X-ENVOY-ORIGINAL-PATH?:PATH)": "/upload",
    "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)": "/upload?token=secret",
    "PROTOCOL": "HTTP/1.1",
    "RESPONSE_CODE": 502,
    "RESPONSE_FLAGS": "-",
    "RESPONSE_CODE_DETAILS": "direct_response",
    "BYTES_RECEIVED": 42,
    "BYTES_SENT": 0,
    "DURATION": 3,
    "REQ(USER-AGENT)": 'curl/8 "quoted"',
    "REQ(X-REQUEST-ID)": "2a8f6f1e-0001-4c52-9d5e-1f0a8a2b8f11",
    "REQ(:AUTHORITY)": "paste.example.net",
    "DOWNSTREAM_LOCAL_ADDRESS": "203.0.113.9:80",
    "DOWNSTREAM_REMOTE_ADDRESS": "10.0.1.7:51234",
    "ENVIRONMENT(ISTIO_META_CLUSTER_ID)": SOURCE["source_cluster"],
    "ENVIRONMENT(POD_NAMESPACE)": SOURCE["source_namespace"],
    "ENVIRONMENT(ISTIO_META_WORKLOAD_NAME)": SOURCE["source_workload"],
    "ENVIRONMENT(POD_NAME)": SOURCE["source_pod"],
    "CEL(xds.node.locality.region)": SOURCE["source_region"],
    "CEL(xds.node.locality.zone)": SOURCE["source_zone"],
}
READ = {
    "start_time": PRINTED["START_TIME"],
    "label": "blackhole",
    "label_evidence": "route",
    "destination_host": "paste.example.net",
    "destination_port": 80,
    "destination_ip": "203.0.113.9",
    "source_ip": "10.0.1.7",
    "method": "POST",
    "path": "/upload",
    "protocol": "HTTP/1.1",
    "response_code": 502,
    "response_code_details": "direct_response",
    "bytes_received": 42,
    "bytes_sent": 0,
    "duration_ms": 3,
    "user_agent": 'curl/8 "quoted"',
    "request_id": PRINTED["REQ(X-REQUEST-ID)"],
    "authority": "paste.example.net",
    "route_name": "block_all",
    "upstream_cluster": None,
    "damage": None,
}


def one(message: bytes, *formats: str | dict[str, str]) -> dict[str, object]:
    """The record of a message."""
    rules = Rules(log_format=tuple(f if isinstance(f, str) else json.dumps(f) for f in formats))
    origins = pl.DataFrame({field: [None] for field in ORIGIN}, schema=ORIGIN)
    enriched = enrich([message], origins, rules, keep_all=True)
    assert enriched.rejects.is_empty(), enriched.rejects
    (record,) = enriched.records.rows(named=True)
    return record


def said(record: dict[str, object], fields: dict[str, object]) -> dict[str, object]:
    return {field: record[field] for field in fields}


# --- JSON ---------------------------------------------------------------------------------------------------


def test_the_recommended_format_has_every_field_that_is_read():
    assert json_labels().keys() == {*ISTIO_KEYS, *SOURCE}


def test_the_recommended_format_is_istios_own_but_for_the_query_string():
    own = {key: value for key, value in json_labels().items() if key in ISTIO_JSON}
    assert own == ISTIO_JSON | {"path": "%REQ_WITHOUT_QUERY(X-ENVOY-ORIGINAL-PATH?:PATH)%"}


def test_the_mesh_wide_format_is_the_same():
    assert json_mesh_wide() == json_labels()


def test_a_recommended_line_is_read_without_any_setting():
    record = one(envoy_format.json_line(json_labels(), PRINTED).encode())
    assert record["format"] == "istio_json"
    assert said(record, READ | SOURCE) == READ | SOURCE


def test_a_recommended_line_is_read_the_same_as_a_custom_format():
    line = envoy_format.json_line(json_labels(), PRINTED).encode()
    record = one(line, json_labels())
    assert record["format"] == "custom_1"
    assert said(record, READ | SOURCE) == READ | SOURCE


def test_what_a_proxy_does_not_know_of_itself_is_unknown():
    known = {key: value for key, value in PRINTED.items() if not key.startswith(("CEL", "ENVIRONMENT"))}
    record = one(envoy_format.json_line(json_labels(), known).encode())
    assert said(record, SOURCE) == dict.fromkeys(SOURCE)


# --- text ---------------------------------------------------------------------------------------------------


def test_the_text_format_begins_as_istios_own_but_for_the_query_string():
    own = ISTIO_TEXT.strip().replace(PATH, json_labels()["path"])
    assert text().startswith(own + " ")


PATH = "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"


def test_the_text_format_compiles_and_names_the_sender():
    (found,) = compiled((text(),))
    assert fields_of(found) >= {"source_cluster", "source_namespace", "source_workload", "source_pod"}


def test_a_text_line_is_read_with_its_format_as_the_setting():
    printed = PRINTED | {"REQ(USER-AGENT)": "curl/8"}
    record = one(envoy_format.text(text(), printed).encode(), text())
    wanted = READ | SOURCE | {"user_agent": "curl/8", "source_region": None, "source_zone": None}
    assert record["format"] == "custom_1"
    assert said(record, wanted) == wanted


# --- OpenTelemetry ------------------------------------------------------------------------------------------


def test_istios_otel_provider_names_the_sender_in_labels():
    """Body and attributes as Envoy sends them: the default text with its newline, labels as strings."""
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    printed = PRINTED | {"REQ(USER-AGENT)": "curl/8"}
    record.body.string_value = envoy_format.text(ISTIO_TEXT, printed)
    for key, value in sorted(envoy_format_labels(printed).items()):
        attribute = record.attributes.add()
        attribute.key = key
        attribute.value.string_value = value
    found = one(request.SerializeToString())
    wanted = READ | SOURCE | {"user_agent": "curl/8"}
    assert said(found, wanted) == wanted


def envoy_format_labels(printed: dict[str, object]) -> dict[str, str]:
    return {key: envoy_format.text(value, printed) for key, value in otel_labels().items()}


# --- the files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("telemetry")])
def test_a_telemetry_is_as_istio_defines_it(file):
    found = yaml.safe_load((ISTIO / file).read_text())
    assert found["apiVersion"] == "telemetry.istio.io/v1"
    errors = Draft202012Validator(strict("istio-telemetry.json")).iter_errors(found)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


@pytest.mark.parametrize("kind", ["", "-otel"])
def test_a_telemetry_names_a_provider_that_is_defined(kind):
    telemetry = yaml.safe_load((ISTIO / f"telemetry{kind}.yaml").read_text())
    (logging,) = telemetry["spec"]["accessLogging"]
    assert logging["providers"] == [{"name": provider(f"provider{kind or '-json'}.yaml")["name"]}]


@pytest.mark.parametrize("file", ["mesh-config-json.yaml", "mesh-config-text.yaml"])
def test_a_mesh_wide_format_is_of_its_encoding(file):
    config = mesh_config(file)
    assert config["accessLogFile"] == "/dev/stdout"
    assert (config["accessLogEncoding"] == "JSON") == config["accessLogFormat"].startswith("{")


def test_every_file_is_explained():
    readme = (ISTIO / "README.md").read_text()
    assert [file for file in FILES if f"`{file}`" not in readme] == []
