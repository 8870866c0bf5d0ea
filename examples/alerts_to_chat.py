"""Post alerts to a chat's incoming webhook (Slack, Mattermost, Teams): a consumer of `egress.alerts`.

    CHAT_WEBHOOK_URL=https://hooks.example/T0/B0/secret python examples/alerts_to_chat.py

`egresslens alerts` has a webhook of its own (EGRESSLENS_ALERT_WEBHOOK_URL). This is for receivers that want
another body, and a pattern for tickets: one incident has one id, and a change of state is told once.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import time
import urllib.request
from typing import Any

from kafka import KafkaConsumer

MARKS = {"critical": ":red_circle:", "warning": ":large_orange_circle:", "info": ":large_blue_circle:"}
TABLES = "CREATE TABLE IF NOT EXISTS told (id TEXT, state TEXT, PRIMARY KEY (id, state))"


def text(alert: dict[str, Any]) -> str:
    """What people read. Names in it were chosen by whoever sent the request: no link, no mention."""
    summary = alert["summary"].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if alert["state"] == "resolved":
        return f":white_check_mark: over: {summary} ({alert['count']} events)"
    return f"{MARKS[alert['severity']]} {alert['rule']}: {summary}"


def tell(url: str, alert: dict[str, Any]) -> None:
    """Post one change of state; tries for ever, since nothing behind it may be told before it."""
    request = urllib.request.Request(  # noqa: S310 - the operator's own URL
        url,
        data=json.dumps({"text": text(alert)}).encode(),
        headers={
            "Content-Type": "application/json",
            # Receivers that know it drop repeats: a crash between telling and remembering tells twice.
            "Idempotency-Key": f"{alert['id']}-{alert['state']}",
        },
    )
    wait = 0.5
    while True:
        try:
            urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - as above
        except OSError as error:
            print(f"the chat does not take it, trying again: {error}", file=sys.stderr)
            time.sleep(wait)
            wait = min(60.0, 2 * wait)
        else:
            return


def main() -> None:
    """Read from where this group came to, for ever or until nothing came for some seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--brokers", default=os.environ.get("EGRESSLENS_KAFKA_BROKERS", "127.0.0.1:9092"))
    parser.add_argument("--topic", default="egress.alerts")
    parser.add_argument("--group", default="alerts-to-chat")
    parser.add_argument("--state", default="alerts-to-chat.sqlite", help="SQLite file; one per process")
    parser.add_argument("--idle", type=float, help="end after so many seconds without an alert")
    given = parser.parse_args()
    url = os.environ["CHAT_WEBHOOK_URL"]  # a secret: not on the command line, where others see it
    state = sqlite3.connect(given.state)
    state.execute(TABLES)
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
            for message in messages:
                alert = json.loads(message.value)
                key = (alert["id"], alert["state"])
                if state.execute("SELECT 1 FROM told WHERE id = ? AND state = ?", key).fetchone():
                    continue
                tell(url, alert)
                with state:
                    state.execute("INSERT INTO told VALUES (?, ?)", key)
        consumer.commit()
    consumer.close()


if __name__ == "__main__":
    main()
