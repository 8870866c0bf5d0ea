"""`report`, `events` and `sql` on known traffic, from Kafka through the worker to the terminal."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from egresslens.alerts.book import Incident, Subject
from egresslens.alerts.history import save
from egresslens.clickhouse.client import connect
from egresslens.kafka.broker import Broker
from egresslens.report import REPORTS
from egresslens.report.query import saved
from egresslens.store.process import StoreProcess
from functional.deployment import COMMAND, Deployment, deployments, istio_json, until
from registries import context, entry

pytestmark = pytest.mark.functional

HOSTILE = "\x1b[31mred\u202e\x9b1m'; DROP TABLE x; -- $(reboot) - yaml: [x.example"


def line(number: int, host: str, workload: str = "cart", namespace: str = "shop", **fields: Any) -> bytes:
    """One record in Fluent Bit's envelope, so that it names its workload."""
    record = json.loads(istio_json(number, authority=host, **fields))
    labels = {"app": workload}
    kubernetes = {"namespace_name": namespace, "pod_name": f"{workload}-1", "labels": labels}
    return json.dumps({"log": json.dumps(record), "kubernetes": kubernetes}).encode()


def blackhole(number: int, host: str, **given: Any) -> bytes:
    return line(
        number, host, upstream_cluster="BlackHoleCluster", response_code=502, response_flags="UH",
        upstream_host=None, **given,
    )  # fmt: skip


def passthrough(number: int, host: str, **given: Any) -> bytes:
    return line(number, host, upstream_cluster="PassthroughCluster", **given)


@pytest.fixture(scope="module")
def deployed(
    broker: Broker, store: StoreProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    makes = deployments(broker.bootstrap, store, tmp_path_factory.mktemp("reports"))
    one = next(makes)()
    worker = one.start_worker()
    one.produce(
        [
            *(passthrough(n, "api.example.com") for n in range(6)),
            *(passthrough(n, "api.example.com", response_code=503) for n in range(6, 8)),
            *(passthrough(n, "s3.us-east-1.amazonaws.com") for n in range(8, 11)),
            *(
                line(
                    n,
                    "db.abc.eu-west-1.rds.amazonaws.com:5432",
                    upstream_cluster="outbound|5432||db.abc.eu-west-1.rds.amazonaws.com",
                )
                for n in range(11, 15)
            ),
            *(blackhole(n, "evil.example", namespace="pay", workload="ledger") for n in range(15, 20)),
            passthrough(20, HOSTILE),
            f"no access log of {HOSTILE}".encode(),
        ]
    )
    one.wait_for_messages(22)
    assert worker.stop() == 0
    declared = one.folder / "registry.yaml"
    documents = [
        entry("net/api", "api.example.com"),
        context(
            homes=[{"namespace": "shop", "regions": ["eu-west-1"]}],
            residency=[{"name": "eu", "namespaces": ["shop"], "regions": ["eu-*"]}],
        ),
    ]
    declared.write_text("---\n".join(yaml.safe_dump(document) for document in documents))
    loaded = run(one, "registry", "load", str(declared))
    assert loaded.returncode == 0, loaded.stderr
    now = datetime.now(timezone.utc)
    told = Incident(
        "one", "blackhole", "blackhole", "info", "firing", Subject(destination_host=HOSTILE), now, now, 1,
        f"tried {HOSTILE}", {"said": HOSTILE},
    )  # fmt: skip
    save(connect(one.settings, "writer"), one.settings, [told], now)
    yield one
    next(makes, None)


def run(one: Deployment, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=one.environment,
        capture_output=True,
        text=True,
        check=False,
        input=given or "",
    )


def rows(one: Deployment, report: str, *arguments: str) -> list[dict[str, Any]]:
    done = run(one, "report", report, "--format", "json", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)["rows"]


# --- reports ------------------------------------------------------------------------------------------------


def test_external_on_known_traffic(deployed: Deployment):
    found = {row["destination_host"]: row for row in rows(deployed, "external")}
    api = found["api.example.com"]
    assert (api["source_namespace"], api["source_workload"], api["label"]) == ("shop", "cart", "passthrough")
    assert (api["requests"], api["errors"], api["bytes_received"]) == (8, 2, 80)
    assert api["service_entry"] == "net/api"
    assert found["s3.us-east-1.amazonaws.com"]["service_entry"] is None
    assert "evil.example" not in found


def test_databases_on_known_traffic(deployed: Deployment):
    [row] = rows(deployed, "databases")
    assert (row["destination_host"], row["destination_port"]) == ("db.abc.eu-west-1.rds.amazonaws.com", 5432)
    assert (row["destination_kind"], row["bytes_written"], row["requests"]) == ("postgres", 40, 4)


def test_regions_on_known_traffic(deployed: Deployment):
    done = json.loads(run(deployed, "report", "regions", "--format", "json", "--namespace", "shop").stdout)
    found = {row["destination_host"]: row for row in done["rows"]}
    assert found["s3.us-east-1.amazonaws.com"]["place"] == "out of region"
    assert found["s3.us-east-1.amazonaws.com"]["residency"] == "violation"
    assert found["db.abc.eu-west-1.rds.amazonaws.com"]["place"] == "in region"
    assert found["db.abc.eu-west-1.rds.amazonaws.com"]["residency"] == "allowed"
    [workload] = done["workloads"]
    assert (workload["in_region_requests"], workload["out_of_region_requests"]) == (4, 3)


def test_blocked_on_known_traffic(deployed: Deployment):
    [row] = rows(deployed, "blocked")
    assert (row["source_namespace"], row["source_workload"]) == ("pay", "ledger")
    assert (row["destination_host"], row["attempts"]) == ("evil.example", 5)
    assert row["proved_by"] == ["cluster BlackHoleCluster"]


def test_modes_on_known_traffic(deployed: Deployment):
    assert {row["source_namespace"]: row["mode"] for row in rows(deployed, "modes")} == {
        "shop": "ALLOW_ANY",
        "pay": "REGISTRY_ONLY",
    }


def test_new_on_known_traffic(deployed: Deployment):
    assert "api.example.com" in {row["destination_host"] for row in rows(deployed, "new")}
    # All of it was seen in the last minutes.
    then = datetime.now(timezone.utc) - timedelta(hours=2)
    assert rows(deployed, "new", "--from", "2026-01-01", "--until", f"{then:%Y-%m-%dT%H:%M}") == []


def test_csv_has_a_header_and_the_rows(deployed: Deployment):
    found = list(csv.DictReader(io.StringIO(run(deployed, "report", "external", "--format", "csv").stdout)))
    assert len(found) == len(rows(deployed, "external"))
    assert found[0]["destination_host"] == "api.example.com"


def test_a_report_is_filtered(deployed: Deployment):
    assert {row["destination_host"] for row in rows(deployed, "external", "--host", "*.com")} == {
        "api.example.com",
        "s3.us-east-1.amazonaws.com",
        "db.abc.eu-west-1.rds.amazonaws.com",
    }
    assert rows(deployed, "blocked", "--workload", "cart") == []
    assert rows(deployed, "external", "--namespace", "x' OR 1 = 1 --") == []


COMMANDS = {
    "events": ("table", "json"),
    "alerts list": ("table", "json", "csv"),
    "whatif": ("table", "json"),
    "advise": (),
    "advise --diff": (),
    "dlq list": (),
    "dlq list --json": (),
    "dlq show": (),
    "dlq show --json": (),
    "sql SELECT\u00a0*\u00a0FROM\u00a0events": ("table", "json", "csv"),
    "sql SELECT\u00a0*\u00a0FROM\u00a0dead_letters": ("table", "json", "csv"),
    **{f"report {report}": ("table", "json", "csv", "markdown") for report in REPORTS},
}


@pytest.mark.parametrize(
    "command",
    [f"{command} --format {shape}" for command, shapes in COMMANDS.items() for shape in shapes]
    + [command for command, shapes in COMMANDS.items() if not shapes],
)
def test_no_command_prints_what_a_terminal_obeys(deployed: Deployment, command: str):
    done = run(deployed, *(part.replace("\u00a0", " ") for part in command.split(" ")))
    assert done.returncode in (0, 1), done.stderr
    printed = (done.stdout + done.stderr).split("\n")
    assert all(one.isprintable() for one in printed)
    assert any("red" in one for one in printed) or not shows_hosts(command)


def shows_hosts(command: str) -> bool:
    """Whether the hostile host must be in the answer."""
    silent = ("databases", "blocked", "modes", "coverage", "dlq list", "advise --diff")
    return not any(one in command for one in silent)


# --- events -------------------------------------------------------------------------------------------------


def events(one: Deployment, *arguments: str) -> list[dict[str, Any]]:
    done = run(one, "events", "--format", "json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(text) for text in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ([], 21),
        (["--label", "blackhole"], 5),
        (["--namespace", "pay"], 5),
        (["--workload", "cart", "--host", "api.*"], 8),
        (["--code", "503"], 2),
        (["--code", "5xx"], 7),
        (["--code", "200", "--code", "503"], 16),
        (["--flag", "UH"], 5),
        (["--path", "/item/1"], 11),
        (["--request-id", f"{3:032x}"], 1),
        (["--limit", "3"], 3),
        (["--until", "2026-01-01"], 0),
    ],
)
def test_events_are_searched(deployed: Deployment, options: list[str], count: int):
    assert len(events(deployed, *options)) == count


def test_events_come_in_the_order_of_their_time(deployed: Deployment):
    times = [row["event_time"] for row in events(deployed)]
    assert times == sorted(times)


def test_events_as_a_table_obey_no_escape(deployed: Deployment):
    done = run(deployed, "events", "--path", "/item/20")
    assert "\\x1b[31mred\\u202e" in done.stdout
    assert "\x1b" not in done.stdout


def test_following_shows_each_new_record_once(deployed: Deployment, tmp_path: Path):
    out = tmp_path / "followed"
    with out.open("wb") as stream:
        command = [
            *COMMAND,
            "events",
            "--follow",
            "--format",
            "json",
            "--host",
            "late.example",
            "--since",
            "1h",
        ]
        child = subprocess.Popen(command, env=deployed.environment, stdout=stream)
    worker = deployed.start_worker()
    try:
        for number in range(3):
            deployed.produce([passthrough(100 + number, "late.example"), passthrough(200, "other.example")])
            seen = number + 1
            until(lambda seen=seen: len(out.read_bytes().splitlines()) >= seen, f"{seen} followed records")
    finally:
        child.kill()
        child.wait()
    assert worker.stop() == 0
    paths = [json.loads(text)["path"] for text in out.read_text().splitlines()]
    assert paths == ["/item/100", "/item/101", "/item/102"]


# --- sql ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", saved())
def test_an_example_query_runs(deployed: Deployment, name: str):
    done = run(deployed, "sql", f"@{name}", "--format", "json")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(text) for text in done.stdout.splitlines()]
    if name in ("top-destinations", "blocked-attempts", "database-writers", "out-of-region", "unregistered"):
        assert answers


def test_sql_answers_as_table_json_and_csv(deployed: Deployment):
    query = (
        "SELECT destination_host AS host, count() AS n, [1, 2] AS list FROM events "
        "WHERE label = 'blackhole' GROUP BY host"
    )
    assert "evil.example" in run(deployed, "sql", query).stdout
    assert json.loads(run(deployed, "sql", query, "--format", "json").stdout) == {
        "host": "evil.example", "n": 5, "list": [1, 2],
    }  # fmt: skip
    assert run(deployed, "sql", query, "--format", "csv").stdout == "host,n,list\nevil.example,5,1 2\n"


def test_sql_comes_from_standard_input_as_well(deployed: Deployment):
    assert run(deployed, "sql", "--format", "csv", given="SELECT 1 AS one;\n").stdout == "one\n1\n"


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO raw_events (topic) VALUES ('x')",
        "DROP TABLE raw_events",
        "ALTER TABLE raw_events DELETE WHERE 1",
        "SELECT * FROM file('/etc/passwd')",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "SELECT nonsense",
        "SELECT 1; SELECT 2",
    ],
)
def test_sql_that_is_wrong_or_not_reading_is_refused_in_clickhouses_words(
    deployed: Deployment, statement: str
):
    done = run(deployed, "sql", statement)
    assert done.returncode == 65
    assert "DB::Exception" in done.stderr or "Code:" in done.stderr
    assert done.stdout == ""


def test_the_prompt_answers_and_keeps_a_history(deployed: Deployment, tmp_path: Path):
    parent, child_end = pty.openpty()
    child = subprocess.Popen(
        [*COMMAND, "sql", "--format", "csv"],
        env=deployed.environment | {"XDG_STATE_HOME": str(tmp_path), "TERM": "dumb"},
        stdin=child_end,
        stdout=child_end,
        stderr=child_end,
    )
    os.close(child_end)
    for text in ("SELECT 40 + 2 AS answer;\n", "SELECT wrong;\n", "SELECT 'go' || 'es on' AS it;\n", "\\q\n"):
        os.write(parent, text.encode())
    said = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([parent], [], [], 0.2)[0]:
            try:
                said += os.read(parent, 4096)
            except OSError:
                break
        elif child.poll() is not None:
            break
    assert child.wait(10) == 0
    os.close(parent)
    assert b"answer\r\n42" in said
    assert b"goes on" in said
    history = tmp_path / "egresslens" / "sql_history"
    assert "SELECT 40 + 2 AS answer;" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
