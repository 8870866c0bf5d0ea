"""The real parts a run needs: broker, store, topics full of records, and processes that are measured."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clickhouse_connect
import numpy as np
from clickhouse_connect.driver.client import Client

from egresslens.kafka.broker import Broker, embedded_broker
from egresslens.kafka.publish import Publisher
from egresslens.kafka.topics import Topic, create_topics
from egresslens.settings import load
from egresslens.store.process import StoreProcess, embedded_store
from traffic import LABELS, RATE, Traffic

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TICK = os.sysconf("SC_CLK_TCK")
_CHUNK = 20_000
STORED = ("outbound", "passthrough", "blackhole")


@dataclass(frozen=True)
class Parts:
    """What runs."""

    broker: Broker
    store: StoreProcess
    folder: Path

    def client(self, database: str | None = None) -> Client:
        """A writer's connection."""
        host, port = self.store.url.removeprefix("http://").split(":")
        user, password = self.store.writer
        return clickhouse_connect.get_client(
            host=host, port=int(port), username=user, password=password, database=database or "default"
        )

    def environment(self, **values: str) -> dict[str, str]:
        """Settings of Egresslens for these parts, with names of their own for everything it writes."""
        unique = uuid.uuid4().hex[:8]
        given = {
            "KAFKA_BROKERS": self.broker.bootstrap,
            "KAFKA_GROUP": f"group-{unique}",
            "ENRICHED_TOPIC": f"enriched-{unique}",
            "WINDOWS_TOPIC": f"windows-{unique}",
            "REPLAY_TOPIC": f"replay-{unique}",
            "DEAD_LETTER_TOPIC": f"dead-{unique}",
            "CLICKHOUSE_URL": self.store.url,
            "CLICKHOUSE_USER": self.store.writer[0],
            "CLICKHOUSE_PASSWORD": self.store.writer[1],
            "CLICKHOUSE_READER_USER": self.store.reader[0],
            "CLICKHOUSE_READER_PASSWORD": self.store.reader[1],
            "DATABASE": f"bench_{unique}",
            **values,
        }
        return {f"EGRESSLENS_{name}": value for name, value in given.items()}

    def make_topics(self, *topics: Topic) -> None:
        """Create topics."""
        create_topics(load({"EGRESSLENS_KAFKA_BROKERS": self.broker.bootstrap}), topics)

    def topic_bytes(self, name: str) -> int:
        """What the broker keeps of a topic on disk."""
        return sum(
            file.stat().st_size
            for folder in (self.folder / "kafka").rglob(f"{name}-*")
            for file in folder.glob("*.log")
        )

    def drop_topics(self, names: list[str]) -> None:
        """Delete topics, so that old runs do not fill the disk."""
        from kafka.admin import KafkaAdminClient  # noqa: PLC0415 - slow to import
        from kafka.errors import UnknownTopicOrPartitionError  # noqa: PLC0415

        admin = KafkaAdminClient(bootstrap_servers=self.broker.bootstrap)
        with contextlib.suppress(UnknownTopicOrPartitionError):
            admin.delete_topics(names)
        admin.close()


@contextmanager
def running(folder: Path) -> Iterator[Parts]:
    """A broker and a store in this folder."""
    with embedded_broker(folder / "kafka") as broker, embedded_store(folder / "store") as store:
        yield Parts(broker, store, folder)


@dataclass(frozen=True)
class Filled:
    """A topic full of records, and the label of each, by partition and offset."""

    name: str
    kind: str
    labels: list[np.ndarray]
    bytes: int

    @property
    def total(self) -> int:
        """Number of records."""
        return sum(map(len, self.labels))

    def truth(self, per_partition: int | None = None) -> dict[str, int]:
        """Records by label that are to be stored, of the first so many of each partition."""
        counts = sum(np.bincount(one[:per_partition], minlength=len(LABELS)) for one in self.labels)
        return {label: int(counts[LABELS.index(label)]) for label in STORED}


def fill(
    parts: Parts, total: int, kind: str = "json", partitions: int = 4, rate: float = RATE, **options: Any
) -> Filled:
    """Make a topic and fill it: records of one source in one partition, zstd batches of up to 1 MB.

    The newest record is a minute old; before it `rate` records a second. `options` are Traffic's.
    """
    name = f"access-log-{kind}-{uuid.uuid4().hex[:6]}"
    parts.make_topics(Topic(name, partitions))
    traffic = Traffic(int((time.time() - total / rate - 60) * 1000), rate=rate, **options)
    labels: list[list[int]] = [[] for _ in range(partitions)]
    size = 0

    async def produce() -> None:
        nonlocal size
        publisher = Publisher({"bootstrap_servers": parts.broker.bootstrap})
        for start in range(0, total, _CHUNK):
            rows: dict[int, list[Any]] = {partition: [] for partition in range(partitions)}
            for source, label, text in traffic.take(min(_CHUNK, total - start), kind):
                partition = source % partitions
                rows[partition].append((None, text.encode(), []))
                labels[partition].append(label)
                size += len(text)
            await publisher.publish(name, rows)
        await publisher.stop()

    asyncio.run(produce())
    return Filled(name, kind, [np.array(one, np.int8) for one in labels], size)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and all its threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def egresslens(*arguments: str, tree: Path = ROOT) -> list[str]:
    """The command line of this tree's Egresslens."""
    start = (
        f"import sys; sys.path.insert(0, {str(tree / 'stream')!r}); from egresslens.cli import main; main()"
    )
    return [sys.executable, "-c", start, *arguments]


def inherited() -> dict[str, str]:
    """This process's environment without settings of Egresslens."""
    return {name: value for name, value in os.environ.items() if not name.startswith("EGRESSLENS_")}


def ready(port: int) -> bool:
    """Whether a worker says that records go through."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def until(condition: Callable[[], Any], what: str, patience: float = 300.0, every: float = 0.05) -> Any:
    """Poll until the condition holds, and give its value."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {patience} s: {what}")
        time.sleep(every)
    return value


@dataclass(frozen=True)
class Timing:
    """What one run cost: seconds from the first fetch to all stored, CPU of the job's process, and of
    the broker's and the store's meanwhile."""

    records: int
    seconds: float
    cpu_s: float
    broker_s: float = 0.0
    store_s: float = 0.0
    stored: Mapping[str, int] = field(default_factory=dict)
    """What it stored (`jobs.digest`)."""

    @property
    def rate(self) -> float:
        """Records per second."""
        return self.records / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU per record."""
        return self.cpu_s / self.records * 1e6

    @property
    def broker_us(self) -> float:
        """Microseconds of the broker's CPU per record."""
        return self.broker_s / self.records * 1e6

    @property
    def store_us(self) -> float:
        """Microseconds of the store's CPU per record."""
        return self.store_s / self.records * 1e6


class WrongResultError(RuntimeError):
    """A job did not give the counts that the traffic has."""


def check(found: Mapping[str, int], truth: Mapping[str, int], who: str) -> None:
    """Compare counts per label; one that is missing is 0."""
    if any(found.get(label, 0) != truth.get(label, 0) for label in {*found, *truth}):
        raise WrongResultError(f"{who}: {dict(found)}, but the truth is {dict(truth)}")


def say(text: str) -> None:
    """A line of progress."""
    print(time.strftime("%H:%M:%S"), text, flush=True)
