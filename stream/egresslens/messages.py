"""The messages of the topics, as models: what a program downstream may rely on.

`schemas/topics/*.json` are generated from here (`python -m egresslens.messages schemas/topics`); a test
compares them. The worker writes JSON from frames, and a test holds what it wrote against these models.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from egresslens.record import Hop, HostSource, Label

Time = datetime


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EnrichedRecord(_Message):
    """One access-log record, enriched (topic `egress.enriched`)."""

    event_time: Time = Field(
        description="When the request ended: start_time + duration; the minute it is counted in."
    )
    start_time: Time | None = Field(
        None, description="When the request or connection began, as Envoy logged it."
    )
    duration_ms: int | None = Field(
        None, description="Milliseconds from the first byte in to the last byte out."
    )
    label: Label = Field(description="What became of the traffic: the mesh's decision about the destination.")
    label_evidence: Literal["cluster", "route", "flags", "direction", "none"] = Field(
        description="What decided the label: cluster, route, flags, ztunnel's direction, or nothing."
    )
    confidence: Literal["high", "medium", "low"] = Field(description="How sure the label is.")
    upstream_cluster: str | None = Field(None, description="Envoy's upstream cluster, as logged.")
    cluster_port: int | None = Field(None, description="Port in the cluster's name.")
    cluster_subset: str | None = Field(None, description="Subset in the cluster's name.")
    source_cluster: str | None = Field(None, description="Kubernetes cluster of the caller.")
    source_namespace: str | None = Field(None, description="Namespace of the caller.")
    source_workload: str | None = Field(None, description="Workload of the caller.")
    source_pod: str | None = Field(None, description="Pod of the caller.")
    source_ip: str | None = Field(None, description="Address of the caller (downstream_remote_address).")
    source_region: str | None = Field(None, description="Region of the caller, where the envelope says it.")
    source_zone: str | None = Field(None, description="Zone of the caller, where the envelope says it.")
    destination_host: str | None = Field(None, description="Host or address the traffic was meant for.")
    destination_host_source: HostSource | None = Field(
        None,
        description="Where destination_host was found.",
    )
    destination_port: int | None = Field(None, description="Port the traffic was meant for.")
    destination_ip: str | None = Field(None, description="Address of the endpoint.")
    mismatch: bool = Field(description="Whether the named cluster and the host asked for disagree.")
    hop: Hop = Field(description="Which proxy logged it.")
    protocol: str | None = Field(None, description="HTTP version; absent for TCP.")
    method: str | None = Field(None, description="HTTP method.")
    path: str | None = Field(
        None, description="HTTP path; without its query string unless the operator keeps it."
    )
    response_code: int | None = Field(None, description="HTTP status; 0 where no response began.")
    response_flags: list[str] | None = Field(None, description="Envoy's response flags, in logged order.")
    response_code_details: str | None = Field(None, description="Envoy's details of the response code.")
    connection_termination_details: str | None = Field(
        None, description="Envoy's reason for ending the connection."
    )
    upstream_transport_failure_reason: str | None = Field(None, description="Envoy's TLS or connect error.")
    bytes_sent: int | None = Field(None, description="Bytes to the workload (the response).")
    bytes_received: int | None = Field(None, description="Bytes from the workload (the request): the writes.")
    upstream_service_time: int | None = Field(
        None, description="Milliseconds the upstream took (x-envoy-upstream-service-time)."
    )
    x_forwarded_for: str | None = Field(None, description="X-Forwarded-For as received.")
    user_agent: str | None = Field(None, description="User-Agent as received.")
    request_id: str | None = Field(None, description="X-Request-Id.")
    route_name: str | None = Field(None, description="Envoy's route.")
    requested_server_name: str | None = Field(None, description="SNI of the TLS handshake.")
    authority: str | None = Field(None, description="Host the application asked for, as received.")
    upstream_host: str | None = Field(None, description="Endpoint Envoy chose.")
    upstream_local_address: str | None = Field(
        None, description="Address of Envoy's connection to the endpoint."
    )
    downstream_local_address: str | None = Field(None, description="Address the application connected to.")
    downstream_remote_address: str | None = Field(None, description="Address of the caller, with its port.")
    format: str = Field(description="Layout the line was read as.")
    damage: str | None = Field(
        None, description="What the tolerant reading forgave; absent for a sound line."
    )
    rules_version: int = Field(description="Which rules decided.")
    stream_epoch: str = Field(description="Which creation of the topic it came from.")
    topic: str = Field(description="Kafka topic it came from.")
    partition: int = Field(description="Kafka partition it came from.")
    offset: int = Field(description="Kafka offset it came from.")
    seq: int = Field(description="Which record of that message, from 0.")
    kafka_timestamp: Time = Field(description="Time of the Kafka record.")


class WindowRow(_Message):
    """One 1-minute window row of one Kafka partition, absolute (topic `egress.windows`)."""

    stream_epoch: str = Field(description="Which creation of the topic it came from.")
    topic: str = Field(description="Kafka topic it came from.")
    partition: int = Field(description="Kafka partition it came from.")
    window_start: Time = Field(description="Beginning of the minute.")
    source_cluster: str | None = Field(None, description="Kubernetes cluster of the caller.")
    source_namespace: str | None = Field(None, description="Namespace of the caller.")
    source_workload: str | None = Field(None, description="Workload of the caller.")
    source_ip: str | None = Field(None, description="Address of the caller (downstream_remote_address).")
    label: Label = Field(description="What became of the traffic: the mesh's decision about the destination.")
    destination_host: str | None = Field(None, description="Host or address the traffic was meant for.")
    destination_host_source: HostSource | None = Field(
        None,
        description="Where destination_host was found.",
    )
    destination_port: int | None = Field(None, description="Port the traffic was meant for.")
    protocol: str | None = Field(None, description="HTTP version; absent for TCP.")
    hop: Hop = Field(description="Which proxy logged it.")
    response_code: int | None = Field(None, description="HTTP status; 0 where no response began.")
    requests: int = Field(description="Requests and connections that ended in the window.")
    mismatches: int = Field(description="How many of them asked for another host than the cluster names.")
    bytes_sent: int = Field(description="Bytes to the workload (the response).")
    bytes_received: int = Field(description="Bytes from the workload (the request): the writes.")
    duration_ms_sum: int = Field(description="Sum of durations, milliseconds.")
    duration_ms_max: int = Field(description="Longest duration, milliseconds.")
    duration_buckets: list[int] = Field(
        description="Requests per latency bucket: bounds of record.DURATION_BOUNDS_MS, then the rest."
    )
    destination_ips: list[str] = Field(description="The first endpoint addresses seen.")
    first_event: Time = Field(description="Earliest event time in the window.")
    last_event: Time = Field(description="Latest event time in the window.")
    rules_version: int = Field(description="Which rules decided.")
    last_offset: int = Field(
        description="Last offset that is counted; of two rows of one key the higher is newer."
    )


class AlertMessage(_Message):
    """One change of an incident's state (topic `egress.alerts`; the webhook gets the same)."""

    id: str = Field(
        description="Of the incident: the same for firing and resolved, however often it is sent."
    )
    rule: str = Field(description="The rule that found it.")
    kind: Literal["blackhole", "new_destination", "residency", "mismatch", "volume", "storm", "test"] = Field(
        description="What kind of rule that is."
    )
    severity: Literal["info", "warning", "critical"] = Field(description="How bad it is, as the rule says.")
    state: Literal["firing", "resolved"] = Field(description="Whether it goes on or is over.")
    summary: str = Field(description="One sentence for people; names in it are printable.")
    source_cluster: str | None = Field(None, description="Kubernetes cluster of the caller.")
    source_namespace: str | None = Field(None, description="Namespace of the caller.")
    source_workload: str | None = Field(None, description="Workload of the caller.")
    source_ip: str | None = Field(None, description="Address of the caller, where no workload is known.")
    destination_host: str | None = Field(None, description="Host or address the traffic was meant for.")
    destination_port: int | None = Field(None, description="Port the traffic was meant for.")
    first_seen: Time = Field(description="Time of the first event.")
    last_seen: Time = Field(description="Time of the last event so far.")
    count: int = Field(description="Events so far: attempts, requests, mismatches, or bytes for a volume.")
    details: dict[str, str] = Field(description="What else is known, by name.")


TOPICS: Final[dict[str, type[BaseModel]]] = {
    "egress.alerts": AlertMessage,
    "egress.enriched": EnrichedRecord,
    "egress.windows": WindowRow,
}


def json_schema(model: type[BaseModel]) -> bytes:
    """The model's JSON Schema, as the file holds it."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def write(folder: Path) -> None:
    """Write one JSON Schema per topic."""
    for topic, model in TOPICS.items():
        (folder / f"{topic}.json").write_bytes(json_schema(model))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
