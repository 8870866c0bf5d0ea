"""`egresslens advise`, `whatif` and `registry` on files, without any server."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from egresslens.cli import cli

GOLDEN = Path(__file__).parent / "golden"
LOG = str(GOLDEN / "istio-json.log")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)


@pytest.fixture
def advised(tmp_path: Path) -> Path:
    path = tmp_path / "advised.yaml"
    path.write_text(run("advise", "--file", LOG).stdout)
    return path


def test_a_log_file_is_enough_for_advice(advised: Path):
    kinds = [one["kind"] for one in yaml.safe_load_all(advised.read_text()) if one]
    assert "ServiceEntry" in kinds


@pytest.mark.parametrize("log", ["istio-json.log", "istio-text.log"])
def test_with_the_advice_applied_only_addresses_would_be_blocked(tmp_path: Path, log: str):
    path = tmp_path / "advised.yaml"
    path.write_text(run("advise", "--file", str(GOLDEN / log)).stdout)
    found = json.loads(run("whatif", str(path), "--file", str(GOLDEN / log), "--format", "json").stdout)
    blocked = [row for row in found["rows"] if row["verdict"] == "blocked"]
    assert {row["destination_host_source"] for row in blocked} <= {"address"}
    assert all(f"# {row['destination_host']}:" in path.read_text() for row in blocked)


def test_without_any_entry_all_of_it_would_be_blocked():
    found = run("whatif", "--file", LOG)
    assert found.exit_code == 1
    assert "Would be blocked" in found.stdout


def test_what_would_not_be_blocked_ends_well(tmp_path: Path):
    log = tmp_path / "one.log"
    [line] = [
        line
        for line in Path(LOG).read_text().splitlines()
        if "telemetry.vendor" in line and "Passthrough" in line
    ][:1]
    log.write_text(line + "\n")
    path = tmp_path / "advised.yaml"
    path.write_text(run("advise", "--file", str(log)).stdout)
    assert run("whatif", str(path), "--file", str(log)).exit_code == 0


def test_the_registry_in_force_may_be_given_as_files(advised: Path):
    again = run("advise", "--file", LOG, "--registry", str(advised), "--diff")
    assert again.stdout == ""


def test_only_the_given_entries_count_where_that_is_asked_for(advised: Path, tmp_path: Path):
    empty = tmp_path / "mesh.yaml"
    empty.write_text("rootNamespace: istio-system\n")
    arguments = ("--file", LOG, "--registry", str(advised), "--format", "json")
    with_both = json.loads(run("whatif", str(empty), *arguments).stdout)
    alone = json.loads(run("whatif", str(empty), "--only", *arguments).stdout)
    assert alone["requests"]["blocked"] > with_both["requests"]["blocked"]


def test_advice_that_nothing_is_needed_can_be_applied(tmp_path: Path):
    log, path = tmp_path / "a.log", tmp_path / "advised.yaml"
    log.write_text("no access log\n")
    path.write_text(run("advise", "--file", str(log)).stdout)
    assert run("whatif", str(path), "--file", str(log)).exit_code == 0


def test_other_namespaces_can_be_left_out():
    found = json.loads(run("whatif", "--file", LOG, "--namespace", "nowhere", "--format", "json").stdout)
    assert found == {"requests": dict.fromkeys(found["requests"], 0), "rows": []}


def test_a_mistake_in_the_entries_is_named_and_ends_with_65(tmp_path: Path):
    path = tmp_path / "a.yaml"
    head = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
    path.write_text(head + "metadata: {name: a, namespace: b}\nspec: {}\n")
    for command in (
        ("whatif", str(path), "--file", LOG),
        ("registry", "load", str(path)),
        ("advise", "--file", LOG, "--registry", str(path)),
    ):
        found = run(*command)
        assert found.exit_code == 65
        assert found.stderr == f"{path}: document 1: ServiceEntry b/a: spec.hosts: Field required\n"


def test_a_registry_can_be_checked_without_a_server(advised: Path):
    found = run("registry", "load", "--check", str(advised))
    assert found.stdout.endswith(" ServiceEntry\n")


@pytest.mark.parametrize("span", ["30", "1y", "-1d", "1.5h", ""])
def test_a_length_of_time_is_a_number_and_a_unit(span: str):
    found = run("whatif", "--file", LOG, "--since", span)
    assert found.exit_code == 2
    assert "is no length of time such as 90m, 24h, 30d or 4w" in found.stderr


@pytest.mark.parametrize("command", [("whatif",), ("advise",), ("registry", "show"), ("registry", "refresh")])
def test_a_store_that_is_away_is_named_and_ends_with_69(command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EGRESSLENS_CLICKHOUSE_URL", "http://127.0.0.1:1")
    found = run(*command)
    assert found.exit_code == 69
    assert "http://127.0.0.1:1" in found.stderr


def test_watching_says_that_the_store_is_away(advised: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EGRESSLENS_CLICKHOUSE_URL", "http://127.0.0.1:1")
    found = run("registry", "watch", str(advised), "--once")
    assert found.exit_code == 1
    assert "will be tried again" in found.stderr


def test_hosts_with_tricks_in_them_print_harmlessly(tmp_path: Path):
    log = tmp_path / "a.log"
    line = json.loads(
        next(line for line in Path(LOG).read_text().splitlines() if "Passthrough" in line and '"GET"' in line)
    )
    log.write_text(json.dumps({**line, "authority": "x\u001b[2J\n---\nkind: Evil"}) + "\n")
    for command in ("advise", "whatif"):
        assert "\x1b" not in run(command, "--file", str(log)).stdout
    assert [one for one in yaml.safe_load_all(run("advise", "--file", str(log)).stdout) if one] == []
