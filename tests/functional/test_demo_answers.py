"""Each command on the demo's data, held against what the demo sent."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from egresslens.clickhouse.client import connect
from egresslens.settings import load
from functional.deployment import COMMAND, until
from functional.test_demo import processes_of, require_parts

pytestmark = pytest.mark.functional


@dataclass(frozen=True)
class Demo:
    """A demo that has answered and stays up."""

    folder: Path
    process: subprocess.Popen[bytes]
    output: Path

    def run(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [*COMMAND, *arguments],
            env=os.environ | {"EGRESSLENS_CONFIG_FILE": str(self.folder / "settings.toml")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert done.stderr == ""
        return done.stdout

    def report(self, name: str) -> list[dict[str, Any]]:
        return json.loads(self.run("report", name, "--format", "json"))["rows"]

    @property
    def block(self) -> str:
        """What the addresses of this demo begin with."""
        documents = yaml.safe_load_all((self.folder / "registry" / "mesh.yaml").read_text())
        [context] = [one for one in documents if one["kind"] == "EgressContext"]
        return context["spec"]["networks"][0]["cidr"].rpartition(".")[0]

    def sent(self, *labels: str) -> Mapping[tuple[str, str, int, str], int]:
        """How often who called what, by the label it must have: from the plan, by hand."""
        from egresslens.demo.plan import PHASES  # noqa: PLC0415 - needs the extras

        counts: Counter[tuple[str, str, int, str]] = Counter()
        for call in (call for phase in PHASES for call in phase.calls if call.label in labels):
            host = call.to.host or f"{self.block}.{call.to.last}"
            counts[call.workload, host, call.to.port, call.label] += call.times
        return counts


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    require_parts()
    folder = tmp_path_factory.mktemp("answers")
    said = folder / "said"
    with said.open("wb") as out:
        process = subprocess.Popen(
            [*COMMAND, "demo", "--dir", str(folder / "demo")], stdout=out, stderr=out, start_new_session=True
        )
    try:
        until(lambda: "Ctrl-C stops" in said.read_text() or process.poll() is not None, "the demo's answers")
        assert process.poll() is None, said.read_text()
        running = Demo(folder / "demo", process, said)
        until(lambda: "not judged" not in judged(running), "all that was seen is judged")
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def judged(demo: Demo) -> str:
    environment = os.environ | {"EGRESSLENS_CONFIG_FILE": str(demo.folder / "settings.toml")}
    command = [*COMMAND, "report", "external"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr


def key(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["source_workload"], row["destination_host"], row["destination_port"]


def test_external_is_every_call_that_was_let_out(demo: Demo):
    found = {(*key(row), row["label"]): row["requests"] for row in demo.report("external")}
    assert found == demo.sent("passthrough", "outbound")


def test_databases_are_the_two_databases_the_queue_and_the_cache(demo: Demo):
    found = {key(row): (row["destination_kind"], row["requests"]) for row in demo.report("databases")}
    assert found == {
        ("checkout", "orders-db.mysql.example.com", 3306): ("mysql", 4),
        ("idgen", "ledger.postgres.example.com", 5432): ("postgres", 3),
        ("idgen", f"{demo.block}.107", 5672): ("rabbitmq", 2),
        ("idgen", f"{demo.block}.108", 6379): ("redis", 1),
    }
    assert all(
        row["bytes_written"] > 0 for row in demo.report("databases") if row["destination_port"] != 6379
    )


def test_regions_are_the_declared_ones_and_what_is_abroad_is_a_violation(demo: Demo):
    rows = demo.report("regions")
    assert {tuple(row["home_regions"]) for row in rows} == {("local",)}
    abroad = {row["destination_host"] for row in rows if row["place"] == "out of region"}
    assert abroad == {"httpbin.org", "telemetry.vendor.example.net"}
    assert {row["destination_host"] for row in rows if row["residency"] == "violation"} == abroad
    at_home = {row["destination_host"] for row in rows if row["place"] == "in region"}
    assert at_home >= {"orders-db.mysql.example.com", "api.payments.example.com"}


def test_blocked_is_every_attempt_that_was_turned_away(demo: Demo):
    found = {(*key(row), "blackhole"): row["attempts"] for row in demo.report("blocked")}
    assert found == demo.sent("blackhole")


def test_new_is_everything_for_all_of_it_was_seen_first_today(demo: Demo):
    sent = {one[:3] for one in demo.sent("passthrough", "outbound", "blackhole")}
    assert {key(row) for row in demo.report("new")} == sent


def test_the_mode_is_the_last_one(demo: Demo):
    assert [(row["source_namespace"], row["mode"]) for row in demo.report("modes")] == [
        ("shop", "REGISTRY_ONLY")
    ]


def test_coverage_sees_both_workloads_and_all_their_records(demo: Demo):
    sent = Counter[str]()
    for (workload, *_), times in demo.sent("passthrough", "outbound", "blackhole").items():
        sent[workload] += times
    assert {row["source_workload"]: row["records"] for row in demo.report("coverage")} == sent
    assert all(row["findings"] == [] for row in demo.report("coverage"))


def test_events_are_found_one_by_one(demo: Demo):
    found = [
        json.loads(one) for one in demo.run("events", "--label", "blackhole", "--format", "json").splitlines()
    ]
    assert Counter((*key(row), row["label"]) for row in found) == demo.sent("blackhole")


def test_sql_counts_what_was_sent(demo: Demo):
    query = "SELECT label, count() AS calls FROM events WHERE hop = 'sidecar' GROUP BY label"
    rows = [json.loads(one) for one in demo.run("sql", query, "--format", "json").splitlines()]
    labels = {label: sum(demo.sent(label).values()) for label in ("passthrough", "outbound", "blackhole")}
    assert {row["label"]: row["calls"] for row in rows} == labels


def test_alerts_are_one_for_each_blocked_destination_and_each_violation(demo: Demo):
    wanted = {("blackhole", *one[:3]) for one in demo.sent("blackhole")}
    wanted |= {
        ("residency", *one[:3])
        for one in demo.sent("passthrough", "outbound")
        if one[1] in ("httpbin.org", "telemetry.vendor.example.net")
    }

    def found() -> list[tuple[Any, ...]]:
        rows = map(json.loads, demo.run("alerts", "list", "--format", "json").splitlines())
        return sorted((row["rule"], *key(row)) for row in rows)

    until(lambda: len(found()) >= len(wanted), "all incidents")
    assert found() == sorted(wanted)


def test_whatif_blocks_what_is_not_declared(demo: Demo):
    rows = json.loads(demo.run("whatif", "--format", "json", code=1))["rows"]
    blocked = {(*key(row), row["label"]): row["requests"] for row in rows if row["verdict"] == "blocked"}
    declared = ("httpbin.org",)
    assert blocked == {one: n for one, n in demo.sent("passthrough").items() if one[1] not in declared}


def test_with_the_advice_only_addresses_would_be_blocked(demo: Demo, tmp_path: Path):
    advised = tmp_path / "advised.yaml"
    advised.write_text(demo.run("advise"))
    rows = json.loads(demo.run("whatif", str(advised), "--format", "json", code=1))["rows"]
    assert {row["destination_host"] for row in rows if row["verdict"] == "blocked"} == {
        f"{demo.block}.107",
        f"{demo.block}.108",
    }


def test_a_change_of_what_is_declared_changes_the_past(demo: Demo):
    mesh = demo.folder / "registry" / "mesh.yaml"
    before = mesh.read_text()
    telemetry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "telemetry", "namespace": "shop"},
        "spec": {
            "hosts": ["telemetry.vendor.example.net"],
            "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
            "resolution": "DNS",
        },
    }
    stored = demo.run("sql", "SELECT * FROM raw_windows_1m ORDER BY ALL", "--format", "json")

    def entry() -> Any:
        [row] = [row for row in demo.report("external") if row["destination_host"].startswith("telemetry")]
        return row["service_entry"]

    assert entry() is None
    try:
        mesh.write_text(f"{before}---\n{yaml.safe_dump(telemetry)}")
        until(lambda: entry() == "shop/telemetry", "the new entry in the report")
        assert demo.run("sql", "SELECT * FROM raw_windows_1m ORDER BY ALL", "--format", "json") == stored
    finally:
        mesh.write_text(before)
        until(lambda: entry() is None, "the old registry")


def test_answers_that_are_not_what_was_sent_are_shown(demo: Demo):
    from egresslens.demo.pipeline import Pipeline  # noqa: PLC0415 - needs the extras
    from egresslens.demo.run import compare  # noqa: PLC0415

    settings = load({"EGRESSLENS_CONFIG_FILE": str(demo.folder / "settings.toml")})
    said = io.StringIO()
    with connect(settings, "reader") as client:
        # As if nothing had been sent.
        assert not compare(client, Pipeline(demo.folder, settings, {}), [], Console(file=said, width=200))
    assert "windows_1m differs from what was sent" in said.getvalue()
    assert re.search(r"found\s+shop\s+idgen\s+sidecar\s+blackhole\s+telemetry", said.getvalue())
    assert "Every answer" not in said.getvalue()


# The last two: one sends more than was planned, the other ends it.
def test_it_takes_requests_as_it_says(demo: Demo):
    url = re.search(r"http://127[.\d]+:\d+/ids", demo.output.read_text())
    request = urllib.request.Request(url[0], headers={"Host": "idgen.example.com"})
    with urllib.request.urlopen(request, timeout=10) as page:
        assert page.status == 200


def test_it_ends_cleanly_on_ctrl_c(demo: Demo):
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 0, demo.output.read_text()
    assert processes_of(demo.folder) == []
