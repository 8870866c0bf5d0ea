"""Quix Streams: a streaming data frame that parses and labels, windows in a dict. No sink, no state store."""

from __future__ import annotations

import json
import os
import sys
import time

from quixstreams import Application, message_context
from rules import Windows, read

ORDERS = json.loads(sys.argv[1])
windows = Windows()
state = {"read": 0, "total": sum(ORDERS["limits"])}

app = Application(
    broker_address=ORDERS["brokers"],
    consumer_group=ORDERS["group"],
    auto_offset_reset="earliest",
    state_dir=ORDERS["folder"],
    loglevel="WARNING",
    consumer_poll_timeout=0.1,
    auto_create_topics=False,
)


def apply(value: bytes) -> None:
    context = message_context()
    if context.offset >= ORDERS["limits"][context.partition]:
        return
    if not state["read"]:
        state["started"], state["cpu"] = time.monotonic(), time.process_time()
    state["read"] += 1
    record = read(value, context.partition, context.offset)
    if record is not None:
        windows.add(record)
    if state["read"] == state["total"]:
        seconds, cpu = time.monotonic() - state["started"], time.process_time() - state["cpu"]
        print(json.dumps({"seconds": seconds, "cpu_s": cpu, "counts": windows.counts()}), flush=True)
        os._exit(0)


frame = app.dataframe(app.topic(ORDERS["topic"], value_deserializer="bytes"))
frame.update(apply)
app.run()
