"""The metrics of the worker and of the alerts process: one catalogue, one line each.

Their page is docs/reference/metrics.md.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from egresslens import __version__
from egresslens.istio import IstioMetrics
from egresslens.outcome import Filtered, Reject
from egresslens.record import STORED_LABELS

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class StreamMetrics:
    """What every process that reads Kafka tells, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        gauge, counter = self.gauge, self.counter
        gauge("build_info", "1; the program's version is a label", "version").labels(__version__).set(1)
        self.healthy = gauge("healthy", "1 unless a restart would help (/healthz)")
        self.ready = gauge("ready", "1 while records go through (/readyz)")
        self.outage = gauge("outage", "1 while ClickHouse or Kafka is failing, by part", "part")
        self.retries = counter("retries", "Tries that ClickHouse or Kafka made fail, by part", "part")
        self.assignments = counter("assignments", "Assignments, each of which discards all state")
        self.gap_offsets = counter("gap_offsets", "Offsets that the broker no longer had", "topic")
        self.lag_records = gauge(
            "lag_records", "Records between committed offset and the log's end", "topic", "partition"
        )
        self.lag_seconds = gauge(
            "lag_seconds", "Age of the oldest record that is not committed", "topic", "partition"
        )
        self.stalled = gauge(
            "stalled_seconds", "Time that records wait without a commit", "topic", "partition"
        )

        # From 0 on: what began at 1 would be no `increase` to Prometheus, and the first alert would not come.
        for part in ("clickhouse", "kafka"):
            self.outage.labels(part)
            self.retries.labels(part)

    def assigned(self, topics: Iterable[str]) -> None:
        """Note an assignment of partitions of these topics."""
        self.assignments.inc()
        for topic in topics:
            self.gap_offsets.labels(topic)

    def exposition(self) -> bytes:
        """All metrics as of now, in Prometheus' text format; a thread may ask."""
        return generate_latest(self.registry)

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """A counter; its name gets the prefix, and `_total` where it is served."""
        return Counter(f"egresslens_{name}", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """A gauge; its name gets the prefix."""
        return Gauge(f"egresslens_{name}", text, labels, registry=self.registry)

    def histogram(
        self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS
    ) -> Histogram:
        """A histogram; its name gets the prefix."""
        return Histogram(f"egresslens_{name}", text, labels, registry=self.registry, buckets=buckets)


class WorkerMetrics(StreamMetrics):
    """The worker's. `istio` is None where there are to be no egress metrics."""

    def __init__(self, egress_series: int) -> None:
        super().__init__()
        gauge, counter, histogram = self.gauge, self.counter, self.histogram
        self.messages = counter("messages", "Messages taken from Kafka and applied", "topic")
        self.records = counter("records", "Access-log records kept, by label", "label")
        self.filtered = counter("filtered", "Parts left out on purpose, by reason", "reason")
        self.rejected = counter("rejected", "Parts sent to the dead-letter topic, by reason", "reason")
        self.rows = counter("rows", "Rows acknowledged by ClickHouse, by table", "table")
        self.published = counter("published", "Records acknowledged by Kafka, by topic", "topic")
        self.rolled = counter("rolled_up", "Windows rolled up, by tier", "tier")
        self.judged = counter("judged", "Destinations, addresses and workloads judged, by kind", "kind")
        self.window_keys = gauge("window_keys", "Window keys held in memory")
        self.stage = histogram("stage_seconds", "Time per flush in each stage", "stage")
        self.flush_messages = histogram(
            "flush_messages",
            "Messages per flush",
            buckets=(1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000),
        )
        for label in STORED_LABELS:
            self.records.labels(label)
        for filtered in Filtered:
            self.filtered.labels(filtered.value)
        for rejected in Reject:
            self.rejected.labels(rejected.value)
        self.istio = IstioMetrics(egress_series) if egress_series else None

    def exposition(self) -> bytes:
        """All metrics as of now, in Prometheus' text format; a thread may ask."""
        return super().exposition() + (self.istio.exposition().encode() if self.istio is not None else b"")


class AlertsMetrics(StreamMetrics):
    """The alerts process's."""

    def __init__(self) -> None:
        super().__init__()
        gauge, counter = self.gauge, self.counter
        self.windows = counter("alerts_windows", "Window rows looked at")
        self.incidents = gauge("alerts_incidents", "Incidents held, by rule and state", "rule", "state")
        self.told = counter("alerts_told", "Changes of incidents that a receiver took", "receiver")
        self.refused = counter("alerts_refused", "Deliveries that a receiver made fail", "receiver")
        self.untold = gauge("alerts_untold", "Incidents that a receiver was not told of yet", "receiver")
