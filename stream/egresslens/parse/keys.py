"""The keys of JSON access logs: which field is found under which.

Sources: Istio's default JSON format (`EnvoyJSONLogFormatIstio`), Envoy Gateway's default, Ambassador, and
what operators call the fields in formats of their own (reference: B and C).
"""

from __future__ import annotations

from typing import Final

# Field -> the keys it is found under, in order of preference. The first is Istio's own (its default JSON
# format, `EnvoyJSONLogFormatIstio`); the others are Envoy Gateway's, Ambassador's and operators' spellings.
FIELD_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "start_time": ("start_time", "start-time", "timestamp", "startTime"),
    "route_name": ("route_name",),
    "method": ("method", ":method", "x-envoy-method", "request_method"),
    "path": ("path", "x-envoy-origin-path", "x_envoy_original_path", ":path", "request_path"),
    "protocol": ("protocol",),
    "response_code": ("response_code", "status", "response-code", "responseCode"),
    "response_flags": ("response_flags", "response-flags"),
    "response_code_details": ("response_code_details",),
    "connection_termination_details": ("connection_termination_details",),
    "upstream_transport_failure_reason": ("upstream_transport_failure_reason",),
    "bytes_received": ("bytes_received", "byte_received", "bytes-received"),
    "bytes_sent": ("bytes_sent", "byte_sent", "bytes-sent"),
    "duration": ("duration", "duration_ms"),
    "upstream_service_time": (
        "upstream_service_time",
        "x_envoy_upstream_service_time",
        "x-envoy-upstream-service-time",
    ),
    "x_forwarded_for": ("x_forwarded_for", "x-forwarded-for", "client_ip"),
    "user_agent": ("user_agent", "user-agent"),
    "request_id": ("request_id", "x_request_id", "x-request-id"),
    "authority": ("authority", ":authority", "host"),
    "upstream_host": ("upstream_host",),
    "upstream_cluster": ("upstream_cluster", "upstream_service"),
    "upstream_local_address": ("upstream_local_address",),
    "downstream_local_address": ("downstream_local_address",),
    "downstream_remote_address": ("downstream_remote_address", "downstream"),
    "requested_server_name": ("requested_server_name",),
}
ISTIO_KEYS: Final[tuple[str, ...]] = tuple(keys[0] for keys in FIELD_KEYS.values())

# Fields that only an Envoy access log has: without any, an object is none.
MARKERS: Final[tuple[str, ...]] = tuple(
    key
    for field in (
        "response_flags",
        "response_code_details",
        "connection_termination_details",
        "upstream_transport_failure_reason",
        "upstream_cluster",
        "upstream_host",
        "upstream_local_address",
        "downstream_local_address",
        "downstream_remote_address",
        "requested_server_name",
        "route_name",
    )
    for key in FIELD_KEYS[field]
)
# And with fewer fields than this in all, it is none either.
FEWEST: Final = 3

# What label, host and code come from. No proxy writes one of these twice.
TELLING: Final[tuple[str, ...]] = ("upstream_cluster", "authority", "route_name", "response_code")
