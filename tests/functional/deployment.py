"""A whole deployment for one test: real Kafka and store, topics and database of its own, real workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from egresslens.cli.worker import topics
from egresslens.clickhouse.client import connect
from egresslens.clickhouse.migrate import migrate
from egresslens.kafka.broker import free_port
from egresslens.kafka.topics import create_topics
from egresslens.settings import Settings, load

PATIENCE_S = 90.0
COMMAND = [sys.executable, "-c", "from egresslens.cli import main; main()"]


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE_S) -> Any:
    """Poll until the condition holds, and give its value; fail after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        asked = time.monotonic()
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience} s: {what}")
        # What takes long to tell is asked seldom: it is waited for, and needs the machine itself.
        time.sleep(max(0.1, time.monotonic() - asked))


@dataclass
class WorkerProcess:
    """A running `egresslens worker`."""

    child: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, path: str) -> tuple[int, str]:
        """Ask its HTTP server."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(name)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def wait_ready(self) -> None:
        """Wait until it says that it is ready."""
        until(lambda: self.get("/readyz")[0] == 200 or self.child.poll() is not None, "the worker is ready")
        assert self.child.poll() is None, self.log.read_text()[-3000:]

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self.child.kill()
        self.child.wait()

    def stop(self, patience: float = 30.0) -> int:
        """End it with SIGTERM; its exit code."""
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(patience)


@dataclass
class Deployment:
    """Topics, a database and workers, on a broker and a store."""

    settings: Settings
    environment: dict[str, str]
    folder: Path
    workers: list[WorkerProcess] = field(default_factory=list)

    @property
    def topic(self) -> str:
        """The access-log topic."""
        return self.settings.access_log_topics[0]

    def produce(self, messages: Sequence[bytes | None], partition: int | None = None) -> None:
        """Send messages, spread over the partitions in turn unless one is named."""
        producer = KafkaProducer(
            bootstrap_servers=self.settings.kafka_brokers, linger_ms=20, batch_size=256 * 1024
        )
        count = self.settings.topic_partitions
        for number, message in enumerate(messages):
            producer.send(self.topic, message, partition=number % count if partition is None else partition)
        producer.flush()
        producer.close()

    def start_worker(self, **extra: str) -> WorkerProcess:
        """Start a worker; its log is in the folder."""
        port = free_port()
        log = self.folder / f"worker-{len(self.workers)}.log"
        environment = self.environment | {"EGRESSLENS_WEB_PORT": str(port)} | extra
        with log.open("wb") as out:
            child = subprocess.Popen([*COMMAND, "worker"], env=environment, stdout=out, stderr=out)
        self.workers.append(WorkerProcess(child, port, log))
        return self.workers[-1]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query by the reader; `{db}` is the database."""
        return self.reader.query(sql.replace("{db}", self.settings.database)).result_rows

    def value(self, sql: str) -> Any:
        """The one value of a query."""
        return self.query(sql)[0][0]

    @property
    def reader(self) -> Client:
        """A client with the reader's account."""
        return connect(self.settings, "reader")

    def wait_for_messages(self, count: int, patience: float = PATIENCE_S) -> None:
        """Wait until `progress` accounts for this many messages and gaps."""

        def arrived() -> bool:
            ended = [worker for worker in self.workers if worker.child.poll() is not None]
            assert len(ended) < len(self.workers) or not ended, ended[-1].log.read_text()[-3000:]
            return (self.value("SELECT sum(messages) FROM {db}.progress") or 0) >= count

        until(arrived, f"{count} messages in progress", patience)

    def consume(self, topic: str, count: int) -> list[Any]:
        """The first `count` records of a topic, all partitions."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.settings.kafka_brokers, auto_offset_reset="earliest", group_id=None
        )
        partitions = [TopicPartition(topic, one) for one in consumer.partitions_for_topic(topic)]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        records: list[Any] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(records) < count and time.monotonic() < deadline:
            for batch in consumer.poll(timeout_ms=200).values():
                records += batch
        consumer.close()
        return records

    def stop(self) -> None:
        """Stop every worker that still runs."""
        for worker in self.workers:
            if worker.child.poll() is None:
                worker.kill()


def deploy(
    bootstrap: str, url: str, writer: tuple[str, str], reader: tuple[str, str], folder: Path, **extra: str
) -> Deployment:
    """Make topics and a database of unique names; nothing runs yet."""
    unique = uuid.uuid4().hex[:10]
    values = {
        "KAFKA_BROKERS": bootstrap,
        "KAFKA_GROUP": f"group-{unique}",
        "KAFKA_SESSION_TIMEOUT_S": "6",
        "KAFKA_REBALANCE_TIMEOUT_S": "10",
        "ACCESS_LOG_TOPICS": f"access-log-{unique}",
        "ENRICHED_TOPIC": f"enriched-{unique}",
        "WINDOWS_TOPIC": f"windows-{unique}",
        "REPLAY_TOPIC": f"replay-{unique}",
        "DEAD_LETTER_TOPIC": f"dead-letter-{unique}",
        "CLICKHOUSE_URL": url,
        "CLICKHOUSE_USER": writer[0],
        "CLICKHOUSE_PASSWORD": writer[1],
        "CLICKHOUSE_READER_USER": reader[0],
        "CLICKHOUSE_READER_PASSWORD": reader[1],
        "DATABASE": f"db_{unique}",
        "FLUSH_INTERVAL_S": "0.3",
        "ALERTS_WEB_PORT": "0",
        **extra,
    }
    environment = {f"EGRESSLENS_{name}": value for name, value in values.items()}
    settings = load(environment)
    create_topics(settings, topics(settings))
    migrate(connect(settings, "writer"), settings)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EGRESSLENS_")}
    return Deployment(settings, inherited | environment, folder)


def istio_json(number: int, **fields: Any) -> bytes:
    """An outbound record as Istio's JSON access log writes it, different for each number."""
    record = {
        "start_time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - number % 120))
        + f".{number % 1000:03d}Z",
        "route_name": "default",
        "method": "GET",
        "path": f"/item/{number}?token=secret",
        "protocol": "HTTP/1.1",
        "response_code": 200,
        "response_flags": "-",
        "response_code_details": "via_upstream",
        "connection_termination_details": None,
        "upstream_transport_failure_reason": None,
        "bytes_received": 10,
        "bytes_sent": number % 100,
        "duration": number % 300,
        "upstream_service_time": "12",
        "x_forwarded_for": None,
        "user_agent": "curl/8.5.0",
        "request_id": f"{number:032x}",
        "authority": f"host-{number % 50}.example.com",
        "upstream_host": f"203.0.113.{number % 50}:443",
        "upstream_cluster": f"outbound|443||host-{number % 50}.example.com",
        "upstream_local_address": "10.1.0.9:50000",
        "downstream_local_address": f"203.0.113.{number % 50}:443",
        "downstream_remote_address": f"10.1.0.{number % 20}:40000",
        "requested_server_name": None,
    }
    return json.dumps({**record, **fields}).encode()


Deploy = Callable[..., Deployment]


def deployments(bootstrap: str, store: Any, folder: Path) -> Iterator[Deploy]:
    """For fixtures: a function that deploys, and the end of everything it started."""
    made: list[Deployment] = []

    def make(**extra: str) -> Deployment:
        made.append(deploy(bootstrap, store.url, store.writer, store.reader, folder, **extra))
        return made[-1]

    yield make
    for one in made:
        one.stop()
