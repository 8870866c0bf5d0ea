"""The console's graph with many nodes, in a real browser on the real store.

    PYTHONPATH=tests python bench/graph.py

500 workloads and 2,000 destinations; records go through Kafka and a worker. Printed are medians of RUNS, in
milliseconds: `answer` is the API's graph, `paint` the first contentful paint, `drawn` when the graph
stands, `draw` the page's own share of that, `point` and `open` from an input to the next frame.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from egresslens.kafka.broker import embedded_broker
from egresslens.store.process import embedded_store
from functional.deployment import COMMAND, Deployment, deploy, istio_json

WORKLOADS, DESTINATIONS, PAIRS, RUNS = 500, 2_000, 10_000, 5
LABELS = ("outbound|443||{}", "outbound|443||{}", "PassthroughCluster", "BlackHoleCluster")
SEEN = {
    "grouped by itself": "",
    "by workload and host": "&gs=workload&gd=host",
    "all nodes": "&gs=workload&gd=host&rows=2000",
}
MARKS = """() => ({
  paint: performance.getEntriesByName('first-contentful-paint')[0].startTime,
  drawn: performance.now(),
  draw: performance.getEntriesByName('egresslens draw').at(-1).duration,
  answer: performance.getEntriesByType('resource').findLast(one => one.name.includes('/graph?')).duration,
  lines: document.querySelectorAll('.middle g.edge').length,
})"""
# From an event to the frame that shows what it did.
FRAME = """([selector, kind]) => new Promise(done => {
  const target = document.querySelectorAll(selector)[7];
  const began = performance.now();
  target.dispatchEvent(new PointerEvent(kind, {bubbles: true}));
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
})"""


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded_broker(Path(folder) / "kafka") as broker,
        embedded_store(Path(folder) / "store") as store,
    ):
        one = deploy(broker.bootstrap, store.url, store.writer, store.reader, Path(folder))
        try:
            fill(one)
            measure(one)
        finally:
            one.stop()


def fill(one: Deployment) -> None:
    """Send each of PAIRS calls once to a hundred times."""
    chance = random.Random(8)
    pairs = chance.sample(range(WORKLOADS * DESTINATIONS), PAIRS)
    messages = [
        record(number, *divmod(pair, DESTINATIONS))
        for number, pair in enumerate(pair for pair in pairs for _ in range(chance.choice((1, 1, 2, 5, 20))))
    ]
    one.start_worker()
    one.produce(messages)
    one.wait_for_messages(len(messages))
    print(
        f"{len(messages):,} records of {PAIRS:,} pairs, {WORKLOADS} workloads x {DESTINATIONS:,} destinations"
    )


def record(number: int, workload: int, destination: int) -> bytes:
    host = f"api-{destination}.vendor-{destination % 300}.example"
    cluster = LABELS[destination % len(LABELS)].format(host)
    log = json.loads(istio_json(number, authority=host, upstream_cluster=cluster))
    kubernetes = {
        "namespace_name": f"team-{workload % 25}",
        "pod_name": f"service-{workload}-1",
        "labels": {"app": f"service-{workload}"},
    }
    return json.dumps({"log": json.dumps(log), "kubernetes": kubernetes}).encode()


def measure(one: Deployment) -> None:
    console = subprocess.Popen(
        [*COMMAND, "console", "--port", "0"], env=one.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        url = re.search(r"http://\S+", console.stdout.readline())[0]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            for name, query in SEEN.items():
                look(browser, url, query)  # the first look fills caches
                rows = [look(browser, url, query) for _ in range(RUNS)]
                figures = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
                print(f"{name:22}", "  ".join(f"{key} {value:,.0f}" for key, value in figures.items()))
            browser.close()
    finally:
        console.terminate()
        console.wait()


def look(browser: Browser, url: str, query: str) -> dict[str, float]:
    page = browser.new_page(viewport={"width": 1360, "height": 860})
    page.set_default_timeout(60_000)
    page.goto(f"{url}?since=1h&live=off{query}")
    page.wait_for_selector(".middle g.edge path[d]", state="attached")
    figures = page.evaluate(MARKS)
    time.sleep(0.5)  # what follows the drawing is not the pointer's
    figures["point"] = page.evaluate(FRAME, [".middle g.edge .reach", "pointerover"])
    figures["open"] = page.evaluate(FRAME, ["[data-node]", "click"])
    page.close()
    return figures


if __name__ == "__main__":
    main()
