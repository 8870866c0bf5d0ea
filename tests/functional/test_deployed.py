"""A whole deployment, running: `doctor` finds it well, and broken ones ill; the examples and the tour run."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka import AIOKafkaProducer
from kafka.admin import KafkaAdminClient

import docs_pages
from egresslens.clickhouse import schema
from egresslens.clickhouse.client import connect
from egresslens.clickhouse.migrate import migrate
from egresslens.doctor import Finding, Status, diagnose
from egresslens.doctor.store import WRITER_GRANTS
from egresslens.kafka.broker import Broker
from egresslens.kafka.topics import Topic, create_topics
from egresslens.reconcile import reconcile
from egresslens.report.query import run as run_sql
from egresslens.settings import Settings, load
from egresslens.store.process import StoreProcess
from functional.deployment import COMMAND, Deployment, deployments, istio_json, until
from registries import entry

pytestmark = pytest.mark.functional

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
RECORDS = 40


def line(number: int, **fields: Any) -> bytes:
    """One record in Fluent Bit's envelope, so that it names its workload."""
    kubernetes = {"namespace_name": "shop", "pod_name": "cart-1", "labels": {"app": "cart"}}
    return json.dumps({"log": istio_json(number, **fields).decode(), "kubernetes": kubernetes}).encode()


def blocked(number: int) -> bytes:
    return line(
        number,
        authority="evil.example",
        upstream_cluster="BlackHoleCluster",
        response_code=502,
        upstream_host=None,
    )


@pytest.fixture(scope="module")
def deployed(
    broker: Broker, store: StoreProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Worker and alerts process run, a registry is loaded, traffic has come, and one attempt was blocked."""
    makes = deployments(broker.bootstrap, store, tmp_path_factory.mktemp("deployed"))
    one = next(makes)(ALERTS_TOPIC=f"alerts-{os.urandom(5).hex()}")
    declared = one.folder / "registry.yaml"
    declared.write_text(yaml.safe_dump(entry("net/api", "host-1.example.com")))
    assert run(one, "registry", "load", str(declared)).returncode == 0
    one.start_worker().wait_ready()
    with (one.folder / "alerts.log").open("wb") as log:
        alerts = subprocess.Popen([*COMMAND, "alerts", "run"], env=one.environment, stdout=log, stderr=log)
    try:
        one.produce([*(line(number) for number in range(RECORDS - 1)), blocked(RECORDS)])
        one.wait_for_messages(RECORDS)
        until(
            lambda: one.query("SELECT 1 FROM {db}.alerts WHERE rule = 'blackhole'"), "the incident is stored"
        )
        yield one
    finally:
        alerts.kill()
        alerts.wait()
        next(makes, None)


def run(one: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=one.environment, capture_output=True, text=True, check=False
    )


def changed(one: Deployment, **extra: str) -> Settings:
    """The deployment's settings, but for these."""
    return load(one.environment | {f"EGRESSLENS_{name}": value for name, value in extra.items()})


def findings(one: Deployment, **extra: str) -> list[Finding]:
    return list(diagnose(changed(one, **extra), timeout_s=10))


def bad(found: list[Finding], part: str, status: Status = Status.FAIL) -> Finding:
    """The one finding of a part with this status."""
    [only] = [one for one in found if one.part == part and one.status is status]
    return only


def only_bad(found: list[Finding], *parts: str) -> None:
    """Nothing failed but these parts: the checks do not draw each other in."""
    assert {one.part for one in found if one.status is Status.FAIL} == set(parts), found


@pytest.fixture(scope="module")
def well(deployed: Deployment) -> list[Finding]:
    """What `doctor` finds on the healthy deployment."""
    return findings(deployed)


# --- doctor: well -------------------------------------------------------------------------------------------


def test_a_healthy_deployment_is_all_ok(deployed: Deployment):
    url = f"http://127.0.0.1:{deployed.workers[0].port}"
    done = run(deployed, "doctor", "--worker", url, "--format", "json")
    found = json.loads(done.stdout)
    assert [one for one in found["findings"] if one["status"] != "ok"] == []
    assert (done.returncode, found["status"]) == (0, "ok")
    parts = {one["part"] for one in found["findings"]}
    assert parts == {
        "settings", "broker", "topics", "workers", "lag", "messages", "clocks", "store", "worker",
        "dead letters", "registry", "alerts",
    }  # fmt: skip


def test_in_a_pipe_it_is_plain_text_and_ends_with_a_count(deployed: Deployment):
    done = run(deployed, "doctor")
    assert "\x1b" not in done.stdout
    assert done.stdout.splitlines()[-1].endswith(" ok, 0 warn, 0 fail, 0 skipped")


def test_it_says_which_layouts_and_labels_the_messages_have(well: list[Finding]):
    details = [one.details for one in well if "formats" in one.details]
    assert details == [
        {
            "formats": {"istio_json": RECORDS},
            "labels": {"outbound": RECORDS - 1, "blackhole": 1},
            "filtered": {},
        }
    ]


def test_lag_is_told_by_partition(well: list[Finding]):
    [lag] = [one for one in well if one.part == "lag"]
    assert [one["unread"] for one in lag.details["partitions"]] == [0, 0, 0, 0]
    assert sum(one["end"] for one in lag.details["partitions"]) == RECORDS


def test_it_changes_nothing(deployed: Deployment, well: list[Finding]):
    reader = deployed.reader
    assert reconcile(reader, deployed.settings, datetime.now(timezone.utc), 24).differences == []
    assert deployed.value("SELECT count() FROM {db}.raw_purges") == 0
    groups = KafkaAdminClient(bootstrap_servers=deployed.settings.kafka_brokers)
    names = {one["group_id"] for one in groups.list_groups()}
    groups.close()
    assert {name for name in names if name.startswith(deployed.settings.kafka_group)} == {
        deployed.settings.kafka_group,
        f"{deployed.settings.kafka_group}-alerts",
    }


# --- doctor: broken -----------------------------------------------------------------------------------------


def test_a_topic_that_is_not_there_is_named_and_so_is_who_makes_it(deployed: Deployment):
    found = findings(deployed, ACCESS_LOG_TOPICS="nothere")
    topic = bad(found, "topics")
    assert "nothere does not exist" in topic.said
    assert "egresslens worker" in topic.mend
    only_bad(found, "topics")


def test_a_compacted_topic_and_one_that_keeps_too_little_are_named_with_the_command(
    deployed: Deployment,
):
    name = f"compacted-{os.urandom(5).hex()}"
    create_topics(
        deployed.settings, [Topic(name, 1, configs={"cleanup.policy": "compact", "retention.ms": "3600000"})]
    )
    found = findings(deployed, ACCESS_LOG_TOPICS=name)
    assert "cleanup.policy=delete" in bad(found, "topics").mend
    assert "retention.ms" in bad(found, "topics", Status.WARN).mend


def test_a_group_without_members_asks_for_a_worker(deployed: Deployment):
    found = findings(deployed, KAFKA_GROUP="nobody")
    assert "egresslens worker" in bad(found, "workers").mend
    assert "egresslens alerts run" in bad(found, "alerts", Status.WARN).mend


def test_what_nobody_has_read_is_counted_with_its_age(deployed: Deployment):
    lag = next(one for one in findings(deployed, KAFKA_GROUP="nobody") if one.part == "lag")
    assert f"{RECORDS} messages are not read yet, the oldest " in lag.said


@pytest.mark.parametrize(("prefix", "role"), [("", "writer"), ("READER_", "reader")])
def test_a_wrong_password_of_either_account_names_its_setting(deployed: Deployment, prefix, role):
    found = findings(deployed, **{f"CLICKHOUSE_{prefix}PASSWORD": "wrong"})
    wrong = bad(found, "store")
    assert f"(the {role}): user or password is wrong" in wrong.said
    assert f"EGRESSLENS_CLICKHOUSE_{prefix}PASSWORD" in wrong.mend
    only_bad(found, "store")


def test_a_store_that_is_down_names_the_url_and_the_rest_is_still_looked_at(deployed: Deployment):
    found = findings(deployed, CLICKHOUSE_URL="http://127.0.0.1:9")
    down = [one for one in found if one.part == "store" and one.status is Status.FAIL]
    assert all("EGRESSLENS_CLICKHOUSE_URL" in one.mend for one in down)
    only_bad(found, "store")
    assert next(one for one in found if one.part == "lag").status is Status.OK


def test_a_broker_that_is_down_names_the_setting_and_the_rest_is_still_looked_at(deployed: Deployment):
    found = findings(deployed, KAFKA_BROKERS="127.0.0.1:9")
    assert "EGRESSLENS_KAFKA_BROKERS" in bad(found, "broker").mend
    assert bad(found, "topics", Status.SKIPPED)
    only_bad(found, "broker")
    assert next(one for one in found if one.part == "registry").status is Status.OK


def test_a_reader_that_may_write_is_found(deployed: Deployment):
    user, password = deployed.settings.clickhouse_user, deployed.settings.clickhouse_password
    found = findings(
        deployed, CLICKHOUSE_READER_USER=user, CLICKHOUSE_READER_PASSWORD=password.get_secret_value()
    )
    assert "GRANT SELECT" in bad(found, "store").mend


def test_a_schema_that_is_one_migration_behind_asks_for_migrate(deployed: Deployment, tmp_path: Path):
    folder = tmp_path / "clickhouse"
    shutil.copytree(schema.folder(), folder)
    newest = max(folder.glob("[0-9]*.sql"))
    newest.unlink()
    settings = changed(deployed, DATABASE=f"behind_{os.urandom(5).hex()}")
    # The views of the missing migration's tables cannot be made without them either.
    writer = connect(settings, "writer")
    for name in ("views.sql", "judged.sql", "reports.sql", "retention.sql"):
        (folder / name).write_text("")
    migrate(writer, settings, folder)
    found = findings(deployed, DATABASE=settings.database)
    behind = bad(found, "store")
    assert newest.stem in behind.said
    assert behind.mend == "`egresslens migrate`"
    only_bad(found, "store")


def test_a_view_that_is_gone_is_named(deployed: Deployment):
    settings = changed(deployed, DATABASE=f"gone_{os.urandom(5).hex()}")
    writer = connect(settings, "writer")
    migrate(writer, settings)
    writer.command(f"DROP VIEW {settings.database}.report_new")
    found = findings(deployed, DATABASE=settings.database)
    assert any("report_new" in one.said and "egresslens migrate" in one.mend for one in found)


def test_a_format_that_nobody_knows_asks_for_the_setting_and_the_worker_would_stop(deployed: Deployment):
    name = f"unknown-{os.urandom(5).hex()}"
    create_topics(deployed.settings, [Topic(name, 1)])
    Deployment(changed(deployed, ACCESS_LOG_TOPICS=name, TOPIC_PARTITIONS="1"), {}, deployed.folder).produce(
        [b"EGRESS made up %d" % number for number in range(30)]
    )
    unknown = bad(findings(deployed, ACCESS_LOG_TOPICS=name), "messages")
    assert unknown.details["reasons"] == {"unknown_format": 30}
    assert "EGRESSLENS_LOG_FORMAT" in unknown.mend


def test_messages_are_read_whatever_their_compression(deployed: Deployment):
    name = f"snappy-{os.urandom(5).hex()}"
    create_topics(deployed.settings, [Topic(name, 1)])

    async def produce() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=deployed.settings.kafka_brokers, compression_type="snappy"
        ) as producer:
            await producer.send_and_wait(name, line(1))

    asyncio.run(produce())
    said = [one.said for one in findings(deployed, ACCESS_LOG_TOPICS=name) if one.part == "messages"]
    assert "all of the newest 1 can be read" in said


def test_fields_that_reports_need_and_no_record_has_are_named(deployed: Deployment):
    name = f"poor-{os.urandom(5).hex()}"
    create_topics(deployed.settings, [Topic(name, 1)])
    settings = changed(deployed, ACCESS_LOG_TOPICS=name, TOPIC_PARTITIONS="1")
    Deployment(settings, {}, deployed.folder).produce(
        [istio_json(number, request_id=None) for number in range(30)]
    )
    warned = bad(findings(deployed, ACCESS_LOG_TOPICS=name), "messages", Status.WARN)
    assert "source_workload (who calls)" in warned.said
    assert "request_id (single requests)" in warned.said


def test_clocks_that_run_ahead_are_found(deployed: Deployment):
    name = f"ahead-{os.urandom(5).hex()}"
    create_topics(deployed.settings, [Topic(name, 1)])
    settings = changed(deployed, ACCESS_LOG_TOPICS=name, TOPIC_PARTITIONS="1")
    soon = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() + 600))
    Deployment(settings, {}, deployed.folder).produce([line(number, start_time=soon) for number in range(30)])
    ahead = bad(findings(deployed, ACCESS_LOG_TOPICS=name), "clocks", Status.WARN)
    assert "NTP" in ahead.mend


def test_servers_that_never_answer_take_no_more_than_the_time_they_are_given(deployed: Deployment):
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        done = subprocess.run(
            [*COMMAND, "doctor", "--timeout", "2", "--worker", f"http://{where}"],
            env=deployed.environment
            | {"EGRESSLENS_KAFKA_BROKERS": where, "EGRESSLENS_CLICKHOUSE_URL": f"http://{where}"},
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.monotonic() - began
    assert done.returncode == 1
    assert "broker       " + where + ": no answer in time" in done.stdout
    assert took < 20


def test_settings_that_are_wrong_are_exit_code_78_with_the_likely_name(deployed: Deployment):
    wrong = deployed.environment | {"EGRESSLENS_KAFKA_BROKER": "x:1"}
    done = subprocess.run([*COMMAND, "doctor"], env=wrong, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "EGRESSLENS_KAFKA_BROKERS" in done.stderr


def test_an_address_that_is_no_workers_is_found(deployed: Deployment):
    found = list(diagnose(deployed.settings, workers=[deployed.settings.clickhouse_url]))
    assert "EGRESSLENS_WEB_PORT" in bad(found, "worker").mend


def test_the_grants_that_doctor_advises_are_those_that_are_tested():
    users = (ROOT / "compose" / "clickhouse" / "users.xml").read_text()
    assert f"GRANT {WRITER_GRANTS} ON" in users


# --- examples -----------------------------------------------------------------------------------------------


def example(one: Deployment, name: str, folder: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), "--idle", "2", "--group", f"{name}-{folder.name}", *arguments],
        env={**one.environment, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_consumer_of_the_enriched_topic_finds_each_destination_once(deployed: Deployment, tmp_path: Path):
    topic = ("--topic", deployed.settings.enriched_topic)
    found = [
        json.loads(row) for row in example(deployed, "new_destinations.py", tmp_path, *topic).splitlines()
    ]
    hosts = [one["destination"] for one in found]
    expected = {f"host-{number}.example.com:443" for number in range(RECORDS - 1)} | {"evil.example:443"}
    assert len(hosts) == len(set(hosts))
    assert set(hosts) == expected
    assert {one["source"] for one in found} == {"shop/cart"}
    # Another group reads everything again, as after lost commits: its marks know the records.
    again = example(deployed, "new_destinations.py", tmp_path, *topic, "--group", f"again-{tmp_path.name}")
    assert again == ""


@dataclass
class Chat:
    """A chat's webhook that remembers what it was sent, and refuses the first request."""

    url: str = ""
    said: list[tuple[str, str]] = field(default_factory=list)
    refused: int = 0


@pytest.fixture
def chat() -> Iterator[Chat]:
    found = Chat()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if found.refused:
                found.said.append((self.headers["Idempotency-Key"], body["text"]))
            self.send_response(200 if found.refused else 503)
            self.end_headers()
            found.refused += 1

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}/hook"
        yield found
        server.shutdown()
        thread.join()


def test_the_consumer_of_the_alerts_topic_tells_the_chat_once(
    deployed: Deployment, chat: Chat, tmp_path: Path
):
    topic = ("--topic", deployed.settings.alerts_topic)
    example(deployed, "alerts_to_chat.py", tmp_path, *topic, CHAT_WEBHOOK_URL=chat.url)
    told = [text for _, text in chat.said if "evil.example" in text]
    assert len(told) == 1
    assert told[0].startswith(":red_circle: blackhole: ")
    before = len(chat.said)
    again = ("--group", f"again-{tmp_path.name}")
    example(deployed, "alerts_to_chat.py", tmp_path, *topic, *again, CHAT_WEBHOOK_URL=chat.url)
    assert len(chat.said) == before


STATEMENTS = re.findall(r"```sql\n(.*?)```", (EXAMPLES / "tour.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(STATEMENTS)))
def test_a_statement_of_the_tour_runs(deployed: Deployment, number: int):
    result = run_sql(connect(deployed.settings, "reader"), deployed.settings, STATEMENTS[number])
    assert result.frame(10).width > 1


def test_the_tours_first_answer_is_the_traffic(deployed: Deployment):
    result = run_sql(connect(deployed.settings, "reader"), deployed.settings, STATEMENTS[0])
    labels = {row["label"]: int(row["requests"]) for row in result.frame(10).iter_rows(named=True)}
    assert labels == {"outbound": RECORDS - 1, "blackhole": 1}


# --- docs ---------------------------------------------------------------------------------------------------


def test_every_view_and_column_is_documented(deployed: Deployment):
    columns = docs_pages.columns(deployed.reader, deployed.settings.database)
    assert (docs_pages.REFERENCE / "tables.md").read_text() == docs_pages.tables(columns), "run `make docs`"
