"""From record to webhook: the real Kafka, worker, store and alerts process, and receivers that misbehave."""

from __future__ import annotations

import json
import signal
import subprocess
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

from egresslens.clickhouse.client import connect
from egresslens.kafka.broker import Broker, free_port
from egresslens.messages import AlertMessage
from egresslens.registry.store import load
from egresslens.store.process import StoreProcess
from functional.deployment import COMMAND, Deploy, Deployment, WorkerProcess, deployments, istio_json, until
from registries import context, registry

pytestmark = pytest.mark.functional

TOKEN = "s3cr3t-token"
NOW = datetime.now(timezone.utc)


@dataclass
class Hook:
    """An HTTP server that remembers what it was sent; it refuses the first `refuse` requests."""

    url: str = ""
    refuse: int = 0
    got: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)

    def alerts(self, state: str | None = None) -> list[dict[str, Any]]:
        """Messages that came to the webhook."""
        bodies = [body for path, _, body in self.got if path.startswith("/hook")]
        return [body for body in bodies if state in (None, body["state"])]

    def ids(self, state: str = "firing") -> set[str]:
        return {one["id"] for one in self.alerts(state)}


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            refused = found.refuse > 0
            found.refuse -= refused
            if not refused:
                found.got.append((self.path, dict(self.headers), body))
            self.send_response(503 if refused else 200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def deployment(broker: Broker, store: StoreProcess, tmp_path: Path, hook: Hook) -> Iterator[Deploy]:
    makes = deployments(broker.bootstrap, store, tmp_path)
    make = next(makes)

    def deploy(**extra: str) -> Deployment:
        one = make(
            ALERT_WEBHOOK_URL=f"{hook.url}/hook/path-secret",
            ALERT_WEBHOOK_TOKEN=TOKEN,
            ALERTMANAGER_URL=hook.url,
            **extra,
        )
        topic = one.settings.windows_topic.replace("windows", "alerts")
        one.environment["EGRESSLENS_ALERTS_TOPIC"] = topic
        return one

    yield deploy
    next(makes, None)


@dataclass
class Alerts:
    """A running `egresslens alerts run`."""

    child: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        self.child.kill()
        self.child.wait()

    def stop(self) -> int:
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(30)


@pytest.fixture
def start() -> Iterator[Any]:
    running: list[Alerts] = []

    def begin(one: Deployment, **extra: str) -> Alerts:
        log = one.folder / f"alerts-{len(running)}.log"
        with log.open("wb") as out:
            child = subprocess.Popen(
                [*COMMAND, "alerts", "run"], env=one.environment | extra, stdout=out, stderr=out
            )
        running.append(Alerts(child, log))
        return running[-1]

    yield begin
    for one in running:
        if one.child.poll() is None:
            one.kill()


def run(one: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=one.environment, capture_output=True, text=True, check=False
    )


def blocked(number: int, host: str = "evil.example") -> bytes:
    return istio_json(
        number,
        authority=host,
        upstream_cluster="BlackHoleCluster",
        response_code=502,
        downstream_remote_address="10.1.0.7:40000",
    )


def rules(one: Deployment, **given: Any) -> None:
    path = one.folder / "rules.yaml"
    path.write_text(yaml.safe_dump(given))
    one.environment["EGRESSLENS_ALERT_RULES"] = str(path)


def test_a_blocked_attempt_reaches_webhook_alertmanager_topic_and_table(deployment, start, hook):
    one = deployment()
    one.start_worker().wait_ready()
    process = start(one)
    one.produce([*(istio_json(number) for number in range(50)), *(blocked(number) for number in range(4))])
    [alert] = until(lambda: hook.alerts("firing"), "an alert at the webhook")
    assert (alert["kind"], alert["source_ip"], alert["destination_host"]) == (
        "blackhole",
        "10.1.0.7",
        "evil.example",
    )
    posted = until(lambda: [b for p, _, b in hook.got if p == "/api/v2/alerts"], "an alert at Alertmanager")
    assert posted[0][0]["labels"]["incident"] == alert["id"]
    [message] = one.consume(one.environment["EGRESSLENS_ALERTS_TOPIC"], 1)
    assert AlertMessage.model_validate_json(message.value).id == alert["id"]
    counted = "SELECT count FROM {db}.alerts WHERE rule = 'blackhole'"
    until(lambda: one.query(counted) == [(4,)], "four attempts in the table")
    assert process.stop() == 0


def test_the_alerts_process_tells_its_health_and_metrics(deployment, start, hook):
    one = deployment()
    one.start_worker().wait_ready()
    port = free_port()
    process = start(one, EGRESSLENS_ALERTS_WEB_PORT=str(port))
    served = WorkerProcess(process.child, port, process.log)
    served.wait_ready()
    assert served.get("/healthz")[0] == 200
    hook.refuse = 10_000
    one.produce([blocked(1)])
    until(lambda: served.metric('egresslens_alerts_untold{receiver="webhook"}') == 1, "one is not told")
    until(lambda: served.metric('egresslens_alerts_refused_total{receiver="webhook"}') > 0, "it was refused")
    hook.refuse = 0
    until(lambda: served.metric('egresslens_alerts_told_total{receiver="webhook"}') == 1, "it is told")
    assert served.metric("egresslens_alerts_windows_total") >= 1
    until(lambda: served.metric("egresslens_lag_records") == 0, "all rows are looked at")
    assert served.metric('egresslens_alerts_incidents{rule="blackhole",state="firing"}') == 1
    assert served.get("/readyz")[0] == 200
    assert process.stop() == 0


def test_the_webhook_gets_its_token_and_the_log_holds_no_secret(deployment, start, hook):
    one = deployment()
    hook.refuse = 2
    one.start_worker().wait_ready()
    process = start(one)
    one.produce([blocked(1)])
    until(lambda: hook.alerts("firing"), "an alert after refusals")
    [headers] = [headers for path, headers, _ in hook.got if path.startswith("/hook")]
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["Idempotency-Key"].endswith("-firing")
    process.stop()
    log = process.log.read_text()
    assert "does not take alerts" in log
    assert "secret" not in log
    assert TOKEN not in log


def test_one_id_per_incident_through_kills_of_worker_and_alerts(deployment, start, hook):
    one = deployment(TOPIC_PARTITIONS="2")
    worker = one.start_worker()
    worker.wait_ready()
    process = start(one)
    sent = 0
    for number in range(4):
        one.produce([blocked(at) for at in range(sent, sent + 50)])
        sent += 50
        if number == 0:
            until(lambda: hook.alerts("firing"), "the first alert")
        worker.kill()
        process.kill()
        worker = one.start_worker()
        process = start(one)
    one.wait_for_messages(sent)
    counted = "SELECT sum(count) FROM {db}.alerts WHERE rule = 'blackhole'"
    until(lambda: one.value(counted) == sent, "all attempts counted, none twice")
    assert len(hook.ids()) == 1
    assert one.query("SELECT count() FROM {db}.alerts") == [(1,)]


def test_an_incident_that_is_over_is_resolved_everywhere_with_its_id(deployment, start, hook):
    one = deployment()
    rules(one, rules=[{"name": "blackhole", "kind": "blackhole", "resolve_after_minutes": 1}])
    one.start_worker().wait_ready()
    start(one)
    # Its event is two minutes old when it comes.
    one.produce([blocked(119)])
    [alert] = until(lambda: hook.alerts("resolved"), "a resolved alert")
    assert one.query("SELECT id, state FROM {db}.alerts") == [(alert["id"], "resolved")]


def test_who_was_not_told_before_a_crash_is_told_after_it(deployment, start, hook):
    one = deployment()
    hook.refuse = 10_000
    one.start_worker().wait_ready()
    process = start(one)
    one.produce([blocked(1)])
    until(lambda: one.value("SELECT count() FROM {db}.alerts") == 1, "an incident in the table")
    process.kill()
    hook.refuse = 0
    start(one)
    [alert] = until(lambda: hook.alerts("firing"), "the alert after the restart")
    assert one.query("SELECT id FROM {db}.alerts") == [(alert["id"],)]


def test_a_new_destination_of_a_known_workload_is_told_once(deployment, start, hook):
    one = deployment()
    rules(one, rules=[{"name": "new", "kind": "new_destination", "learning_hours": 1}])
    one.start_worker().wait_ready()
    caller = {"downstream_remote_address": "10.1.0.7:40000"}
    before = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 3 * 3600))
    one.produce([istio_json(1, **caller, start_time=before)])
    one.wait_for_messages(1)
    process = start(one)
    one.produce([istio_json(2, **caller), istio_json(2, **caller)])
    [alert] = until(lambda: hook.alerts("firing"), "a new destination")
    assert alert["destination_host"] == "host-2.example.com"
    process.kill()
    start(one)
    one.produce([istio_json(2, **caller), istio_json(3, **caller)])
    until(lambda: len(hook.ids()) == 2, "another new destination")
    # Who is killed before it knows that it told somebody tells again, by the same id.
    told = {one["id"]: one["destination_host"] for one in hook.alerts("firing")}
    assert sorted(told.values()) == ["host-2.example.com", "host-3.example.com"]


def test_a_violation_among_the_first_rows_is_told(deployment, start, hook):
    """The rows wait in the topic, and the registry in the store, when the process starts."""
    one = deployment()
    rules(one, rules=[{"name": "residency", "kind": "residency"}])
    policy = {"name": "eu", "namespaces": ["*"], "regions": ["eu-*"], "unknown": "violation"}
    load(connect(one.settings, "writer"), one.settings, registry(context(residency=[policy])), NOW)
    one.start_worker().wait_ready()
    one.produce([istio_json(1)])
    one.wait_for_messages(1)
    start(one)
    [alert] = until(lambda: hook.alerts("firing"), "a violation")
    assert (alert["kind"], alert["destination_host"]) == ("residency", "host-1.example.com")


def test_a_storm_is_bounded_and_says_so(deployment, start, hook):
    one = deployment()
    rules(one, rules=[{"name": "blackhole", "kind": "blackhole"}], max_per_minute=5)
    one.start_worker().wait_ready()
    start(one)
    one.produce([blocked(number, f"host-{number}.example") for number in range(100)])
    until(lambda: [a for a in hook.alerts() if a["kind"] == "storm"], "a storm")
    opened = {a["id"] for a in hook.alerts("firing") if a["kind"] == "blackhole"}
    # A minute may end between the batches.
    assert 5 <= len(opened) <= 10
    until(
        lambda: one.value("SELECT count FROM {db}.alerts WHERE rule = 'storm'") >= 90, "what was suppressed"
    )


def test_alerts_are_listed(deployment, start, hook):
    one = deployment()
    one.start_worker().wait_ready()
    start(one)
    one.produce([blocked(1)])
    [alert] = until(lambda: hook.alerts("firing"), "an alert")
    [row] = [json.loads(text) for text in run(one, "alerts", "list", "--format", "json").stdout.splitlines()]
    assert (row["id"], row["state"], row["rule"]) == (alert["id"], "firing", "blackhole")
    assert "evil.example" in run(one, "alerts", "list").stdout
    assert "evil.example" in run(one, "alerts", "list", "--format", "csv", "--host", "evil*").stdout
    assert run(one, "alerts", "list", "--format", "json", "--state", "resolved").stdout == ""


def test_a_test_alert_reaches_every_receiver(deployment, hook):
    one = deployment()
    done = run(one, "alerts", "test")
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["topic", "alertmanager", "webhook"]
    assert [alert["state"] for alert in hook.alerts()] == ["firing", "resolved"]
    hook.refuse = 10_000
    refused = run(one, "alerts", "test")
    assert refused.returncode == 1
    assert "secret" not in refused.stderr
