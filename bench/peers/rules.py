"""The same job, one record at a time, in plain Python: what every Python peer calls."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

STORED = {"outbound", "passthrough", "blackhole"}
EVENT_COLUMNS = (
    "event_time", "label", "upstream_cluster", "source_ip", "destination_host", "destination_port",
    "protocol", "method", "path", "response_code", "response_flags", "bytes_sent", "bytes_received",
    "duration_ms", "user_agent", "request_id", "route_name", "upstream_host", "partition", "offset",
)  # fmt: skip
WINDOW_COLUMNS = (
    "window_start", "source_ip", "label", "destination_host", "destination_port", "protocol",
    "response_code", "partition", "requests", "bytes_sent", "bytes_received", "duration_ms_sum",
    "duration_ms_max", "last_offset",
)  # fmt: skip


def text(value: str | None) -> str:
    return "" if value is None or value == "-" else value


def label_of(record: dict[str, Any]) -> str:
    cluster = text(record["upstream_cluster"])
    if cluster == "PassthroughCluster":
        return "passthrough"
    if cluster == "BlackHoleCluster" or record["route_name"] == "block_all":
        return "blackhole"
    direction = cluster.split("|", 1)[0]
    return direction if direction in ("outbound", "inbound") else "unknown"


def read(value: bytes, partition: int, offset: int) -> dict[str, Any] | None:
    """Parse and label one record; None for what is not stored."""
    record = json.loads(value)
    label = label_of(record)
    if label not in STORED:
        return None
    address, _, port = record["downstream_local_address"].rpartition(":")
    parts = record["upstream_cluster"].split("|")
    host = (
        parts[3]
        if len(parts) == 4
        else text(record["authority"]) or text(record["requested_server_name"]) or address
    )
    duration = int(record["duration"])
    start = datetime.fromisoformat(record["start_time"].replace("Z", "+00:00"))
    return {
        "event_time": start + timedelta(milliseconds=duration),
        "label": label,
        "upstream_cluster": text(record["upstream_cluster"]),
        "source_ip": record["downstream_remote_address"].rpartition(":")[0],
        "destination_host": host,
        "destination_port": int(port),
        "protocol": text(record["protocol"]),
        "method": text(record["method"]),
        "path": text(record["path"]).split("?", 1)[0],
        "response_code": int(record["response_code"]),
        "response_flags": text(record["response_flags"]),
        "bytes_sent": int(record["bytes_sent"]),
        "bytes_received": int(record["bytes_received"]),
        "duration_ms": duration,
        "user_agent": text(record["user_agent"]),
        "request_id": text(record["request_id"]),
        "route_name": text(record["route_name"]),
        "upstream_host": text(record["upstream_host"]),
        "partition": partition,
        "offset": offset,
    }


def key_of(record: dict[str, Any]) -> tuple[Any, ...]:
    return (
        record["event_time"].replace(second=0, microsecond=0), record["source_ip"], record["label"],
        record["destination_host"], record["destination_port"], record["protocol"], record["response_code"],
        record["partition"],
    )  # fmt: skip


class Windows:
    """One-minute windows in a dict, and which of them changed since they were last written."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Any, ...], list[int]] = {}
        self.changed: set[tuple[Any, ...]] = set()

    def add(self, record: dict[str, Any]) -> None:
        key = key_of(record)
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = [0, 0, 0, 0, 0, 0]
        row[0] += 1
        row[1] += record["bytes_sent"]
        row[2] += record["bytes_received"]
        row[3] += record["duration_ms"]
        row[4] = max(row[4], record["duration_ms"])
        row[5] = record["offset"]
        self.changed.add(key)

    def take(self) -> list[tuple[Any, ...]]:
        rows = [(*key, *self.rows[key]) for key in self.changed]
        self.changed.clear()
        return rows

    def counts(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for key, row in self.rows.items():
            found[key[2]] = found.get(key[2], 0) + row[0]
        return found
