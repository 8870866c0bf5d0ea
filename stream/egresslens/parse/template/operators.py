"""The catalogue of Envoy's command operators: what each one's text looks like, and which field it is.

Names and values: Envoy 1.40's substitution_formatter documentation. An operator that is not listed here is
newer than this catalogue: it is read as one word and belongs to no field.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple

import orjson

from egresslens.parse.template.grammar import Operator
from egresslens.parse.template.strftime import Time


class Kind(Enum):
    """What the text of an operator may be; `-` and the empty text (omit_empty_values) are always possible."""

    INT = "a whole number"
    FLAGS = "a comma list of names"
    PROTOCOL = "HTTP/1.1 and the like"
    TIME = "a time; its strftime says more"
    WORD = "text that never holds spaces or quotes"
    CLUSTER = "a cluster's name, which may hold pipes"
    PATH = "a request's path: no spaces, but the client's quotes"
    TEXT = "text of the proxy's own, as a rule without quotes"
    HEADER = "whatever a client or an application put there"
    PROSE = "the same, where spaces are usual"


class Meaning(NamedTuple):
    """What an operator is.

    target: the field its value is (TEXT_FIELDS, or one of fields.py's intermediate names), or None.
    rank: of several operators with one target, the lowest rank's value that is present counts.
    """

    kind: Kind
    target: str | None = None
    rank: int = 0


_INTS: Final = (
    "BYTES_RETRANSMITTED", "PACKETS_RETRANSMITTED", "REQUEST_DURATION", "REQUEST_TX_DURATION",
    "RESPONSE_DURATION", "RESPONSE_TX_DURATION", "ROUNDTRIP_DURATION", "DOWNSTREAM_HANDSHAKE_DURATION",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION", "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "REQUEST_HEADERS_BYTES", "REQUEST_TRAILERS_BYTES", "RESPONSE_HEADERS_BYTES", "RESPONSE_TRAILERS_BYTES",
    *(f"{side}_{kind}_BYTES_{way}" for side in ("UPSTREAM", "DOWNSTREAM")
      for kind in ("WIRE", "HEADER", "DECOMPRESSED_HEADER") for way in ("SENT", "RECEIVED")),
    "UPSTREAM_LOCAL_PORT", "DOWNSTREAM_DIRECT_LOCAL_PORT", "CONNECTION_ID", "UPSTREAM_CONNECTION_ID",
    "GRPC_STATUS_NUMBER",
)  # fmt: skip
_WORDS: Final = (
    "UPSTREAM_PROTOCOL", "VIRTUAL_CLUSTER_NAME", "UPSTREAM_HOSTS_ATTEMPTED",
    "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT", "UPSTREAM_HOST_NAMES_ATTEMPTED",
    "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT", "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS", "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID", "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID", "GRPC_STATUS", "ACCESS_LOG_TYPE", "UNIQUE_ID", "TRACE_ID",
    "SPAN_ID", "CUSTOM_FLAGS", "DOWNSTREAM_TLS_VERSION", "DOWNSTREAM_TLS_CIPHER", "DOWNSTREAM_TLS_GROUP",
    "DOWNSTREAM_TLS_SESSION_ID", "UPSTREAM_TLS_VERSION", "UPSTREAM_TLS_CIPHER", "UPSTREAM_TLS_GROUP",
    "UPSTREAM_TLS_SESSION_ID", "UPSTREAM_SERVER_NAME", "UPSTREAM_DETECTED_CLOSE_TYPE",
    "DOWNSTREAM_DETECTED_CLOSE_TYPE", "TLS_JA3_FINGERPRINT", "TLS_JA4_FINGERPRINT",
    "DOWNSTREAM_PEER_SERIAL", "DOWNSTREAM_PEER_CHAIN_SERIALS", "DOWNSTREAM_PEER_ISSUER_SERIAL",
    "DOWNSTREAM_PEER_FINGERPRINT_1", "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1", "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256",
    "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256", "DOWNSTREAM_PEER_CERT", "UPSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_IP_SAN", "DOWNSTREAM_LOCAL_IP_SAN", "UPSTREAM_PEER_IP_SAN", "UPSTREAM_LOCAL_IP_SAN",
)  # fmt: skip
_TEXTS: Final = (
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON", "UPSTREAM_LOCAL_CLOSE_REASON", "DOWNSTREAM_LOCAL_CLOSE_REASON",
    "FILTER_CHAIN_NAME", "LISTENER_NAME",
)  # fmt: skip
_PROSE: Final = (
    "LOCAL_REPLY_BODY", "FILE_CONTENT", "SECRET", "DYNAMIC_METADATA", "CLUSTER_METADATA",
    "UPSTREAM_METADATA", "METADATA", "UPSTREAM_FILTER_STATE",
    *(f"{side}_{whose}_{what}" for side in ("UPSTREAM", "DOWNSTREAM") for whose in ("PEER", "LOCAL")
      for what in ("SUBJECT", "ISSUER", "DNS_SAN", "EMAIL_SAN", "OTHERNAME_SAN")),
)  # fmt: skip
_HEADERS: Final = (
    "RESPONSE_TRAILER", "TRAILER", "REQUEST_TRAILER", "QUERY_PARAM", "QUERY_PARAMS",
)  # fmt: skip
_CERTIFICATE_TIMES: Final = tuple(
    f"{side}_PEER_CERT_V_{end}" for side in ("UPSTREAM", "DOWNSTREAM") for end in ("START", "END")
)

# Operators whose arguments do not change what they are.
_PLAIN: Final[dict[str, Meaning]] = {
    **{name: Meaning(Kind.INT) for name in _INTS},
    **{name: Meaning(Kind.WORD) for name in _WORDS},
    **{name: Meaning(Kind.TEXT) for name in _TEXTS},
    **{name: Meaning(Kind.PROSE) for name in _PROSE},
    **{name: Meaning(Kind.HEADER) for name in _HEADERS},
    **{name: Meaning(Kind.TIME) for name in _CERTIFICATE_TIMES},
    "START_TIME": Meaning(Kind.TIME, "start_time"),
    "START_TIME_LOCAL": Meaning(Kind.TIME, "start_time", 1),
    # The record is emitted when the request has ended: fields.py takes the duration off.
    "EMIT_TIME": Meaning(Kind.TIME, "emit_time"),
    "EMIT_TIME_LOCAL": Meaning(Kind.TIME, "emit_time", 1),
    "PROTOCOL": Meaning(Kind.PROTOCOL, "protocol"),
    "RESPONSE_CODE": Meaning(Kind.INT, "response_code"),
    "RESPONSE_FLAGS": Meaning(Kind.FLAGS, "response_flags"),
    "RESPONSE_FLAGS_LONG": Meaning(Kind.FLAGS, "response_flags_long"),
    "RESPONSE_CODE_DETAILS": Meaning(Kind.TEXT, "response_code_details"),
    "CONNECTION_TERMINATION_DETAILS": Meaning(Kind.TEXT, "connection_termination_details"),
    "UPSTREAM_TRANSPORT_FAILURE_REASON": Meaning(Kind.TEXT, "upstream_transport_failure_reason"),
    "BYTES_RECEIVED": Meaning(Kind.INT, "bytes_received"),
    "BYTES_SENT": Meaning(Kind.INT, "bytes_sent"),
    "DURATION": Meaning(Kind.INT, "duration"),
    "UPSTREAM_CLUSTER_RAW": Meaning(Kind.CLUSTER, "upstream_cluster"),
    "UPSTREAM_CLUSTER": Meaning(Kind.CLUSTER, "upstream_cluster", 1),
    "UPSTREAM_HOST": Meaning(Kind.WORD, "upstream_host"),
    "UPSTREAM_REMOTE_ADDRESS": Meaning(Kind.WORD, "upstream_host", 1),
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": Meaning(Kind.WORD, "upstream_host:ip"),
    "UPSTREAM_REMOTE_PORT": Meaning(Kind.INT, "upstream_host:port"),
    "UPSTREAM_HOST_NAME": Meaning(Kind.WORD, "upstream_host_name"),
    "UPSTREAM_HOST_NAME_WITHOUT_PORT": Meaning(Kind.WORD, "upstream_host_name", 1),
    "UPSTREAM_LOCAL_ADDRESS": Meaning(Kind.WORD, "upstream_local_address"),
    "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": Meaning(Kind.WORD, "upstream_local_address", 1),
    "DOWNSTREAM_LOCAL_ADDRESS": Meaning(Kind.WORD, "downstream_local_address"),
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": Meaning(Kind.WORD, "downstream_local_address:ip"),
    "DOWNSTREAM_LOCAL_PORT": Meaning(Kind.INT, "downstream_local_address:port"),
    "DOWNSTREAM_REMOTE_ADDRESS": Meaning(Kind.WORD, "downstream_remote_address"),
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": Meaning(Kind.WORD, "downstream_remote_address", 1),
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": Meaning(Kind.WORD, "downstream_remote_address:ip"),
    "DOWNSTREAM_REMOTE_PORT": Meaning(Kind.INT, "downstream_remote_address:port"),
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": Meaning(Kind.WORD, "downstream_remote_address:ip", 1),
    "DOWNSTREAM_DIRECT_REMOTE_PORT": Meaning(Kind.INT, "downstream_remote_address:port", 1),
    "ROUTE_NAME": Meaning(Kind.TEXT, "route_name"),
    "STREAM_ID": Meaning(Kind.TEXT, "request_id", 1),
    "HOSTNAME": Meaning(Kind.WORD, "local:pod", 1),
    "UPSTREAM_LOCAL_URI_SAN": Meaning(Kind.TEXT, "local:spiffe"),
    "DOWNSTREAM_LOCAL_URI_SAN": Meaning(Kind.TEXT, "local:spiffe", 1),
    "DOWNSTREAM_PEER_URI_SAN": Meaning(Kind.TEXT, "peer:spiffe"),
    "UPSTREAM_PEER_URI_SAN": Meaning(Kind.TEXT),
    "PATH": Meaning(Kind.PATH, "path"),
}  # fmt: skip

# Request headers with a field of their own. HTTP/2 and Envoy's checks keep spaces and quotes out of the
# pseudo headers; everything else is the client's.
_REQUEST: Final[dict[str, Meaning]] = {
    ":method": Meaning(Kind.WORD, "method"),
    ":path": Meaning(Kind.PATH, "path", 1),
    "x-envoy-original-path": Meaning(Kind.PATH, "path"),
    ":authority": Meaning(Kind.WORD, "authority"),
    "host": Meaning(Kind.WORD, "authority", 1),
    "x-envoy-original-host": Meaning(Kind.HEADER, "authority", 2),
    ":scheme": Meaning(Kind.WORD),
    ":protocol": Meaning(Kind.WORD),
    "x-request-id": Meaning(Kind.TEXT, "request_id"),
    "x-forwarded-for": Meaning(Kind.TEXT, "x_forwarded_for"),
    "x-forwarded-proto": Meaning(Kind.TEXT),
    "user-agent": Meaning(Kind.PROSE, "user_agent"),
}
_RESPONSE: Final[dict[str, Meaning]] = {
    ":status": Meaning(Kind.INT, "response_code", 1),
    "x-envoy-upstream-service-time": Meaning(Kind.INT, "upstream_service_time"),
}
_LOOSER: Final = (Kind.INT, Kind.WORD, Kind.PATH, Kind.TEXT, Kind.HEADER, Kind.PROSE)

# Environment variables that Istio's injector sets in istio-proxy (the local workload's).
_ENVIRONMENT: Final[dict[str, tuple[str, int]]] = {
    "POD_NAME": ("local:pod", 0),
    "HOSTNAME": ("local:pod", 1),
    "POD_NAMESPACE": ("local:namespace", 0),
    "CANONICAL_SERVICE": ("local:workload", 0),
    "ISTIO_META_WORKLOAD_NAME": ("local:workload", 1),
    "ISTIO_META_CLUSTER_ID": ("local:cluster", 0),
}
_PEER_FIELDS: Final[dict[str, tuple[str, int]]] = {
    "canonical_name": ("workload", 0), "service": ("workload", 0), "workload": ("workload", 1),
    "app": ("workload", 2), "namespace": ("namespace", 0), "cluster": ("cluster", 0),
    "name": ("pod", 0), "region": ("region", 0), "zone": ("zone", 0),
}  # fmt: skip
# Attributes of CEL expressions, written with dots (see `_attribute`).
_ATTRIBUTES: Final[dict[str, Meaning]] = {
    "request.host": Meaning(Kind.WORD, "authority", 1),
    "request.path": Meaning(Kind.PATH, "path", 1),
    "request.url_path": Meaning(Kind.PATH, "path", 2),
    "request.method": Meaning(Kind.WORD, "method", 1),
    "request.id": Meaning(Kind.TEXT, "request_id", 1),
    "request.useragent": Meaning(Kind.PROSE, "user_agent", 1),
    "request.protocol": Meaning(Kind.WORD, "protocol", 1),
    "response.code": Meaning(Kind.INT, "response_code", 1),
    "response.code_details": Meaning(Kind.PROSE, "response_code_details", 1),
    "source.address": Meaning(Kind.WORD, "downstream_remote_address", 2),
    "destination.address": Meaning(Kind.WORD, "downstream_local_address", 2),
    "connection.requested_server_name": Meaning(Kind.WORD, "requested_server_name", 1),
    "connection.uri_san_local_certificate": Meaning(Kind.TEXT, "local:spiffe", 2),
    "connection.uri_san_peer_certificate": Meaning(Kind.TEXT, "peer:spiffe", 1),
    "upstream.uri_san_local_certificate": Meaning(Kind.TEXT, "local:spiffe", 2),
    "upstream.address": Meaning(Kind.WORD, "upstream_host", 2),
    "upstream.local_address": Meaning(Kind.WORD, "upstream_local_address", 2),
    "upstream.transport_failure_reason": Meaning(Kind.PROSE, "upstream_transport_failure_reason", 1),
    "xds.cluster_name": Meaning(Kind.CLUSTER, "upstream_cluster", 2),
    "xds.route_name": Meaning(Kind.TEXT, "route_name", 1),
    "xds.node.metadata.WORKLOAD_NAME": Meaning(Kind.WORD, "local:workload", 1),
    "xds.node.metadata.LABELS.service.istio.io/canonical-name": Meaning(Kind.WORD, "local:workload", 0),
    "xds.node.metadata.LABELS.app.kubernetes.io/name": Meaning(Kind.WORD, "local:workload", 2),
    "xds.node.metadata.LABELS.app": Meaning(Kind.WORD, "local:workload", 3),
    "xds.node.metadata.NAMESPACE": Meaning(Kind.WORD, "local:namespace", 0),
    "xds.node.metadata.NAME": Meaning(Kind.WORD, "local:pod", 0),
    "xds.node.metadata.CLUSTER_ID": Meaning(Kind.WORD, "local:cluster", 0),
    "xds.node.id": Meaning(Kind.WORD, "local:node", 0),
    "xds.node.locality.region": Meaning(Kind.WORD, "local:region", 0),
    "xds.node.locality.zone": Meaning(Kind.WORD, "local:zone", 0),
    **{
        f"filter_state.downstream_peer.{field}": Meaning(Kind.WORD, f"peer:{name}", rank)
        for field, (name, rank) in _PEER_FIELDS.items()
    },
}
_REQUEST_NAMES: Final = ("REQ", "REQUEST_HEADER", "REQ_WITHOUT_QUERY")
_RESPONSE_NAMES: Final = ("RESP", "RESPONSE_HEADER")

# Operators that print something whatever the record, even with `omit_empty_values`.
ALWAYS: Final = frozenset(
    {"START_TIME", "START_TIME_LOCAL", "EMIT_TIME", "EMIT_TIME_LOCAL", "RESPONSE_CODE", "RESPONSE_FLAGS",
     "RESPONSE_FLAGS_LONG", "BYTES_RECEIVED", "BYTES_SENT"}
)  # fmt: skip

# Operators that Envoy refuses without arguments.
NEEDS_ARGS: Final = frozenset(
    {
        *_REQUEST_NAMES, *_RESPONSE_NAMES, "TRAILER", "RESPONSE_TRAILER", "REQUEST_TRAILER", "ENVIRONMENT",
        "FILTER_STATE", "UPSTREAM_FILTER_STATE", "DYNAMIC_METADATA", "CLUSTER_METADATA", "UPSTREAM_METADATA",
        "METADATA", "CEL", "TYPED_CEL", "COMMON_DURATION", "COALESCE", "QUERY_PARAM",
    }
)  # fmt: skip


def meaning(operator: Operator) -> Meaning:
    """What an operator is, its arguments read."""
    name, args = operator.name, operator.args or ""
    reader = _READERS.get(name)
    return reader(args) if reader else _plain(operator, args)


def _plain(operator: Operator, args: str) -> Meaning:
    known = _PLAIN.get(operator.name, Meaning(Kind.WORD))
    if known.kind is Kind.TIME and not Time.of(operator).readable:
        # A time of day alone says nothing of when it was.
        return Meaning(Kind.TIME)
    if args and operator.name.endswith("_WITHOUT_PORT"):
        # With a mask it is a network such as 10.1.0.0/16, not an address.
        return Meaning(Kind.WORD)
    return known._replace(kind=Kind.PROSE) if args == "ALLOW_WHITESPACES" else known


def _request(args: str) -> Meaning:
    return _header(args, _REQUEST)


def _response(args: str) -> Meaning:
    return _header(args, _RESPONSE)


def _header(args: str, fields: dict[str, Meaning]) -> Meaning:
    """`X?Y`: the field of the first header that has one, and the looser look of the two."""
    found = [fields.get(header.strip().lower(), Meaning(Kind.HEADER)) for header in args.split("?", 1)]
    kind = max((one.kind for one in found), key=_LOOSER.index)
    named = next((one for one in found if one.target), found[0])
    return named._replace(kind=kind)


def _environment(args: str) -> Meaning:
    target, rank = _ENVIRONMENT.get(args, (None, 0))
    return Meaning(Kind.WORD if target else Kind.TEXT, target, rank)


def _filter_state(args: str) -> Meaning:
    """`downstream_peer:FIELD:workload` is one word of the caller's identity; other states are opaque."""
    key, _, form = args.partition(":")
    if key in ("downstream_peer", "wasm.downstream_peer") and form.startswith("FIELD:"):
        target, rank = _PEER_FIELDS.get(form.removeprefix("FIELD:"), (None, 0))
        return Meaning(Kind.WORD, target and f"peer:{target}", rank)
    return Meaning(Kind.PROSE)


def _cel(args: str) -> Meaning:
    attribute = _attribute(args)
    if attribute.startswith("request.headers."):
        return _header(attribute.removeprefix("request.headers."), _REQUEST)
    return _ATTRIBUTES.get(attribute, Meaning(Kind.PROSE))


def _attribute(expression: str) -> str:
    """`a['b']["c"].d` as `a.b.c.d`; any other expression as it is."""
    return re.sub(r"""\[\s*(['"])(.*?)\1\s*\]""", r".\2", expression.strip())


def _server_name(args: str) -> Meaning:
    """`SNI_ONLY`, `SNI_FIRST` or `HOST_FIRST`, and which of the Host headers."""
    if args.split(":", 1)[0] == "HOST_FIRST":
        return Meaning(Kind.WORD, "authority", 1)
    return Meaning(Kind.WORD, "requested_server_name")


_TO_MS: Final = {"ms": "duration:ms", "us": "duration:us", "ns": "duration:ns"}


def _common_duration(args: str) -> Meaning:
    """From the first byte in to the last byte out is what %DURATION% says."""
    begin, _, rest = args.partition(":")
    end, _, unit = rest.partition(":")
    whole = (begin, end) in (("DS_RX_BEG", "DS_TX_END"), ("DS_CX_BEG", "DS_CX_END"))
    return Meaning(Kind.INT, _TO_MS.get(unit) if whole else None)


def _coalesce(args: str) -> Meaning:
    """`{"operators": [...]}`: the field of the first operator that has one, the looser look of all."""
    try:
        listed = orjson.loads(args)["operators"]
        found = [
            meaning(
                Operator(one, None) if isinstance(one, str) else Operator(one["command"], one.get("param"))
            )
            for one in listed
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return Meaning(Kind.PROSE)
    named = next((one for one in found if one.target), Meaning(Kind.PROSE))
    loose = [one.kind for one in found if one.kind in _LOOSER]
    return named._replace(kind=max(loose, key=_LOOSER.index) if len(loose) == len(found) > 0 else Kind.PROSE)


_READERS: Final = {
    **dict.fromkeys(_REQUEST_NAMES, _request),
    **dict.fromkeys(_RESPONSE_NAMES, _response),
    "ENVIRONMENT": _environment,
    "FILTER_STATE": _filter_state,
    "CEL": _cel,
    "TYPED_CEL": _cel,
    "REQUESTED_SERVER_NAME": _server_name,
    "COMMON_DURATION": _common_duration,
    "COALESCE": _coalesce,
}
