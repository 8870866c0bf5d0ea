"""The golden files against the real Envoy: they say what it says, and their truth is the truth."""

import importlib.util
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from egresslens.demo.plan import World, new_world, random_block

if importlib.util.find_spec("envoy") is None:
    if os.environ.get("CI") == "true":
        pytest.fail("the module envoy is not installed", pytrace=False)
    pytest.skip("the module envoy is not installed", allow_module_level=True)

from egresslens.demo.record import FORMATS, GOLDEN_BLOCK, expected, recorded

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has loopback addresses for pods"),
]

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture(scope="module")
def world() -> World:
    return new_world(random_block())


@pytest.fixture(scope="module")
def recording(world, tmp_path_factory):
    """The traffic once more: expected lines, and the written lines per format."""
    return recorded(world, tmp_path_factory.mktemp("envoy"))


@pytest.mark.parametrize("name", FORMATS)
def test_envoy_writes_lines_like_the_golden_ones(recording, world, name):
    _, written = recording
    golden = (GOLDEN / f"{name}.log").read_text()
    assert shapes(written[name], world) == shapes(golden, replace(world, block=GOLDEN_BLOCK))


@pytest.mark.parametrize("name", FORMATS)
def test_the_golden_truth_is_what_was_sent(recording, world, name):
    lines, _ = recording
    golden = json.loads((GOLDEN / f"{name}.truth.json").read_text())
    assert golden["format"] == FORMATS[name]
    found = json.loads(
        json.dumps([expected(name, line) for line in lines]).replace(world.block, GOLDEN_BLOCK)
    )
    assert [without_sizes(line) for line in found] == [without_sizes(line) for line in golden["lines"]]


def test_the_truth_is_what_envoys_own_json_says(recording):
    lines, written = recording
    for line, text in zip(lines, written["istio-json"].splitlines(), strict=True):
        said = json.loads(text)
        flags = [] if said["response_flags"] == "-" else said["response_flags"].split(",")
        assert flags == list(line.response_flags)
        for name in (
            "upstream_cluster",
            "response_code",
            "route_name",
            "method",
            "path",
            "authority",
            "requested_server_name",
            "user_agent",
            "bytes_received",
            "bytes_sent",
        ):
            assert said[name] == getattr(line, name), (name, text)


def test_without_the_right_to_low_ports_the_lines_ask_for_the_same_ports(tmp_path):
    world = new_world(random_block())
    unprivileged = replace(
        world,
        passthrough_port=18081,
        idgen=replace(world.idgen, passthrough_port=18081),
        checkout=replace(world.checkout, passthrough_port=18081),
    )
    lines, written = recorded(unprivileged, tmp_path)
    passed = [json.loads(text) for text in written["istio-json"].splitlines() if "PassthroughCluster" in text]
    assert ports(passed, "downstream_local_address") == {"80", "443", "5672", "6379"}
    assert ports(passed, "upstream_host") == {"18081"}
    assert len(passed) == sum(line.label == "passthrough" for line in lines)


def ports(records: list[dict], field: str) -> set[str]:
    return {record[field].partition(":")[2] for record in records}


def shapes(text: str, world: World) -> list[str]:
    """The lines with times, ids, sizes, durations and ports of the moment replaced."""
    text = text.replace(f"{world.block}.", "BLOCK.")
    # A port that another program holds is replaced by a free one.
    text = re.sub(r"inbound\|\d+\|\|", "inbound|8080||", text)
    text = re.sub(r"((?:BLOCK\.\d+|127\.0\.0\.6):)\d{4,5}\b", r"\1PORT", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z|(?<=ts=)\d+\.\d{3}\b", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "ID", text)
    # Text formats: received, sent, duration, and the upstream's time where there is one.
    text = re.sub(r'(?<= )\d+ \d+ \d+ -(?= ")', "N N N -", text)
    text = re.sub(r'(?<= )\d+ \d+ \d+ \d+(?= ")', "N N N N", text)
    text = re.sub(r"\b(dur|rx|tx)=\d+", r"\1=N", text)
    text = re.sub(r'"(bytes_received|bytes_sent|duration)":\d+', r'"\1":N', text)
    text = re.sub(r'"upstream_service_time":"\d+"', '"upstream_service_time":"N"', text)
    return text.splitlines()


def without_sizes(line: dict) -> dict:
    """A ClientHello's size depends on the TLS library."""
    return {name: value for name, value in line.items() if name not in ("bytes_received", "bytes_sent")}
