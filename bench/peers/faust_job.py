"""Stock Faust doing the whole job as its guide writes it: one event per record, nothing of Egresslens.

`async for event in stream.events()`, `json.loads` per record, label, windows in a dict, `topic.send` of the
enriched record, batches of 10,000 rows into tables as Egresslens' own by ClickHouse's async client. With
`"table": true` in the orders the requests are counted in a Faust windowed table besides (in memory, its
changelog in Kafka).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import clickhouse_connect
import faust
from rules import EVENT_COLUMNS, WINDOW_COLUMNS, Windows, key_of, read

ORDERS = json.loads(sys.argv.pop())
BATCH = 10_000
TIMES = ("event_time", "start_time", "kafka_timestamp")

app = faust.App(
    ORDERS["group"],
    broker="kafka://" + ORDERS["brokers"],
    store="memory://",
    datadir=ORDERS["folder"],
    web_enabled=False,
    topic_disable_leader=True,
    topic_allow_declare=True,
    consumer_auto_offset_reset="earliest",
    value_serializer="raw",
    producer_acks=-1,
    producer_compression_type="gzip",
    producer_linger=0.05,
    producer_max_batch_size=1_000_000,
    stream_buffer_maxsize=16_384,
)
logs = app.topic(ORDERS["topic"], value_type=bytes, value_serializer="raw", key_serializer="raw")
enriched = app.topic(ORDERS["output"], key_serializer="raw", value_serializer="json")
windows = Windows()
table = (
    app.Table("windows", default=int, partitions=ORDERS["partitions"]).tumbling(60.0, expires=3600.0)
    if ORDERS.get("table")
    else None
)
state = {"read": 0, "total": sum(ORDERS["limits"])}


@app.agent(logs)
async def process(stream: faust.StreamT) -> None:
    client = await clickhouse_connect.get_async_client(
        host=ORDERS["host"], port=ORDERS["port"], username=ORDERS["user"], password=ORDERS["password"],
        database=ORDERS["database"],
    )  # fmt: skip
    rows: list[list[object]] = []

    async def flush() -> None:
        await client.insert("raw_events", rows, column_names=EVENT_COLUMNS)
        await client.insert("raw_windows_1m", windows.take(), column_names=WINDOW_COLUMNS)
        rows.clear()

    async for event in stream.events():
        message = event.message
        if message.offset >= ORDERS["limits"][message.partition]:
            continue
        if not state["read"]:
            state["started"], state["cpu"] = time.monotonic(), time.process_time()
        state["read"] += 1
        kafka_ms = int(message.timestamp * 1000)
        record = read(event.value, message.topic, message.partition, message.offset, kafka_ms)
        if record is not None:
            windows.add(record)
            if table is not None:
                table["|".join(map(str, key_of(record)[1:]))] += 1
            await enriched.send(
                key=record["source_ip"].encode(),
                value={**record, **{name: record[name].isoformat() for name in TIMES}},
            )
            rows.append([record[name] for name in EVENT_COLUMNS])
            if len(rows) >= BATCH:
                await flush()
        if state["read"] == state["total"]:
            await flush()
            await app.producer.flush()
            report()
            return


def report() -> None:
    seconds = time.monotonic() - state["started"]
    cpu = time.process_time() - state["cpu"]
    # Faust takes print for a log message.
    os.write(1, json.dumps({"seconds": seconds, "cpu_s": cpu, "counts": windows.counts()}).encode() + b"\n")
    os._exit(0)


if __name__ == "__main__":
    sys.argv[1:] = ["worker", "-l", "warn", "--without-web"]
    asyncio.set_event_loop(asyncio.new_event_loop())
    app.main()
