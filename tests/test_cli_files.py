"""`parse`, `explain` and `analyze`: the core on files, without any server."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path

import pytest
import zstandard
from click.testing import CliRunner

from egresslens.cli import cli
from functional.deployment import COMMAND, istio_json
from samples_truth import samples

BLOCKED = (
    '[2022-11-08T17:31:15.958Z] "- - -" 0 UH - - "-" 0 0 0 - "-" "-" "-" "-" "-" BlackHoleCluster - '
    "199.55.178.23:443 100.3.75.204:48682 kelp.umber.com -"
)
INBOUND = istio_json(1, upstream_cluster="inbound|8080||").decode()
COMPRESSIONS = pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
FILTERED = '{"level":"info","time":"2026-01-02T03:04:05Z","scope":"xdsproxy","msg":"connected"}'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_text("\n".join([BLOCKED, "nonsense", istio_json(3).decode(), INBOUND, FILTERED]) + "\n")
    return path


def run(*arguments: str, **options):
    return CliRunner().invoke(cli, arguments, **options)


def test_parse_prints_each_lines_record_reject_or_filter(log):
    objects = [json.loads(line) for line in run("parse", str(log)).output.splitlines()]
    assert [one["line"] for one in objects] == [1, 2, 3, 4, 5]
    assert objects[0]["label"] == "blackhole"
    assert objects[1] == {"line": 2, "reject": {"reason": "unknown_format", "field": None}}
    assert objects[3]["label"] == "inbound"
    assert objects[4] == {"line": 5, "filtered": {"reason": "proxy_log"}}


@COMPRESSIONS
def test_parse_reads_compressed_files(log, compress):
    packed = log.with_suffix(".packed")
    packed.write_bytes(compress(log.read_bytes()))
    assert run("parse", str(packed)).output == run("parse", str(log)).output


def test_parse_reads_standard_input(log):
    assert run("parse", "-", input=log.read_bytes()).output == run("parse", str(log)).output


@COMPRESSIONS
def test_compressed_standard_input_is_unpacked(log, compress):
    packed = compress(log.read_bytes())
    assert run("parse", "-", input=packed).output == run("parse", str(log)).output


@COMPRESSIONS
def test_compressed_parts_one_after_another_are_one_file(log, compress):
    packed = log.with_suffix(".packed")
    half = len(BLOCKED) + 1
    packed.write_bytes(compress(log.read_bytes()[:half]) + compress(log.read_bytes()[half:]))
    assert run("parse", str(packed)).output == run("parse", str(log)).output


@pytest.mark.parametrize(
    ("command", "shown"),
    [("parse", "kelp.umber.com"), ("formats", "unknown_format"), ("analyze", "kelp.umber.com")],
)
def test_a_file_that_is_cut_off_gives_what_came_before_and_exit_code_65(log, command, shown):
    packed = log.with_suffix(".packed")
    packed.write_bytes(gzip.compress(log.read_bytes())[:-3])
    done = run(command, str(packed))
    assert done.exit_code == 65
    assert "is damaged or cut off after 5 lines: it ends before its end mark" in done.stderr
    assert shown in done.stdout


@COMPRESSIONS
def test_a_file_that_is_damaged_says_so(log, compress):
    packed = bytearray(compress(os.urandom(50_000)))
    packed[3_000:3_100] = b"x" * 100
    log.with_suffix(".packed").write_bytes(packed[:-20])
    done = run("formats", str(log.with_suffix(".packed")))
    assert done.exit_code == 65
    assert "damaged or cut off" in done.stderr


def test_advice_is_not_built_on_half_a_file(log):
    packed = log.with_suffix(".packed")
    packed.write_bytes(gzip.compress(log.read_bytes())[:-9])
    done = run("whatif", "--file", str(packed))
    assert done.exit_code == 65
    assert done.stdout == ""


def test_a_message_in_a_json_string_may_hold_line_breaks(tmp_path):
    multiline = next(sample["raw"] for sample in samples() if "\n" in sample["raw"])
    path = tmp_path / "messages"
    path.write_text(json.dumps(multiline) + "\n" + json.dumps("nonsense") + "\n")
    objects = [json.loads(line) for line in run("parse", "--messages", str(path)).output.splitlines()]
    assert objects[0]["line"] == 1
    assert objects[0]["label"]
    assert objects[1]["reject"]["reason"] == "unknown_format"


def test_a_file_that_is_not_there_is_an_error_that_says_so(tmp_path):
    done = run("parse", str(tmp_path / "missing"))
    assert done.exit_code != 0
    assert "missing" in done.output


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"upstream_cluster": "PassthroughCluster"}, "passthrough (high confidence)"),
        ({"upstream_cluster": "BlackHoleCluster"}, "blackhole (high confidence)"),
        ({}, "outbound (high confidence)"),
        ({"upstream_cluster": "inbound|8080||"}, "inbound (high confidence)"),
        ({"upstream_cluster": "InboundPassthroughCluster"}, "inbound_passthrough (high confidence)"),
        ({"upstream_cluster": "prometheus_stats"}, "internal (high confidence)"),
        ({"upstream_cluster": None}, "unknown (low confidence)"),
    ],
)
def test_explain_says_the_label_and_why(fields, said):
    done = run("explain", istio_json(1, **fields).decode())
    assert done.exit_code == 0
    assert said in done.output


def test_explain_as_json_has_steps_and_record():
    (found,) = json.loads(run("explain", "--json", BLOCKED).output)["records"]
    assert found["record"]["label"] == "blackhole"
    assert {"read as", "cluster", "label", "destination"} <= {step["about"] for step in found["steps"]}


def test_explain_of_no_access_log_says_so_and_exits_1():
    done = run("explain", "nonsense")
    assert done.exit_code == 1
    assert "unknown_format" in done.output


def test_explain_shows_a_terminal_escape_and_does_not_obey_it():
    done = run("explain", istio_json(1, authority="a\x1b[31mb").decode())
    assert "\x1b[31m" not in done.output


def test_analyze_prints_who_calls_what_and_what_was_blocked(log):
    output = run("analyze", str(log)).output
    assert "host-3.example.com" in output
    assert "kelp.umber.com" in output
    assert "Blocked, and who tried" in output


def test_analyze_as_json_has_all_rows(log):
    found = json.loads(run("analyze", "--json", str(log)).output)
    assert found["lines"] == 5
    assert {row["label"] for row in found["rows"]} == {"blackhole", "outbound"}


def test_analyze_of_nothing_is_an_error():
    assert run("analyze", "-", input=b"").exit_code != 0


def test_output_in_a_pipe_is_plain_text(log):
    done = subprocess.run(
        [*COMMAND, "analyze", str(log)], capture_output=True, text=True, check=True, env=os.environ
    )
    assert "\x1b" not in done.stdout


def test_a_reader_that_ends_early_ends_parse_quietly(tmp_path):
    path = tmp_path / "long.log"
    path.write_text((BLOCKED + "\n") * 20_000)
    shell = f"set -o pipefail; {' '.join(map(repr, COMMAND))} parse {path} | head -1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert json.loads(done.stdout)["label"] == "blackhole"
