"""The parts of a running deployment, each started again at once when it ends, as systemd would."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from chaos.traffic import CAP, Traffic
from egresslens.clickhouse.client import connect
from egresslens.kafka.broker import Broker, embedded_broker
from egresslens.store.process import StoreProcess, embedded_store
from functional.deployment import Deployment, WorkerProcess, deploy

_STARTING: Final = threading.Lock()
_TESTS: Final = Path(__file__).parent.parent


class Supervised:
    """A worker that is started again whenever it ends, until it is told to leave."""

    def __init__(self, deployment: Deployment, name: str, **extra: str) -> None:
        self.name = name
        self.codes: Counter[int] = Counter()
        self._deployment = deployment
        self._extra = extra
        self._leaving = threading.Event()
        self.worker = self._start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _start(self) -> WorkerProcess:
        with _STARTING:
            return self._deployment.start_worker(**self._extra)

    def _watch(self) -> None:
        while True:
            self.codes[self.worker.child.wait()] += 1
            if self._leaving.is_set():
                return
            self.worker = self._start()

    def send(self, number: int) -> None:
        """Send the running process a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.worker.child.pid, number)

    def partitions(self, topic: str) -> list[int]:
        """Partitions of a topic that it has now; none if it does not say."""
        status, said = self.worker.get("/healthz")
        assigned = json.loads(said)["partitions"] if status else []
        return [one["partition"] for one in assigned if one["topic"] == topic]

    def leave(self, number: int = signal.SIGTERM, patience: float = 60.0) -> int:
        """End it for good; its exit code."""
        self._leaving.set()
        self.send(number)
        self._thread.join(patience)
        assert not self._thread.is_alive(), f"{self.name} did not end: {self.log[-2000:]}"
        return self.worker.child.returncode

    @property
    def log(self) -> str:
        """What the latest process has logged."""
        return self.worker.log.read_text()


class Sender:
    """The process that sends the traffic."""

    def __init__(self, bootstrap: str, topic: str, traffic: Traffic, log: Path) -> None:
        numbers = (traffic.seed, traffic.count, traffic.partitions, traffic.now)
        with log.open("wb") as errors:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "chaos.send", bootstrap, topic, *map(str, numbers)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": str(_TESTS)},
                text=True,
            )
        self.log = log
        self.sent = 0
        self.released = 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        for line in self.child.stdout or ():
            self.sent = int(line)

    def release(self, until: int) -> None:
        """Let it send up to this message."""
        self.released = max(self.released, until)
        assert self.child.stdin is not None
        self.child.stdin.write(f"{self.released}\n")
        self.child.stdin.flush()

    def stop(self) -> None:
        """End it."""
        self.child.kill()
        self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@dataclass
class Parts:
    """Everything that runs."""

    broker: Broker
    store: StoreProcess
    deployment: Deployment
    workers: list[Supervised] = field(default_factory=list)

    def progress(self) -> dict[int, tuple[int, int]]:
        """Partition -> last offset and records; raises ClickHouseError while the store is away."""
        rows = self.query("SELECT partition, last_offset, records FROM {db}.progress WHERE topic = '{topic}'")
        return {partition: (last, records) for partition, last, records in rows}

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query by the reader."""
        with self.client() as client:
            found: list[tuple[Any, ...]] = client.query(self.named(sql)).result_rows
            return found

    def named(self, sql: str) -> str:
        """SQL with the database's and the topic's names."""
        return sql.replace("{db}", self.deployment.settings.database).replace(
            "{topic}", self.deployment.topic
        )

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        """A client with the reader's account."""
        client = connect(self.deployment.settings, "reader")
        try:
            yield client
        finally:
            client.close()

    def join(self, name: str, **extra: str) -> Supervised:
        """Start another worker."""
        worker = Supervised(self.deployment, name, **extra)
        self.workers.append(worker)
        return worker

    def leave(self, worker: Supervised, number: int = signal.SIGTERM) -> int:
        """End a worker for good."""
        self.workers.remove(worker)
        return worker.leave(number)


@contextlib.contextmanager
def running(folder: Path, **settings: str) -> Iterator[Parts]:
    """A broker, a store, topics and tables of their own; workers are started by whoever wants them."""
    with embedded_broker(folder / "kafka") as broker, embedded_store(folder / "store") as store:
        deployment = deploy(
            broker.bootstrap,
            store.url,
            store.writer,
            store.reader,
            folder,
            MAX_DESTINATIONS=str(CAP),
            **settings,
        )
        parts = Parts(broker, store, deployment)
        try:
            yield parts
        finally:
            for worker in parts.workers:
                worker.send(signal.SIGCONT)
                worker.leave(signal.SIGKILL)


def patiently(act: Callable[[], Any], patience: float = 120.0) -> Any:
    """What `act` gives, tried until the store answers."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return act()
        except (ClickHouseError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
