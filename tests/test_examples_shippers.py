"""examples/shippers/: what they put on the topic is read, with its sender."""

from __future__ import annotations

import re

import polars as pl
import pytest
import yaml

import envoy_format
from compose_files import ROOT
from egresslens.demo.formats import ISTIO_JSON, ISTIO_TEXT
from egresslens.enrich import ORIGIN, Enriched, enrich
from egresslens.rules import Rules
from egresslens.settings import Settings
from istio_examples import json_labels
from shipper_messages import POD, SHIPPERS
from test_examples_istio import PRINTED, READ

FOLDER = ROOT / "examples/shippers"
FILES = sorted(file.stem for file in FOLDER.glob("*.yaml"))
SOURCE = {
    "source_namespace": "shop",
    "source_workload": "checkout",
    "source_pod": POD,
}
PLACE = {"source_region": "eu-west-1", "source_zone": "eu-west-1b"}
LINES = {
    "Istio's text": envoy_format.text(ISTIO_TEXT, PRINTED | {"REQ(USER-AGENT)": "curl/8"}).strip(),
    "Istio's JSON": envoy_format.json_line(ISTIO_JSON, PRINTED | {"REQ(USER-AGENT)": "curl/8"}),
}
by_each_shipper = pytest.mark.parametrize("shipper", SHIPPERS)
of_each_kind = pytest.mark.parametrize("kind", LINES)


NOWHERE = pl.DataFrame({field: [None] for field in ORIGIN}, schema=ORIGIN)
GOLDEN = ROOT / "tests/golden/shippers"


def read(message: bytes) -> Enriched:
    return enrich([message], NOWHERE, Rules(), keep_all=True)


def record(message: bytes) -> dict[str, object]:
    enriched = read(message)
    assert enriched.rejects.is_empty(), enriched.rejects
    (found,) = enriched.records.rows(named=True)
    return found


# --- the messages -------------------------------------------------------------------------------------------


@by_each_shipper
@of_each_kind
def test_a_message_is_read_as_what_happened_and_by_whom(shipper, kind):
    found = record(SHIPPERS[shipper](LINES[kind]))
    wanted = READ | SOURCE | {"user_agent": "curl/8"}
    assert {field: found[field] for field in wanted} == wanted


@pytest.mark.parametrize("shipper", [name for name in SHIPPERS if name != "fluent-bit"])
def test_a_shipper_that_knows_nodes_tells_region_and_zone(shipper):
    found = record(SHIPPERS[shipper](LINES["Istio's text"]))
    assert {field: found[field] for field in PLACE} == PLACE


@by_each_shipper
def test_the_line_tells_what_the_shipper_does_not_know(shipper):
    found = record(SHIPPERS[shipper](envoy_format.json_line(json_labels(), PRINTED)))
    assert found["source_cluster"] == "mesh-a"
    assert {field: found[field] for field in SOURCE | PLACE} == SOURCE | PLACE


def test_the_line_alone_tells_who_sent_it():
    """A shipper that only forwards lines is enough with the recommended format."""
    found = record(envoy_format.json_line(json_labels(), PRINTED).encode())
    assert {field: found[field] for field in SOURCE | PLACE} == SOURCE | PLACE


@by_each_shipper
def test_another_containers_line_is_no_access_log(shipper):
    enriched = read(SHIPPERS[shipper]("listening on :8080", container="app"))
    assert enriched.records.is_empty()
    assert enriched.rejects.is_empty()


def test_what_a_real_collector_wrote_of_a_real_envoy_is_read():
    """Envoy 1.40 with provider-otel.yaml, the collector 0.155 with otel-collector-als.yaml, Kafka 4.1."""
    message = (GOLDEN / "otel-collector-als.bin").read_bytes()
    records = enrich([message], NOWHERE, Rules(), keep_all=True).records
    fields = ["label", "destination_host", "path", "source_cluster", *SOURCE, *PLACE]
    assert records.select(fields).rows(named=True) == [
        {
            "label": "blackhole",
            "destination_host": host,
            "path": "/upload",
            "source_cluster": "mesh-a",
            **SOURCE,
            **PLACE,
        }
        for host in ("paste.example.net", "drop.example.org")
    ]


# --- the files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES)
def test_a_shipper_sends_to_the_topic_that_workers_read(file):
    (topic,) = Settings.model_fields["access_log_topics"].default
    text = (FOLDER / f"{file}.yaml").read_text()
    assert re.findall(r"\btopics?: ([\w.-]+)", text) == [topic]


@pytest.mark.parametrize("file", FILES)
def test_a_shipper_sends_no_longer_messages_than_workers_read(file):
    text = (FOLDER / f"{file}.yaml").read_text()
    sizes = re.findall(r'(?:message\.max\.bytes|max_message_bytes): "?(\d+)', text)
    assert sizes
    assert all(int(size) <= Rules().max_message_bytes for size in sizes)


@pytest.mark.parametrize("file", FILES)
def test_a_shipper_waits_for_every_replica(file):
    assert re.search(r'acks: "?-1|enable.idempotence: "true"', (FOLDER / f"{file}.yaml").read_text())


@pytest.mark.parametrize("file", ["fluent-bit", "vector", "filebeat", "otel-collector-files"])
def test_a_shipper_reads_proxies_logs_alone(file):
    assert re.search(r"[_/]istio-proxy[-/]\*", (FOLDER / f"{file}.yaml").read_text())


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("otel")])
def test_a_batch_has_no_more_records_than_a_message_may_have(file):
    batch = yaml.safe_load((FOLDER / f"{file}.yaml").read_text())["processors"]["batch"]
    assert batch["send_batch_max_size"] <= Rules().max_records_per_message


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("otel")])
def test_a_collectors_pipeline_is_of_parts_that_are_configured(file):
    found = yaml.safe_load((FOLDER / f"{file}.yaml").read_text())
    pipeline = found["service"]["pipelines"]["logs"]
    for part in ("receivers", "processors", "exporters"):
        assert pipeline[part] == list(found[part])


@pytest.mark.parametrize("file", FILES)
def test_a_file_shows_the_fields_of_its_messages(file):
    """The comment at the top names what the parser looks for."""
    fields = {
        "fluent-bit": ("log", "kubernetes", "pod_name", "namespace_name", "container_name", "labels"),
        "vector": ("message", "kubernetes", "pod_name", "pod_namespace", "pod_labels", "pod_owner"),
        "filebeat": ("message", "kubernetes", "pod", "namespace", "labels", "deployment"),
    }
    head = (FOLDER / f"{file}.yaml").read_text().partition("\n\n")[0]
    for field in fields.get(file, ()):
        assert f'"{field}"' in head
        assert f'"{field}"' in SHIPPERS[file]("x").decode()


def test_every_file_is_explained():
    readme = (FOLDER / "README.md").read_text()
    assert [file for file in FILES if f"`{file}.yaml`" not in readme] == []
