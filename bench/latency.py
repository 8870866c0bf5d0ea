"""From a record in Kafka to visible in the views, at a steady rate: 20,000 records a second, and one.

A record's time begins when it is handed to Kafka's client, and ends at the first look at `progress` that
covers it: the worker writes `progress` last, when the record is in every view. One look every 50 ms, so that
a figure is up to that much too high.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import jobs
import numpy as np
from parts import Filled, Parts, check, cpu_seconds, say

from egresslens.kafka.publish import Publisher, Record
from egresslens.kafka.topics import Topic
from traffic import Traffic

PARTITIONS = 4
# Seconds between two sends at a high rate, as shippers gather records for some time.
_TICK_S = 0.05
_LOOK_S = 0.05


@dataclass
class Sent:
    """What was sent, by partition: (next offset after it, records, moment) of each send, not yet seen."""

    waiting: list[deque[tuple[int, int, float]]] = field(
        default_factory=lambda: [deque() for _ in range(PARTITIONS)]
    )
    latencies: list[tuple[float, int]] = field(default_factory=list)

    def seen(self, partition: int, next_offset: int, moment: float) -> None:
        """All below this offset of the partition is visible."""
        queue = self.waiting[partition]
        while queue and queue[0][0] <= next_offset:
            _, count, sent = queue.popleft()
            self.latencies.append((moment - sent, count))


def measure(parts: Parts, *, seconds: float) -> dict[str, Any]:
    """p50, p99 and the longest in seconds, by rate."""
    found = {}
    for rate in (20_000, 1):
        found[str(rate)] = asyncio.run(_at(parts, rate, seconds))
        one = found[str(rate)]
        waits = ", ".join(f"{what} {one[f'{what}_s']:.2f} s" for what in ("p50", "p99", "most"))
        say(f"{rate:,} records/s: {waits}")
    return {"rates": found}


async def _at(parts: Parts, rate: int, seconds: float) -> dict[str, Any]:
    name = f"latency-{uuid.uuid4().hex[:6]}"
    parts.make_topics(Topic(name, PARTITIONS))
    environment = parts.environment(ACCESS_LOG_TOPICS=name)
    # Made before the clock runs: what making costs is none of the pipeline's.
    traffic = list(Traffic(int(time.time() * 1000)).take(int(rate * seconds), "json"))
    with jobs.schema(parts, environment) as client, jobs.workers(parts, environment) as (worker,):
        sent, labels = Sent(), [list[int]() for _ in range(PARTITIONS)]
        pids = (worker.process.pid, parts.broker.pid, parts.store.pid)
        before = [cpu_seconds(pid) for pid in pids]
        publisher = Publisher({"bootstrap_servers": parts.broker.bootstrap})
        await publisher.partitions(name)
        sending = asyncio.create_task(_send(publisher, name, traffic, rate, sent, labels))
        sql = f"SELECT partition, last_offset FROM {environment['EGRESSLENS_DATABASE']}.progress"
        while not sending.done() or any(sent.waiting):
            worker.ready()
            rows = (await asyncio.to_thread(client.query, sql)).result_rows
            moment = time.monotonic()
            for partition, last in rows:
                sent.seen(partition, last + 1, moment)
            await asyncio.sleep(_LOOK_S)
        await sending
        await publisher.stop()
        spent = [cpu_seconds(pid) - one for pid, one in zip(pids, before, strict=True)]
        filled = Filled(name, "json", [np.array(one, np.int8) for one in labels], 0)
        rows = client.query(
            f"SELECT label, count() FROM {environment['EGRESSLENS_DATABASE']}.events GROUP BY label"
        ).result_rows
        check(dict(rows), {label: count for label, count in filled.truth().items() if count}, "latency")
    parts.drop_topics([name])
    waits, counts = (np.array(one) for one in zip(*sorted(sent.latencies), strict=True))
    share = np.cumsum(counts) / counts.sum()
    return {
        "records": int(counts.sum()),
        "seconds": seconds,
        "p50_s": float(waits[np.searchsorted(share, 0.5)]),
        "p99_s": float(waits[np.searchsorted(share, 0.99)]),
        "most_s": float(waits[-1]),
        **{
            f"{who}_cores": cpu / seconds
            for who, cpu in zip(("worker", "broker", "store"), spent, strict=True)
        },
    }


async def _send(
    publisher: Publisher,
    topic: str,
    traffic: list[tuple[int, int, str]],
    rate: int,
    sent: Sent,
    labels: list[list[int]],
) -> None:
    """Send at the rate, by the clock: a send that took long is followed by a larger one."""
    began, done = time.monotonic(), 0
    while done < len(traffic):
        due = min(len(traffic), int((time.monotonic() - began) * rate) + 1)
        if due == done:
            await asyncio.sleep(max(_TICK_S, 1 / rate) / 2)
            continue
        rows: dict[int, list[Record]] = {}
        for source, label, text in traffic[done:due]:
            partition = source % PARTITIONS
            rows.setdefault(partition, []).append((None, text.encode(), []))
            labels[partition].append(label)
        moment = time.monotonic()
        for partition, records in rows.items():
            sent.waiting[partition].append((len(labels[partition]), len(records), moment))
        await publisher.publish(topic, rows)
        done = due
        await asyncio.sleep(_TICK_S)
