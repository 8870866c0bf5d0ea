"""Access-log formats the demo's and the golden files' Envoys write.

ISTIO_TEXT and ISTIO_JSON are Istio's defaults since 1.23.4 and 1.24.2 (pilot/pkg/model/telemetry_logging.go);
ENVOY_TEXT is Envoy's own default. A text is a format string, a dict a JSON template.
"""

from __future__ import annotations

from typing import Final

Format = str | dict[str, str]

ISTIO_TEXT: Final = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% '
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% '
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)

ISTIO_JSON: Final[dict[str, str]] = {
    "start_time": "%START_TIME%",
    "route_name": "%ROUTE_NAME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
}

ENVOY_TEXT: Final = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% '
    "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "
    '"%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" '
    '"%UPSTREAM_HOST%"\n'
)

# A format such as an operator writes: epoch time, a cut header, names before values, and
# %UPSTREAM_CLUSTER%, which prints Istio's alt_stat_name with its trailing `;`.
CUSTOM_TEXT: Final = (
    "ts=%START_TIME(%s.%3f)% dur=%DURATION% code=%RESPONSE_CODE% flags=%RESPONSE_FLAGS% "
    "cluster=%UPSTREAM_CLUSTER_RAW% stat=%UPSTREAM_CLUSTER% host=%UPSTREAM_HOST% "
    "dst=%DOWNSTREAM_LOCAL_ADDRESS% src=%DOWNSTREAM_REMOTE_ADDRESS% rx=%BYTES_RECEIVED% tx=%BYTES_SENT% "
    "method=%REQ(:METHOD)% proto=%PROTOCOL% authority=%REQ(X-EGRESS-HOST?:AUTHORITY)% "
    'sni=%REQUESTED_SERVER_NAME% route=%ROUTE_NAME% path="%REQ(X-ENVOY-ORIGINAL-PATH?:PATH):12%"\n'
)
