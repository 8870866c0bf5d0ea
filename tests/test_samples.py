"""Real lines: read alike as they are and inside shippers' envelopes; only damaged ones are flagged."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from access_lines import read
from samples_truth import samples

SAMPLES = samples()
RECORDS = read(*(sample["raw"] for sample in SAMPLES))
# Labelling adds these.
LABELLED = {"label", "destination_host", "cluster_port", "cluster_subset", "grpc_status"}
EACH = pytest.mark.parametrize("number", range(len(SAMPLES)), ids=[sample["format"] for sample in SAMPLES])
STAMP = "2026-01-02T03:04:06.123456789Z"
POD = {"pod_name": "web-7c9f8d6b5-x2x7q", "namespace_name": "shop", "container_name": "istio-proxy"}


def differences(record: dict, truth: dict) -> dict:
    flags = record.get("response_flags")
    read_as = {**record, "response_flags": ",".join(flags) if flags else None}
    return {
        name: (value, read_as.get(name))
        for name, value in truth.items()
        if name not in LABELLED and read_as.get(name, ...) != value
    }


@EACH
def test_each_field_of_a_real_line_is_read(number):
    assert differences(RECORDS[number], SAMPLES[number]["truth"]) == {}


@EACH
def test_a_damaged_line_is_flagged_and_no_other(number):
    flagged = {"no-timestamp": "no_timestamp", "broken-bracket": "broken_bracket"}
    damage = next((flag for end, flag in flagged.items() if SAMPLES[number]["format"].endswith(end)), None)
    assert RECORDS[number]["damage"] == damage


ENVELOPES: dict[str, Callable[[str], str]] = {
    "cri": lambda line: f"{STAMP} stdout F {line}",
    "docker": lambda line: json.dumps({"log": line + "\n", "stream": "stdout", "time": STAMP}),
    "fluent bit": lambda line: json.dumps({"@timestamp": 1767323046.1, "log": line, "kubernetes": POD}),
    "fluent bit, cri inside": lambda line: json.dumps(
        {"date": 1767323046.1, "log": f"{STAMP} stdout F {line}", "kubernetes": POD}
    ),
    "filebeat": lambda line: json.dumps(
        {
            "@timestamp": "2026-01-02T03:04:06.123Z",
            "@metadata": {"beat": "filebeat"},
            "message": line,
            "log": {"offset": 1, "file": {"path": "/var/log/containers/x.log"}},
            "kubernetes": {"pod": {"name": POD["pod_name"]}, "container": {"name": "istio-proxy"}},
        }
    ),
    "logstash": lambda line: json.dumps({"@version": "1", "@timestamp": STAMP, "message": line}),
}


@pytest.mark.parametrize("envelope", ENVELOPES)
def test_an_envelope_changes_no_field_of_a_real_line(envelope):
    records = read(*(ENVELOPES[envelope](sample["raw"]) for sample in SAMPLES))
    wrong = {
        number: differences(record, sample["truth"])
        for number, (record, sample) in enumerate(zip(records, SAMPLES, strict=True))
    }
    assert {number: found for number, found in wrong.items() if found} == {}
