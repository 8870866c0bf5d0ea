"""From a record in Kafka to the webhook, at a steady rate and through a kill -9 of the worker.

The real broker, store, worker and alerts process, and the built-in rules but for the limit of a minute, which
the 300 blocked pairs of the traffic would pass. Beside the traffic, one probe every second: a blocked attempt
of a caller and a host of their own. At the end each probe is sent once more, so that an incident that lost
its id would show. `RATE` records a second (20,000), `SECONDS` before and after the kill (60).
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median, quantiles

import yaml
from parts import Parts, egresslens, inherited, ready, running, until

from egresslens.alerts.rules import BUILT_IN
from egresslens.kafka.broker import free_port
from egresslens.kafka.publish import Publisher, Record
from egresslens.kafka.topics import Topic
from traffic import Traffic

PARTITIONS = 4
_POOL = 100_000
_LIMIT = 10_000
_BEFORE_KILL = 5
_TICK_S = 0.1
_START = b'{"start_time":"'
_TIME_BYTES = len("2000-01-01T00:00:00.000Z")
_PROBE = (
    '{{"start_time":"{time}","route_name":"block_all","method":"GET","path":"/","protocol":"HTTP/1.1",'
    '"response_code":502,"response_flags":"-","response_code_details":"direct_response","bytes_received":0,'
    '"bytes_sent":0,"duration":0,"authority":"probe-{number}.example","upstream_cluster":"-",'
    '"downstream_local_address":"203.0.113.9:80","downstream_remote_address":"10.99.{high}.{low}:40000"}}'
)


@dataclass
class Hook:
    """A webhook: when each host's incident came first, and under which ids."""

    url: str
    first: dict[str, float] = field(default_factory=dict)
    ids: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


@dataclass
class Sent:
    """What was sent: when each probe was acknowledged by Kafka, and how often; records in all."""

    at: dict[int, float] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    records: int = 0


def main() -> None:
    # Ended from outside, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rate, seconds = int(os.environ.get("RATE", "20000")), int(os.environ.get("SECONDS", "60"))
    with (
        tempfile.TemporaryDirectory(prefix="egresslens-alerts-") as folder,
        running(Path(folder)) as parts,
        webhook() as hook,
    ):
        measure(parts, hook, rate, seconds)


def measure(parts: Parts, hook: Hook, rate: int, seconds: int) -> None:
    """Run it all and print the figures; exit code 1 if an incident is missing, or has two ids or counts."""
    topic, port = f"access-log-{time.time_ns()}", free_port()
    given = parts.environment(
        ACCESS_LOG_TOPICS=topic,
        ALERTS_TOPIC=f"alerts-{time.time_ns()}",
        ALERT_WEBHOOK_URL=f"{hook.url}/hook",
        WEB_PORT=str(port),
        KAFKA_SESSION_TIMEOUT_S="6",
        KAFKA_REBALANCE_TIMEOUT_S="10",
        ALERT_RULES=str(rules(parts.folder)),
    )
    parts.make_topics(Topic(topic, PARTITIONS))
    environment = inherited() | given
    subprocess.run(egresslens("migrate"), env=environment, check=True, capture_output=True)

    def start(*command: str) -> subprocess.Popen[bytes]:
        log = (parts.folder / f"{command[0]}-{time.time_ns()}.log").open("wb")
        return subprocess.Popen(egresslens(*command), env=environment, stdout=log, stderr=log)

    worker, alerts = start("worker"), start("alerts", "run")
    client = parts.client(given["EGRESSLENS_DATABASE"])
    try:
        until(lambda: ready(port), "the worker is ready")
        sender = Sender(parts, topic, rate)
        until(lambda: sender.sent.records > rate, "records are sent")
        warmup = sender.probe(20)
        steady = sender.probe(seconds)
        # Those of the last seconds before the kill wait for the next worker as well.
        before = sender.probe(_BEFORE_KILL)
        print(f"killed after {sender.sent.records:,} records", flush=True)
        worker.kill()
        worker.wait()
        worker = start("worker")
        killed = [*before, *sender.probe(seconds - _BEFORE_KILL)]
        sender.again()
        expected = [f"probe-{number}.example" for number in sender.sent.at]
        until(lambda: all(host in hook.first for host in expected), "all probes at the webhook", 120)
        lag = sender.sent.records - int(client.query("SELECT sum(messages) FROM progress").first_row[0])
        sent = sender.stop()
        until(
            lambda: int(client.query("SELECT sum(messages) FROM progress").first_row[0]) >= sent.records,
            "every record is counted",
        )

        def counted() -> dict[str, int]:
            rows = client.query(
                "SELECT destination_host, sum(count) FROM alerts WHERE destination_host LIKE 'probe-%' "
                "AND rule = 'blackhole' GROUP BY destination_host"
            ).result_rows
            return {host: int(count) for host, count in rows}

        truth = {f"probe-{number}.example": count for number, count in sent.times.items()}
        until(lambda: counted() == truth, "every probe counted once", 60)
    finally:
        for process in (worker, alerts):
            process.terminate()
            process.wait(30)
        client.close()
    twice = [host for host in expected if len(hook.ids[host]) != 1]
    for name, numbers in (("warm-up", warmup), ("steady", steady), ("worker killed", killed)):
        print(f"{name:14}", line([hook.first[f"probe-{one}.example"] - sent.at[one] for one in numbers]))
    print(f"{rate:,} records/s; {sent.records:,} records, {lag:,} not yet counted at the end; ")
    print(f"{len(expected)} incidents, {len(twice)} with more than one id, all counts right")
    sys.exit(1 if twice else 0)


class Sender:
    """A thread that sends traffic at a steady rate, and probes when it is told to."""

    def __init__(self, parts: Parts, topic: str, rate: int) -> None:
        self.sent = Sent()
        self._topic, self._rate = topic, rate
        self._publisher = Publisher({"bootstrap_servers": parts.broker.bootstrap})
        self._pools: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        for source, _, text in Traffic(int(time.time() * 1000)).take(_POOL, "json"):
            self._pools[source % PARTITIONS].append(text.encode()[len(_START) + _TIME_BYTES :])
        self._probes: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()), daemon=True)
        self._thread.start()

    def probe(self, count: int) -> Sequence[int]:
        """Send new probes, one every second; their numbers."""
        first = len(self.sent.at)
        for number in range(first, first + count):
            self._probes.put(number)
            time.sleep(1)
        return range(first, first + count)

    def again(self) -> None:
        """Send every probe once more."""
        for number in list(self.sent.at):
            self._probes.put(number)

    def stop(self) -> Sent:
        """End, when all is acknowledged; what was sent."""
        self._over.set()
        self._thread.join()
        return self.sent

    async def _send(self) -> None:
        began, at = time.monotonic(), 0
        while not self._over.is_set() or not self._probes.empty():
            await asyncio.sleep(_TICK_S)
            count = int((time.monotonic() - began) * self._rate) - at
            start = _START + now().encode()
            rows: dict[int, list[Record]] = {}
            for partition, pool in enumerate(self._pools):
                numbers = range((at + partition) // PARTITIONS, (at + count + partition) // PARTITIONS)
                rows[partition] = [(None, start + pool[number % len(pool)], []) for number in numbers]
            at += count
            while not self._probes.empty():
                number = self._probes.get()
                self.sent.at.setdefault(number, time.time())
                self.sent.times[number] += 1
                high, low = divmod(number, 250)
                text = _PROBE.format(time=now(), number=number, high=high, low=low + 1)
                rows[number % PARTITIONS].append((None, text.encode(), []))
            await self._publisher.publish(self._topic, rows)
            self.sent.records += sum(map(len, rows.values()))
        await self._publisher.stop()


def now() -> str:
    """The time as the proxies write it."""
    seconds, fraction = divmod(time.time(), 1)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(fraction * 1000):03d}Z"


def rules(folder: Path) -> Path:
    """The built-in rules with another limit, as a file."""
    path = folder / "rules.yaml"
    built_in = BUILT_IN.model_dump(mode="json", exclude_defaults=True)
    path.write_text(yaml.safe_dump({**built_in, "max_per_minute": _LIMIT}))
    return path


def line(seconds: Sequence[float]) -> str:
    """Latencies in a line."""
    return (
        f"{len(seconds)} probes: p50 {median(seconds):.1f} s, p95 {quantiles(seconds, n=20)[-1]:.1f} s, "
        f"max {max(seconds):.1f} s"
    )


@contextmanager
def webhook() -> Iterator[Hook]:
    """A webhook on loopback that notes when it was told what."""
    hook = Hook("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            alert = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if alert["kind"] == "blackhole":
                hook.first.setdefault(alert["destination_host"], time.time())
                hook.ids[alert["destination_host"]].add(alert["id"])
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield hook
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
