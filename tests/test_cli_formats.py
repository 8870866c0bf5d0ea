"""`egresslens formats`: what a file holds, and a format tried on it."""

from __future__ import annotations

import gzip
import json

import pytest
import zstandard
from click.testing import CliRunner

from egresslens.cli import cli

LAYOUT = (
    '[2022-11-08T17:31:15.958Z] "- - -" 0 UH - - "-" 0 0 0 - "-" "-" "-" "-" "-" BlackHoleCluster - '
    "199.55.178.23:443 100.3.75.204:48682 kelp.umber.com -"
)
AGENT_LOG = '{"level":"info","time":"2026-01-02T03:04:05Z","scope":"xdsproxy","msg":"connected"}'
HOSTILE = "nonsense \x1b[31m\u202e red"
CUSTOM = "200 outbound|443||a.com"
LINES = [LAYOUT, LAYOUT, HOSTILE, "more nonsense", "{broken", AGENT_LOG, CUSTOM]
FORMAT = "%RESPONSE_CODE% %UPSTREAM_CLUSTER%"


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "access.log"
    path.write_text("\n".join(LINES) + "\n")
    return path


def run(*arguments, **options):
    return CliRunner().invoke(cli, ["formats", *map(str, arguments)], **options)


def census(*arguments, **options):
    done = run("--format", "json", *arguments, **options)
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_layouts_are_counted_by_line(log):
    found = census(log)
    assert found["lines"] == len(LINES)
    assert found["formats"][0] == {"format": "istio_text_1.9", "lines": 2, "records": 2, "forgiven": {}}


def test_rejects_are_counted_by_reason_with_the_first_line_as_an_example(log):
    reject = census(log)["rejected"][0]
    assert reject["reason"] == "unknown_format"
    assert reject["count"] == 3
    assert reject["first_line"] == 3


def test_filtered_lines_are_counted_by_reason(log):
    assert census(log)["filtered"] == [{"reason": "proxy_log", "count": 1}]


def test_every_line_is_somewhere(log):
    found = census(log)
    assert found["lines"] == sum(
        row.get("lines", row.get("count"))
        for table in ("formats", "rejected", "filtered")
        for row in found[table]
    )


def test_forgiven_damage_is_counted(tmp_path):
    path = tmp_path / "log"
    path.write_text(LAYOUT.split("] ", 1)[1] + "\n")
    assert census(path)["formats"][0]["forgiven"] == {"no_timestamp": 1}


@pytest.mark.parametrize("shape", ["table", "json"])
def test_an_example_cannot_drive_the_terminal(log, shape):
    output = run("--format", shape, log).output
    assert "\x1b" not in output
    assert "\u202e" not in output
    assert r"\x1b[31m" in output.replace(r"\\", "\\")


def test_a_long_example_is_cut(tmp_path):
    path = tmp_path / "log"
    path.write_text("x" * 100_000 + "\n")
    assert len(run(path).output) < 2_000


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_compressed_files_are_read(log, compress):
    packed = log.with_suffix(".packed")
    packed.write_bytes(compress(log.read_bytes()))
    assert run(packed).output == run(log).output


def test_standard_input_is_read(log):
    assert run("-", input=log.read_bytes()).output == run(log).output


def test_an_empty_file_is_an_error(tmp_path):
    (tmp_path / "empty").touch()
    assert run(tmp_path / "empty").exit_code == 1


def test_configured_formats_are_counted(log, monkeypatch):
    monkeypatch.setenv("EGRESSLENS_LOG_FORMAT", FORMAT)
    assert {row["format"]: row["lines"] for row in census(log)["formats"]}["custom_1"] == 1


def test_a_format_can_be_tried_before_it_is_configured(log):
    found = census("--try", "%PROTOCOL% only", "--try", FORMAT, log)
    assert {row["format"]: row["lines"] for row in found["formats"]}["custom_2"] == 1


def test_a_tried_format_says_what_it_tells_and_what_it_reads_over(log):
    (custom,) = census("--try", f"{FORMAT} %CONNECTION_ID% %HOSTNAME%", "--try", FORMAT, log)[
        "custom_formats"
    ][:1]
    assert custom["fields"] == ["response_code", "source_pod", "source_workload", "upstream_cluster"]
    assert custom["read_over"] == ["%CONNECTION_ID%"]


def test_a_format_that_cannot_label_is_told_so(log):
    done = run("--try", "%RESPONSE_CODE% %UPSTREAM_HOST%", log)
    assert "nothing tells what became of a call" in done.output


def test_a_tried_format_that_no_line_is_of_fails(log):
    assert run("--try", "never %PROTOCOL%", log).exit_code == 1


def test_a_bad_format_is_refused_with_its_place(log):
    done = run("--try", "abc %nope%", log)
    assert done.exit_code == 2
    assert "position 4" in done.output
    assert "abc %nope%" in done.output
