"""Rules, scrape configuration and dashboards in a real Prometheus, on the metrics that processes serve."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from egresslens import resources
from egresslens.grafana import dashboards
from egresslens.istio import PREFIX, increments
from egresslens.kafka.broker import free_port
from egresslens.metrics import AlertsMetrics, StreamMetrics, WorkerMetrics
from egresslens.record import WINDOW
from egresslens.windows import Windows
from functional.deployment import until
from test_windows import frame, record

pytestmark = pytest.mark.functional

ROOT = Path(__file__).parent.parent.parent
RULES = resources.schemas() / "prometheus"
QUERIES = [
    (f"{uid}: {panel['title']} {target['refId']}", target["expr"])
    for uid, dashboard in dashboards().items()
    for panel in dashboard["panels"]
    for target in panel["targets"]
    if "expr" in target
]


def program(name: str) -> str:
    """Prometheus' own program, from the path or from `make prometheus`."""
    found = shutil.which(name) or shutil.which(name, path=str(ROOT / ".cache/prometheus/usr/bin"))
    if found is None and os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not here: make prometheus")
    if found is None:
        pytest.skip(f"{name} is not here: make prometheus")
    return found


def grow(worker: WorkerMetrics, alerts: AlertsMetrics, windows: Windows, scrape: int) -> None:
    """What ten records of a second do to the metrics, and a value for everything else."""
    worker.records.labels("outbound").inc(10)
    for counter, label in (
        (worker.messages, "t"), (worker.filtered, "inbound"), (worker.rejected, "invalid_json"),
        (worker.rows, "raw_events"), (worker.published, "egress.enriched"), (worker.rolled, "1h"),
        (worker.judged, "destination"), (worker.retries, "kafka"), (worker.gap_offsets, "t"),
        (alerts.told, "topic"), (alerts.refused, "webhook"),
    ):  # fmt: skip
        counter.labels(label).inc()
    worker.assignments.inc()
    worker.stage.labels("read").observe(0.02)
    worker.flush_messages.observe(10)
    worker.window_keys.set(7)
    worker.outage.labels("kafka").set(0)
    alerts.incidents.labels("blackhole", "firing").set(1)
    alerts.untold.labels("webhook").set(2)
    for one in (worker, alerts):
        one.ready.set(1)
        for gauge, value in ((one.lag_records, 5), (one.lag_seconds, 3), (one.stalled, 0)):
            gauge.labels("t", "0").set(value)
    calls = [
        {},
        {"response_code": 503, "response_flags": ["UF"]},
        {"label": "blackhole", "destination_host": "evil.example", "response_code": 502},
        {"protocol": None, "response_code": None, "destination_host": "db.example"},
    ]
    batch = frame([record(4 * scrape + at, **one) for at, one in enumerate(calls)])
    windows.load(windows.missing(batch), pl.DataFrame(schema=WINDOW))
    assert worker.istio is not None
    worker.istio.add(increments(windows.apply(batch, 1)), scrape)


@pytest.fixture(scope="module")
def processes() -> Iterator[int]:
    """A port that serves a worker's metrics at /metrics, grown by each scrape; at /alerts the others."""
    worker, alerts, windows = WorkerMetrics(100), AlertsMetrics(), Windows(100)
    scrapes, one_at_a_time = iter(range(10_000)), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served: StreamMetrics = worker if self.path == "/metrics" else alerts
            with one_at_a_time:
                if served is worker:
                    grow(worker, alerts, windows, next(scrapes))
                page = served.exposition()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant query's results."""
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=10) as answer:
            found = json.loads(answer.read())
        assert found["status"] == "success", found
        return found["data"]["result"]

    def value(self, expression: str) -> float | None:
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None


@pytest.fixture(scope="module")
def prometheus(processes: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus with our rules, which has scraped the processes some times."""
    binary, folder, port = program("prometheus"), tmp_path_factory.mktemp("prometheus"), free_port()
    target = [{"targets": [f"127.0.0.1:{processes}"]}]
    [relabelled] = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", metrics_page(), re.DOTALL)[0])[
        "scrape_configs"
    ]
    del relabelled["dns_sd_configs"]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES / "egresslens.yml")],
        "scrape_configs": [
            {"job_name": "egresslens", "static_configs": target},
            {"job_name": "alerts", "metrics_path": "/alerts", "static_configs": target},
            {**relabelled, "static_configs": target},
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            [
                binary,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    running = Prometheus(port)
    try:

        def scraped() -> bool:
            assert child.poll() is None, (folder / "log").read_text()
            try:
                return (running.value('min(count_over_time(up{job=~"egresslens|alerts"}[1m]))') or 0) >= 5
            except OSError:
                return False

        until(scraped, "five scrapes")
        yield running
    finally:
        child.terminate()
        child.wait(30)


def metrics_page() -> str:
    return (ROOT / "docs/reference/metrics.md").read_text()


def filled(expression: str) -> str:
    """What Grafana makes of an expression with everything chosen."""
    for name, value in (
        ("$__rate_interval", "10s"), ("$__range", "1m"), ("$namespace", ".*"), ("$workload", ".*"),
    ):  # fmt: skip
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


@pytest.mark.parametrize(("panel", "expression"), QUERIES, ids=[name for name, _ in QUERIES])
def test_a_query_of_a_dashboard_has_an_answer(prometheus: Prometheus, panel: str, expression: str):
    assert until(lambda: prometheus.query(filled(expression)), f"an answer for {panel}", 20)


def test_what_prometheus_keeps_is_what_was_counted(prometheus: Prometheus):
    # Of each ten records that a scrape adds, four are in the egress metrics: three requests and a connection.
    ours = '{job="egresslens"}'
    records = f"sum(egresslens_records_total{ours})"
    assert prometheus.value(f"sum({PREFIX}requests_total{ours}) / {records}") == pytest.approx(0.3)
    assert prometheus.value(f"sum({PREFIX}tcp_connections_closed_total{ours}) / {records}") == pytest.approx(
        0.1
    )


def test_a_job_that_takes_the_prefix_off_has_istios_own_names(prometheus: Prometheus):
    istios = 'sum by (destination_service_name) (istio_requests_total{reporter="source",response_code="502"})'
    [blocked] = prometheus.query(istios)
    assert blocked["metric"] == {"destination_service_name": "BlackHoleCluster"}
    assert prometheus.query(f"{PREFIX}requests_total{{job!='egresslens'}}") == []
    assert prometheus.query('istio_requests_total{job="egresslens"}') == []
    quantile = "histogram_quantile(0.5, sum by (le) (rate(istio_request_duration_milliseconds_bucket[10s])))"
    assert prometheus.value(quantile) == pytest.approx(7.5, abs=2.5)


def test_rules_are_evaluated_without_an_error(prometheus: Prometheus):
    with urllib.request.urlopen(f"{prometheus.url}/api/v1/rules", timeout=10) as answer:
        groups = json.loads(answer.read())["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}


def test_rules_fire_when_they_should_and_not_otherwise():
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(ROOT / "tests/prometheus/rules.test.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_scrape_configuration_is_one():
    done = subprocess.run(
        [program("promtool"), "check", "config", str(RULES / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("metrics", [WorkerMetrics(10), AlertsMetrics()], ids=["worker", "alerts"])
def test_what_is_served_is_to_promtools_liking(metrics: StreamMetrics):
    if isinstance(metrics, WorkerMetrics):
        grow(metrics, AlertsMetrics(), Windows(10), 0)
    command, text = [program("promtool"), "check", "metrics"], metrics.exposition()
    done = subprocess.run(command, input=text, capture_output=True, check=False)
    # 3 is a matter of taste: milliseconds are Istio's.
    assert [line for line in done.stderr.decode().splitlines() if "milliseconds" not in line] == []
    assert done.returncode in (0, 3)
