"""A process that reads Kafka, over HTTP: /healthz, /readyz and /metrics.

Health is progress of committed offsets, not a thread that is alive: a partition with something to read or to
commit whose committed offset has not moved for `STALL_S`, while neither ClickHouse nor Kafka is failing, is
stuck and wants a restart. Readiness follows assignment and sink.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from egresslens.kafka.transport import Progress
from egresslens.kafka.transport.ledger import Partition
from egresslens.metrics import StreamMetrics

STALL_S: Final = 120.0
# How often partitions are looked at when nobody asks: a commit between two questions must not be missed.
LOOK_S: Final = 5.0


@dataclass(frozen=True)
class Standing:
    """One partition at one moment; what is not known yet is None."""

    position: int
    committed: int | None
    end: int | None
    lag_records: int | None
    """Records between the committed offset and the log's end."""
    lag_seconds: float
    """Age of the oldest record that is not committed, by Kafka's timestamps; 0 where none waits."""
    stalled_seconds: float
    """How long something has been waiting without the committed offset moving; outages do not count."""


class Watch:
    """Remembers since when each partition waits for its committed offset to move. Moments are given."""

    def __init__(self) -> None:
        self._waiting: dict[Partition, tuple[int | None, float]] = {}
        """Of those that waited at the last look: the committed offset, and since when it stands still."""

    def look(
        self, progress: Mapping[Partition, Progress], outage: bool, monotonic: float, now: float
    ) -> dict[Partition, Standing]:
        """Where partitions stand.

        Args:
            progress: the assigned partitions.
            outage: whether something is failing that nothing can move without.
            monotonic: this moment in seconds, on any clock that never goes back.
            now: this moment in seconds since the epoch.
        """
        since = {partition: self._since(partition, one, monotonic) for partition, one in progress.items()}
        self._waiting = {
            partition: (one.committed, since[partition])
            for partition, one in progress.items()
            if one.waiting and not outage
        }
        return {
            partition: _standing(one, 0.0 if outage else monotonic - since[partition], now)
            for partition, one in progress.items()
        }

    def _since(self, partition: Partition, one: Progress, moment: float) -> float:
        committed, since = self._waiting.get(partition, (None, moment))
        return since if one.waiting and one.committed == committed else moment


def _standing(one: Progress, stalled: float, now: float) -> Standing:
    known = one.end is not None and one.committed is not None
    return Standing(
        position=one.position,
        committed=one.committed,
        end=one.end,
        lag_records=max(0, (one.end or 0) - (one.committed or 0)) if known else None,
        lag_seconds=max(0.0, now - one.since / 1000) if one.waiting and one.since is not None else 0.0,
        stalled_seconds=stalled,
    )


@dataclass(frozen=True)
class Condition:
    """What health is judged by, at one moment."""

    assigned: Mapping[Partition, Standing]
    outages: frozenset[str]
    failed: bool

    @property
    def lag(self) -> int:
        """Records between the committed offsets and the logs' ends, as far as known."""
        return sum(one.lag_records or 0 for one in self.assigned.values())

    @property
    def stalled_s(self) -> float:
        """The longest that a partition has waited for its committed offset to move."""
        return max((one.stalled_seconds for one in self.assigned.values()), default=0.0)

    @property
    def healthy(self) -> bool:
        """Whether a restart would not help."""
        return not self.failed and self.stalled_s <= STALL_S

    @property
    def ready(self) -> bool:
        """Whether records go through now."""
        return bool(self.assigned) and not self.outages and self.healthy

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for people and programs."""
        return {
            "healthy": self.healthy,
            "ready": self.ready,
            "lag_records": self.lag,
            "lag_seconds": round(max((one.lag_seconds for one in self.assigned.values()), default=0.0), 1),
            "stalled_seconds": round(self.stalled_s, 1),
            "outages": sorted(self.outages),
            "partitions": [
                {"topic": where.topic, "partition": where.partition, **_rounded(asdict(one))}
                for where, one in sorted(self.assigned.items())
            ],
        }


@dataclass(frozen=True)
class Process:
    """What a process says of itself, when it is asked."""

    progress: Callable[[], Mapping[Partition, Progress]]
    outages: Callable[[], frozenset[str]]
    """Parts that do not take data: "clickhouse", "kafka"."""
    failed: Callable[[], bool]
    """Whether it can't go on."""
    metrics: StreamMetrics


class Server:
    """Serves one process's condition and metrics."""

    def __init__(self, host: str, port: int, process: Process) -> None:
        self._host, self._port = host, port
        self._process = process
        self._watch = Watch()
        self._runner: web.AppRunner | None = None
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Listen, and say where."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        self._looking = asyncio.create_task(self._look())
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._looking:
            self._looking.cancel()
        if self._runner:
            await self._runner.cleanup()

    def condition(self) -> Condition:
        """How the process is, now."""
        process, outages = self._process, self._process.outages()
        standings = self._watch.look(process.progress(), bool(outages), time.monotonic(), time.time())
        return Condition(standings, outages, process.failed())

    async def _look(self) -> None:
        while True:
            self.condition()
            await asyncio.sleep(LOOK_S)

    async def _healthz(self, _: web.Request) -> web.Response:
        condition = self.condition()
        return web.json_response(condition.as_dict(), status=200 if condition.healthy else 503)

    async def _readyz(self, _: web.Request) -> web.Response:
        condition = self.condition()
        return web.json_response(condition.as_dict(), status=200 if condition.ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        condition, metrics = self.condition(), self._process.metrics
        metrics.healthy.set(condition.healthy)
        metrics.ready.set(condition.ready)
        # Partitions that went to another process must not keep their last lag here.
        for gauge in (metrics.lag_records, metrics.lag_seconds, metrics.stalled):
            gauge.clear()
        for (topic, partition), one in condition.assigned.items():
            if one.lag_records is not None:
                metrics.lag_records.labels(topic, str(partition)).set(one.lag_records)
            metrics.lag_seconds.labels(topic, str(partition)).set(one.lag_seconds)
            metrics.stalled.labels(topic, str(partition)).set(one.stalled_seconds)
        # Thousands of series take a while to write down.
        body = await asyncio.to_thread(metrics.exposition)
        response = web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
        # To a fortieth: most of it is the same labels again and again.
        response.enable_compression()
        return response


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(one, 1) if isinstance(one, float) else one for name, one in values.items()}
