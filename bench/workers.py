"""One, two and four workers of one group on one topic: efficiency per core.

The clock starts when the last of them is ready; what is done by then is not counted.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import jobs
from parts import Filled, Parts, Timing, say

COUNTS = (1, 2, 4)


def measure(parts: Parts, topic: Filled, rounds: int) -> dict[str, Any]:
    """Records per second and microseconds of CPU per record, by number of workers."""
    seen: dict[int, list[Timing]] = {count: [] for count in COUNTS}
    kept: dict[str, float] = {}
    for _ in range(rounds):
        for count in COUNTS:
            timing, kept = _run(parts, topic, count)
            seen[count].append(timing)
            say(f"{count} workers: {timing.rate:9,.0f} records/s {timing.cpu_us:6.1f} us CPU")
    return {
        "kafka_bytes_per_record": kept,
        "counts": {
            str(count): {
                "counted": median(one.records for one in timings),
                "rate": median(one.rate for one in timings),
                "cpu_us": median(one.cpu_us for one in timings),
                "broker_us": median(one.broker_us for one in timings),
                "store_us": median(one.store_us for one in timings),
            }
            for count, timings in seen.items()
        },
    }


def _run(parts: Parts, topic: Filled, count: int) -> tuple[Timing, dict[str, float]]:
    """What it cost, and the bytes that Kafka keeps for each record of the access log."""
    environment = parts.environment(ACCESS_LOG_TOPICS=topic.name)
    with jobs.schema(parts, environment) as client:
        with jobs.workers(parts, environment, count) as started:
            timing = jobs.work_off(parts, topic, client, environment, started)
        jobs.correct(client, environment, topic)
        names = {
            "access log": topic.name,
            "enriched": environment["EGRESSLENS_ENRICHED_TOPIC"],
            "windows": environment["EGRESSLENS_WINDOWS_TOPIC"],
        }
        return timing, {what: parts.topic_bytes(name) / topic.total for what, name in names.items()}
