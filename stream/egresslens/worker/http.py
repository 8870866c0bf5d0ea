"""The worker over HTTP: /healthz, /readyz and /metrics.

Health is progress, not a thread that is alive: a worker with records to read whose accepted offsets have not
moved for `STALL_S`, while neither ClickHouse nor Kafka is failing, is stuck and wants a restart. Readiness
follows assignment and sink.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from egresslens.kafka.transport import Progress
from egresslens.kafka.transport.ledger import Partition
from egresslens.worker.metrics import Metrics

STALL_S = 120.0


@dataclass(frozen=True)
class Condition:
    """What health is judged by, at one moment."""

    assigned: Mapping[Partition, Progress]
    accepted_s: float
    """Seconds since offsets were last accepted."""
    outages: frozenset[str]
    failed: bool

    @property
    def lag(self) -> int:
        """Records between the committed offsets and the logs' ends, as far as known."""
        return sum(
            max(0, one.end - (one.committed if one.committed is not None else one.position))
            for one in self.assigned.values()
            if one.end is not None
        )

    @property
    def healthy(self) -> bool:
        """Whether a restart would not help."""
        stuck = self.lag > 0 and self.accepted_s > STALL_S and not self.outages
        return not self.failed and not stuck

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
            "seconds_since_progress": round(self.accepted_s, 1),
            "outages": sorted(self.outages),
            "partitions": [
                {"topic": p.topic, "partition": p.partition, **one._asdict()}
                for p, one in sorted(self.assigned.items())
            ],
        }


class Server:
    """Serves one worker's condition and metrics."""

    def __init__(self, host: str, port: int, condition: Callable[[], Condition], metrics: Metrics) -> None:
        self._host, self._port = host, port
        self._condition = condition
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen, and say where."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._serve_metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        condition = self._condition()
        return web.json_response(condition.as_dict(), status=200 if condition.healthy else 503)

    async def _readyz(self, _: web.Request) -> web.Response:
        condition = self._condition()
        return web.json_response(condition.as_dict(), status=200 if condition.ready else 503)

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        for partition, one in self._condition().assigned.items():
            if one.end is not None and one.committed is not None:
                self._metrics.lag.labels(partition.topic, str(partition.partition)).set(
                    max(0, one.end - one.committed)
                )
        return web.Response(
            body=generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )


def seconds_since(moment: float) -> float:
    """Seconds on the monotonic clock since a moment of it."""
    return time.monotonic() - moment
