"""The worker's metrics: one catalogue, one line each."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters, gauges and histograms of one worker, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.messages = counter("messages", "Messages taken from Kafka and applied", "topic")
        self.records = counter("records", "Access-log records kept, by label", "label")
        self.filtered = counter("filtered", "Parts left out on purpose, by reason", "reason")
        self.rejected = counter("rejected", "Parts sent to the dead-letter topic, by reason", "reason")
        self.gap_offsets = counter("gap_offsets", "Offsets that the broker no longer had", "topic")
        self.rows = counter("rows", "Rows acknowledged by ClickHouse, by table", "table")
        self.published = counter("published", "Records acknowledged by Kafka, by topic", "topic")
        self.assignments = counter("assignments", "Assignments, each of which discards all state")
        self.rolled = counter("rolled_up", "Windows rolled up, by tier", "tier")
        self.retries = counter("retries", "Tries that ClickHouse or Kafka made fail, by part", "part")
        self.outage = gauge("outage", "1 while ClickHouse or Kafka is failing, by part", "part")
        self.lag = gauge(
            "lag_records", "Records between committed offset and the log's end", "topic", "partition"
        )
        self.window_keys = gauge("window_keys", "Window keys held in memory")
        self.stage = histogram("stage_seconds", "Time per flush in each stage", "stage")
        self.flush_messages = Histogram(
            "egresslens_flush_messages",
            "Messages per flush",
            buckets=(1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000),
            registry=self.registry,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"egresslens_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"egresslens_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"egresslens_{name}", text, labels, registry=self.registry, buckets=_SECONDS)
