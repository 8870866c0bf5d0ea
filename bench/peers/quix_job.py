"""Quix Streams: parse, label, group by the window's key, its 1-minute tumbling windows. No sink.

Its windows are per message key, so that `group_by` sends each record through a repartition topic, as its
guide says. Timestamps are those of the events; the grace is long, since the partitions are not read in step.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from typing import Any

from quixstreams import Application, message_context
from quixstreams.dataframe.windows import Max, Sum
from rules import read

ORDERS = json.loads(sys.argv[1])
LIMITS = ORDERS["limits"]
state = {"seen": 0, "stored": 0, "windowed": 0}
requests: dict[tuple[str, int], int] = {}

app = Application(
    broker_address=ORDERS["brokers"],
    consumer_group=ORDERS["group"],
    auto_offset_reset="earliest",
    state_dir=ORDERS["folder"],
    loglevel="WARNING",
    consumer_poll_timeout=0.1,
    producer_extra_config={"compression.type": "zstd", "linger.ms": 50},
)


def parse(value: bytes) -> list[dict[str, Any]]:
    context = message_context()
    if context.offset >= LIMITS[context.partition]:
        return []
    if not state["seen"]:
        state["started"], state["cpu"] = time.monotonic(), time.process_time()
    state["seen"] += 1
    record = read(value, context.topic, context.partition, context.offset)
    state["stored"] += record is not None
    done()
    return [] if record is None else [slim(record)]


def slim(record: dict[str, Any]) -> dict[str, Any]:
    """What the windows need, with the key as text."""
    names = ("source_ip", "label", "destination_host", "destination_port", "protocol", "response_code")
    return {
        "key": "|".join(str(record[name]) for name in (*names, "partition")),
        "ended": int(record["event_time"].timestamp() * 1000),
        "requests": 1,
        **{name: record[name] for name in ("bytes_sent", "bytes_received", "duration_ms", "offset")},
    }


def windowed(window: dict[str, Any], key: str, timestamp: int, headers: Any) -> None:  # noqa: ARG001 - its shape
    requests[(key, window["start"])] = window["requests"]
    state["windowed"] += 1
    done()


def done() -> None:
    if state["seen"] < sum(LIMITS) or state["windowed"] < state["stored"]:
        return
    seconds, cpu = time.monotonic() - state["started"], time.process_time() - state["cpu"]
    counts: dict[str, int] = {}
    for (key, _), count in requests.items():
        label = key.split("|")[1]
        counts[label] = counts.get(label, 0) + count
    print(json.dumps({"seconds": seconds, "cpu_s": cpu, "counts": counts}), flush=True)
    os._exit(0)


logs = app.dataframe(app.topic(ORDERS["topic"], value_deserializer="bytes"))
flows = logs.apply(parse, expand=True).set_timestamp(lambda value, *_: value["ended"])
windows = flows.group_by("key").tumbling_window(timedelta(minutes=1), grace_ms=timedelta(hours=1))
windows.agg(
    requests=Sum("requests"),
    bytes_sent=Sum("bytes_sent"),
    bytes_received=Sum("bytes_received"),
    duration_ms_sum=Sum("duration_ms"),
    duration_ms_max=Max("duration_ms"),
    last_offset=Max("offset"),
).current().update(windowed, metadata=True)
app.run()
