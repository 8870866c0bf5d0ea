"""The same job, one record at a time, in plain Python: what every Python peer calls."""

from __future__ import annotations

import json
from bisect import bisect_left
from datetime import datetime, timedelta, timezone
from typing import Any

STORED = {"outbound", "passthrough", "blackhole"}
# What Egresslens stores of each record, and of each window.
EVENT_COLUMNS = (
    "event_time", "start_time", "duration_ms", "label", "label_evidence", "confidence", "upstream_cluster",
    "cluster_port", "cluster_subset", "source_cluster", "source_namespace", "source_workload", "source_pod",
    "source_ip", "source_region", "source_zone", "destination_host", "destination_host_source",
    "destination_port", "destination_ip", "mismatch", "hop", "protocol", "method", "path", "response_code",
    "response_flags", "response_code_details", "connection_termination_details",
    "upstream_transport_failure_reason", "bytes_sent", "bytes_received", "upstream_service_time",
    "x_forwarded_for", "user_agent", "request_id", "route_name", "requested_server_name", "authority",
    "upstream_host", "upstream_local_address", "downstream_local_address", "downstream_remote_address",
    "format", "damage", "rules_version", "stream_epoch", "topic", "partition", "offset", "seq",
    "kafka_timestamp",
)  # fmt: skip
KEY_COLUMNS = (
    "window_start", "stream_epoch", "topic", "partition", "source_cluster", "source_namespace",
    "source_workload", "source_ip", "label", "destination_host", "destination_host_source",
    "destination_port", "protocol", "hop", "response_code", "rules_version",
)  # fmt: skip
WINDOW_COLUMNS = (
    *KEY_COLUMNS, "requests", "mismatches", "bytes_sent", "bytes_received", "duration_ms_sum",
    "duration_ms_max", "duration_buckets", "destination_ips", "first_event", "last_event", "last_offset",
)  # fmt: skip
# Istio's latency buckets, milliseconds; one more holds the rest.
BOUNDS = (
    0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000,
    1_800_000, 3_600_000,
)  # fmt: skip
# What every record of the run has in common.
ALIKE: dict[str, Any] = {
    "source_cluster": None, "source_namespace": None, "source_workload": None, "source_pod": None,
    "source_region": None, "source_zone": None, "hop": "sidecar", "format": "istio_json", "damage": None,
    "rules_version": 1, "stream_epoch": "epoch", "seq": 0,
}  # fmt: skip
IPS = 16


def text(value: str | None) -> str | None:
    return None if value is None or value in ("-", "") else value


def label_of(cluster: str | None, route: str | None) -> tuple[str, str]:
    """The label and its evidence."""
    if cluster == "PassthroughCluster":
        return "passthrough", "cluster"
    if cluster == "BlackHoleCluster":
        return "blackhole", "cluster"
    if route == "block_all":
        return "blackhole", "route"
    direction = (cluster or "").split("|", 1)[0]
    return (direction if direction in ("outbound", "inbound") else "unknown"), "cluster"


def read(value: bytes, topic: str, partition: int, offset: int, kafka_ms: int = 0) -> dict[str, Any] | None:
    """Parse and label one record: EVENT_COLUMNS; None for what is not stored."""
    record = json.loads(value)
    cluster, route = text(record["upstream_cluster"]), text(record["route_name"])
    label, evidence = label_of(cluster, route)
    if label not in STORED:
        return None
    address, _, port = record["downstream_local_address"].rpartition(":")
    parts = cluster.split("|") if cluster else []
    authority, sni = text(record["authority"]), text(record["requested_server_name"])
    if len(parts) == 4:
        host, host_source = parts[3], "registry"
    elif authority:
        host, host_source = authority, "authority"
    elif sni:
        host, host_source = sni, "sni"
    else:
        host, host_source = address, "address"
    duration = int(record["duration"])
    start = datetime.fromisoformat(record["start_time"].replace("Z", "+00:00"))
    flags, service = text(record["response_flags"]), text(record["upstream_service_time"])
    path = text(record["path"])
    return {
        "event_time": start + timedelta(milliseconds=duration),
        "start_time": start,
        "duration_ms": duration,
        "label": label,
        "label_evidence": evidence,
        "confidence": "high",
        "upstream_cluster": cluster,
        "cluster_port": int(parts[1]) if len(parts) == 4 else None,
        "cluster_subset": text(parts[2]) if len(parts) == 4 else None,
        "source_ip": record["downstream_remote_address"].rpartition(":")[0],
        "destination_host": host,
        "destination_host_source": host_source,
        "destination_port": int(port),
        "destination_ip": address,
        "mismatch": len(parts) == 4 and authority is not None and authority != host,
        "protocol": text(record["protocol"]),
        "method": text(record["method"]),
        "path": path.split("?", 1)[0] if path else None,
        "response_code": int(record["response_code"]),
        "response_flags": flags.split(",") if flags else [],
        "response_code_details": text(record["response_code_details"]),
        "connection_termination_details": text(record["connection_termination_details"]),
        "upstream_transport_failure_reason": text(record["upstream_transport_failure_reason"]),
        "bytes_sent": int(record["bytes_sent"]),
        "bytes_received": int(record["bytes_received"]),
        "upstream_service_time": int(service) if service else None,
        "x_forwarded_for": text(record["x_forwarded_for"]),
        "user_agent": text(record["user_agent"]),
        "request_id": text(record["request_id"]),
        "route_name": route,
        "requested_server_name": sni,
        "authority": authority,
        "upstream_host": text(record["upstream_host"]),
        "upstream_local_address": text(record["upstream_local_address"]),
        "downstream_local_address": text(record["downstream_local_address"]),
        "downstream_remote_address": text(record["downstream_remote_address"]),
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "kafka_timestamp": datetime.fromtimestamp(kafka_ms / 1000, timezone.utc),
        **ALIKE,
    }


def key_of(record: dict[str, Any]) -> tuple[Any, ...]:
    """KEY_COLUMNS."""
    return (
        record["event_time"].replace(second=0, microsecond=0), *[record[name] for name in KEY_COLUMNS[1:]],
    )  # fmt: skip


class Windows:
    """One-minute windows in a dict, and which of them changed since they were last written."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Any, ...], list[Any]] = {}
        self.changed: set[tuple[Any, ...]] = set()

    def add(self, record: dict[str, Any]) -> None:
        key, at, duration = key_of(record), record["event_time"], record["duration_ms"]
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = [0, 0, 0, 0, 0, 0, [0] * (len(BOUNDS) + 1), [], at, at, 0]
        row[0] += 1
        row[1] += record["mismatch"]
        row[2] += record["bytes_sent"]
        row[3] += record["bytes_received"]
        row[4] += duration
        row[5] = max(row[5], duration)
        row[6][bisect_left(BOUNDS, duration)] += 1
        if len(row[7]) < IPS and record["destination_ip"] not in row[7]:
            row[7].append(record["destination_ip"])
        row[8] = min(row[8], at)
        row[9] = max(row[9], at)
        row[10] = record["offset"]
        self.changed.add(key)

    def take(self) -> list[tuple[Any, ...]]:
        """WINDOW_COLUMNS of what changed."""
        rows = [(*key, *self.rows[key]) for key in self.changed]
        self.changed.clear()
        return rows

    def counts(self) -> dict[str, int]:
        found: dict[str, int] = {}
        label = KEY_COLUMNS.index("label")
        for key, row in self.rows.items():
            found[key[label]] = found.get(key[label], 0) + row[0]
        return found
