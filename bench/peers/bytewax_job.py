"""Bytewax: its Kafka input, a step that parses and labels, its window operator by event time. No sink.

The dataflow ends with its input, as one that reads a topic to its end does; that closes the last windows.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.inputs import StatefulSourcePartition
from bytewax.operators.windowing import EventClock, TumblingWindower
from bytewax.testing import TestingSink, run_main
from rules import read

ORDERS = json.loads(sys.argv[1])
LIMITS = ORDERS["limits"]
state: dict[str, float] = {}
Sums = tuple[int, int, int, int, int, int]


class Bounded(StatefulSourcePartition[Any, Any]):
    """A partition of Kafka up to its limit."""

    def __init__(self, partition: Any, limit: int) -> None:
        self._partition, self._limit, self._ended = partition, limit, False

    def next_batch(self) -> list[Any]:
        if self._ended:
            raise StopIteration
        batch = self._partition.next_batch()
        kept = [message for message in batch if message.offset < self._limit]
        self._ended = bool(batch) and batch[-1].offset + 1 >= self._limit
        return kept

    def snapshot(self) -> Any:
        return self._partition.snapshot()

    def close(self) -> None:
        self._partition.close()


class Source(KafkaSource):
    """The topic up to the limits."""

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> Any:
        part = super().build_part(step_id, for_part, resume_state)
        return Bounded(part, LIMITS[int(for_part.split("-", 1)[0])])


def parse(batch: list[KafkaSourceMessage]) -> Iterator[tuple[str, dict[str, Any]]]:
    if batch and not state:
        state["started"], state["cpu"] = time.monotonic(), time.process_time()
    names = ("source_ip", "label", "destination_host", "destination_port", "protocol", "response_code")
    for message in batch:
        record = read(message.value, message.topic, message.partition, message.offset)
        if record is not None:
            yield "|".join(str(record[name]) for name in (*names, "partition")), record


def add(sums: Sums, record: dict[str, Any]) -> Sums:
    requests, sent, received, total, most, last = sums
    return (
        requests + 1, sent + record["bytes_sent"], received + record["bytes_received"],
        total + record["duration_ms"], max(most, record["duration_ms"]), max(last, record["offset"]),
    )  # fmt: skip


def merge(a: Sums, b: Sums) -> Sums:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], max(a[4], b[4]), max(a[5], b[5]))


flow = Dataflow("bench")
source = Source(ORDERS["brokers"].split(","), [ORDERS["topic"]], tail=False, batch_size=1000)
flows = op.flat_map_batch("parse", op.input("logs", flow, source), parse)
windows = win.fold_window(
    "windows",
    flows,
    EventClock(lambda record: record["event_time"], wait_for_system_duration=timedelta(seconds=10)),
    TumblingWindower(timedelta(minutes=1), align_to=datetime(2020, 1, 1, tzinfo=timezone.utc)),
    lambda: (0, 0, 0, 0, 0, 0),
    add,
    merge,
)
rows: list[tuple[str, tuple[int, Sums]]] = []
op.output("out", windows.down, TestingSink(rows))
run_main(flow)
seconds, cpu = time.monotonic() - state["started"], time.process_time() - state["cpu"]
counts: dict[str, int] = {}
for key, (_, sums) in rows:
    label = key.split("|")[1]
    counts[label] = counts.get(label, 0) + sums[0]
print(json.dumps({"seconds": seconds, "cpu_s": cpu, "counts": counts}), flush=True)
