"""Print each destination that a workload calls for the first time: a consumer of `egress.enriched`.

    python examples/new_destinations.py --brokers 127.0.0.1:9092

The topic is at least once: after a crash a worker publishes its last records again. So this program keeps a
mark of how far it came, by the records' own identity, in the same database and the same transaction as what
it knows. Whatever happens, each destination is found once (README.md says why that is enough).
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from typing import Any

from kafka import KafkaConsumer

TABLES = """
CREATE TABLE IF NOT EXISTS marks (stream TEXT PRIMARY KEY, offset INTEGER NOT NULL, seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS destinations
    (source TEXT, host TEXT, port INTEGER, PRIMARY KEY (source, host, port));
"""


def unseen(state: sqlite3.Connection, record: dict[str, Any]) -> bool:
    """Whether a record comes for the first time; remembers it.

    Records of one partition of the access log come in order and without holes, some of them again. So what is
    at or below the highest identity seen is a repeat, and one mark per partition is all the memory it takes.
    """
    stream = f"{record['stream_epoch']}/{record['topic']}/{record['partition']}"
    mark = state.execute("SELECT offset, seq FROM marks WHERE stream = ?", (stream,)).fetchone()
    here = (record["offset"], record["seq"])
    if mark is not None and here <= mark:
        return False
    state.execute("INSERT OR REPLACE INTO marks VALUES (?, ?, ?)", (stream, *here))
    return True


def new_destinations(state: sqlite3.Connection, records: Iterable[dict[str, Any]]) -> Iterator[str]:
    """One line for each destination that its workload was never seen to call."""
    for record in records:
        if not unseen(state, record):
            continue
        source = (
            f"{record['source_namespace'] or '?'}/{record['source_workload'] or record['source_ip'] or '?'}"
        )
        destination = (source, record["destination_host"] or "?", record["destination_port"] or 0)
        if state.execute("INSERT OR IGNORE INTO destinations VALUES (?, ?, ?)", destination).rowcount:
            # Hosts are chosen by whoever sent the request: json.dumps keeps terminal escapes from acting.
            yield json.dumps(
                {
                    "seen": record["event_time"],
                    "source": source,
                    "destination": f"{destination[1]}:{destination[2]}",
                    "label": record["label"],
                }
            )


def main() -> None:
    """Read from where this group came to, for ever or until nothing came for some seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--brokers", default=os.environ.get("EGRESSLENS_KAFKA_BROKERS", "127.0.0.1:9092"))
    parser.add_argument("--topic", default="egress.enriched")
    parser.add_argument("--group", default="new-destinations")
    parser.add_argument("--state", default="new-destinations.sqlite", help="SQLite file; one per process")
    parser.add_argument("--idle", type=float, help="end after so many seconds without a record")
    given = parser.parse_args()
    state = sqlite3.connect(given.state)
    state.executescript(TABLES)
    # With TLS and SASL: security_protocol="SASL_SSL", sasl_mechanism=…, sasl_plain_username=…, ssl_cafile=….
    consumer = KafkaConsumer(
        given.topic,
        bootstrap_servers=given.brokers,
        group_id=given.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    last = time.monotonic()
    while given.idle is None or time.monotonic() - last < given.idle:
        for messages in consumer.poll(timeout_ms=500).values():
            last = time.monotonic()
            with state:  # one transaction: what was found, and how far it came
                for line in new_destinations(state, (json.loads(message.value) for message in messages)):
                    print(line, flush=True)
        consumer.commit()
    consumer.close()


if __name__ == "__main__":
    main()
