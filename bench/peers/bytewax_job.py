"""Bytewax: its Kafka input, a step that parses and labels, windows in a dict. No sink, no recovery store."""

from __future__ import annotations

import json
import os
import sys
import time

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main
from rules import Windows, read

ORDERS = json.loads(sys.argv[1])
windows = Windows()
state = {"read": 0, "total": sum(ORDERS["limits"])}


def apply(batch: list[KafkaSourceMessage]) -> list[None]:
    for message in batch:
        if message.offset >= ORDERS["limits"][message.partition]:
            continue
        if not state["read"]:
            state["started"], state["cpu"] = time.monotonic(), time.process_time()
        state["read"] += 1
        record = read(message.value, message.partition, message.offset)
        if record is not None:
            windows.add(record)
        if state["read"] == state["total"]:
            seconds, cpu = time.monotonic() - state["started"], time.process_time() - state["cpu"]
            print(json.dumps({"seconds": seconds, "cpu_s": cpu, "counts": windows.counts()}), flush=True)
            os._exit(0)
    return []


flow = Dataflow("bench")
source = KafkaSource(ORDERS["brokers"].split(","), [ORDERS["topic"]], tail=True, batch_size=1000)
done = op.flat_map_batch("work", op.input("logs", flow, source), apply)
from bytewax.connectors.stdio import StdOutSink  # noqa: E402

op.output("out", done, StdOutSink())
run_main(flow)
