"""The record: its fields, their types and what they mean.

One place names every field of an enriched record and of a window row. The enriched topic, the ClickHouse
tables, `egresslens parse` and the frames between the stages all use these names (design: "Vocabulary and
the record"). Names are Envoy's access-log names where Envoy has one. Absent is null, never `-`.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Final, Literal, get_args

import polars as pl

Label = Literal[
    "passthrough", "blackhole", "outbound", "inbound", "inbound_passthrough", "internal", "unknown"
]
LABELS: Final[tuple[Label, ...]] = get_args(Label)

# Inbound and internal records show a call another workload logged as egress, or none: counted, not stored.
STORED_LABELS: Final[tuple[Label, ...]] = ("outbound", "passthrough", "blackhole", "unknown")

Hop = Literal["sidecar", "gateway", "waypoint"]
HostSource = Literal["registry", "authority", "sni", "address", "other"]

TIMESTAMP: Final = pl.Datetime("ms", "UTC")
# Times that are believed, from the first to before the last: no proxy has run before, and ClickHouse's
# DateTime ends in 2106, some years of which its retention needs.
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
LATEST: Final = datetime(2100, 1, 1, tzinfo=timezone.utc)

# What parsing reads off the line and its envelope. `damage` names what the tolerant mode forgave.
PARSED: Final[dict[str, pl.DataType]] = {
    "format": pl.String(),
    "damage": pl.String(),
    "start_time": TIMESTAMP,
    "duration_ms": pl.Int64(),
    "source_cluster": pl.String(),
    "source_namespace": pl.String(),
    "source_workload": pl.String(),
    "source_pod": pl.String(),
    "source_region": pl.String(),
    "source_zone": pl.String(),
    "protocol": pl.String(),
    "method": pl.String(),
    "path": pl.String(),
    "response_code": pl.Int32(),
    "response_flags": pl.List(pl.String()),
    "response_code_details": pl.String(),
    "connection_termination_details": pl.String(),
    "upstream_transport_failure_reason": pl.String(),
    "bytes_sent": pl.Int64(),
    "bytes_received": pl.Int64(),
    "upstream_service_time": pl.Int64(),
    "x_forwarded_for": pl.String(),
    "user_agent": pl.String(),
    "request_id": pl.String(),
    "route_name": pl.String(),
    "requested_server_name": pl.String(),
    "authority": pl.String(),
    "upstream_cluster": pl.String(),
    "upstream_host": pl.String(),
    "upstream_local_address": pl.String(),
    "downstream_local_address": pl.String(),
    "downstream_remote_address": pl.String(),
}

# What labelling concludes from it.
LABELLED: Final[dict[str, pl.DataType]] = {
    "event_time": TIMESTAMP,
    "label": pl.String(),
    "label_evidence": pl.String(),
    "confidence": pl.String(),
    "cluster_port": pl.Int32(),
    "cluster_subset": pl.String(),
    "source_ip": pl.String(),
    "destination_host": pl.String(),
    "destination_host_source": pl.String(),
    "destination_port": pl.Int32(),
    "destination_ip": pl.String(),
    "mismatch": pl.Boolean(),
    "hop": pl.String(),
}

# Who the record is, whatever is later thought of it (design section 3).
IDENTITY: Final[dict[str, pl.DataType]] = {
    "rules_version": pl.UInt32(),
    "stream_epoch": pl.String(),
    "topic": pl.String(),
    "partition": pl.Int32(),
    "offset": pl.Int64(),
    "seq": pl.Int32(),
    "kafka_timestamp": TIMESTAMP,
}

# Field order of the enriched record in the topic, in the events table and in `egresslens parse`.
ENRICHED: Final[tuple[str, ...]] = (
    "event_time",
    "start_time",
    "duration_ms",
    "label",
    "label_evidence",
    "confidence",
    "upstream_cluster",
    "cluster_port",
    "cluster_subset",
    "source_cluster",
    "source_namespace",
    "source_workload",
    "source_pod",
    "source_ip",
    "source_region",
    "source_zone",
    "destination_host",
    "destination_host_source",
    "destination_port",
    "destination_ip",
    "mismatch",
    "hop",
    "protocol",
    "method",
    "path",
    "response_code",
    "response_flags",
    "response_code_details",
    "connection_termination_details",
    "upstream_transport_failure_reason",
    "bytes_sent",
    "bytes_received",
    "upstream_service_time",
    "x_forwarded_for",
    "user_agent",
    "request_id",
    "route_name",
    "requested_server_name",
    "authority",
    "upstream_host",
    "upstream_local_address",
    "downstream_local_address",
    "downstream_remote_address",
    "format",
    "damage",
    *IDENTITY,
)

SCHEMA: Final[dict[str, pl.DataType]] = {name: {**PARSED, **LABELLED, **IDENTITY}[name] for name in ENRICHED}

# One window row per value of this key and per Kafka partition.
WINDOW_KEY: Final[dict[str, pl.DataType]] = {
    "window_start": TIMESTAMP,
    "source_cluster": pl.String(),
    "source_namespace": pl.String(),
    "source_workload": pl.String(),
    "source_ip": pl.String(),
    "label": pl.String(),
    "destination_host": pl.String(),
    "destination_host_source": pl.String(),
    "destination_port": pl.Int32(),
    "protocol": pl.String(),
    "hop": pl.String(),
    "response_code": pl.Int32(),
}

# Upper bounds (inclusive, milliseconds) of the latency buckets; one more bucket holds the rest.
# They are the bounds of Istio's istio_request_duration_milliseconds histogram.
DURATION_BOUNDS_MS: Final[tuple[float, ...]] = (
    0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000,
    300_000, 600_000, 1_800_000, 3_600_000,
)  # fmt: skip

# A window row remembers this many of a key's addresses, the first ones seen.
MAX_DESTINATION_IPS: Final = 16

WINDOW_MEASURES: Final[dict[str, pl.DataType]] = {
    "requests": pl.Int64(),
    "mismatches": pl.Int64(),
    "bytes_sent": pl.Int64(),
    "bytes_received": pl.Int64(),
    "duration_ms_sum": pl.Int64(),
    "duration_ms_max": pl.Int64(),
    "duration_buckets": pl.List(pl.Int64()),
    "destination_ips": pl.List(pl.String()),
    "first_event": TIMESTAMP,
    "last_event": TIMESTAMP,
}

# A window row as a worker writes it: absolute, and true at `last_offset` of its Kafka partition.
WINDOW: Final[dict[str, pl.DataType]] = {
    "stream_epoch": pl.String(),
    "topic": pl.String(),
    "partition": pl.Int32(),
    **WINDOW_KEY,
    **WINDOW_MEASURES,
    "rules_version": pl.UInt32(),
    "last_offset": pl.Int64(),
}

# The value that stands for destinations beyond the cap of a window, workload and Kafka partition.
OTHER: Final = "(other)"
