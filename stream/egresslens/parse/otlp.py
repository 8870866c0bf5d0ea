"""OpenTelemetry logs: what a message of the collector, or of Istio's access-log provider, holds.

One message carries many log records of several resources, as protobuf (`otlp_proto`) or JSON (`otlp_json`).
The body is the line; Istio's provider puts its labels into the record's attributes, which are the record
where the body is none. Resource attributes tell the source (opentelemetry-proto, `ExportLogsServiceRequest`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs

from egresslens.outcome import Filtered, Reject
from egresslens.parse import source
from egresslens.parse.jsontext import encoded
from egresslens.parse.source import Source


class Part(NamedTuple):
    """One record inside a message: its line, or why there is none (`reason`, and the `field` to blame)."""

    text: str | None
    time_ms: int | None = None
    source: Source = source.UNKNOWN
    reason: str | None = None
    field: str | None = None


_NO_RECORD: Final = Part(None, reason=Reject.BAD_ENVELOPE.value, field="logRecords")


def line(text: str, time_ms: int | None, sender: Source) -> Part:
    """A part whose line is `text`, filtered where another container wrote it."""
    if sender.container not in (None, source.PROXY_CONTAINER):
        return Part(None, time_ms, sender, Filtered.OTHER_CONTAINER.value)
    text = text.strip()
    return Part(text, time_ms, sender) if text else Part(None, time_ms, sender, Reject.EMPTY.value)


# --- protobuf -----------------------------------------------------------------------------------------------

# Control characters other than white space and escape: they are in every OTLP message (a field's tag is one),
# and in no line of text.
_BINARY: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_TEXT: Final = re.compile(rb"\s*(?:\[?\d{4}-\d\d-\d\d|[\[{]\s*[\"{\[]|\")")
# `instrumentation_library_logs`, of collectors before 0.60: the same message as `scope_logs` by its bytes.
_LIBRARY_LOGS: Final = 1000
_LENGTH_DELIMITED: Final = 2


def looks_binary(value: bytes) -> bool:
    r"""Whether a message that begins with a newline (0x0a, the first field's tag) is OTLP, not text."""
    return _BINARY.search(value) is not None or value[1:2] > b"\x7f"


def from_bytes(value: bytes) -> list[Part] | None:
    """Read OTLP protobuf; None if it is no OTLP but text. Bytes that are neither are one rejected part."""
    try:
        request = ExportLogsServiceRequest.FromString(value)
        parts = [part for resource_logs in request.resource_logs for part in _of_resource(resource_logs)]
    except (DecodeError, ValueError):  # ValueError: text fields that are no UTF-8
        parts = [Part(None, reason=Reject.INVALID_PROTOBUF.value)]
    if (not parts or parts[0].reason == Reject.INVALID_PROTOBUF.value) and _TEXT.match(value):
        return None
    return parts or [_NO_RECORD]


def _of_resource(resource_logs: Any) -> Iterator[Part]:
    resource = _attributes(resource_logs.resource.attributes)
    sender = source.from_attributes(resource)
    scopes = [*resource_logs.scope_logs, *_library_logs(resource_logs)]
    for scope in scopes:
        for record in scope.log_records:
            attributes = _attributes(record.attributes) if record.attributes else {}
            nanos = record.time_unix_nano or record.observed_time_unix_nano
            body = record.body.string_value or _value(record.body)
            yield _part(body, nanos // 1_000_000 or None, attributes, sender)


def _library_logs(resource_logs: Any) -> list[Any]:
    return [
        ScopeLogs.FromString(field.data)
        for field in UnknownFieldSet(resource_logs)
        if field.field_number == _LIBRARY_LOGS and field.wire_type == _LENGTH_DELIMITED
    ]


def _attributes(pairs: Any) -> dict[str, object]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(any_value: Any) -> object:
    kind = any_value.WhichOneof("value")
    if kind is None:
        return None
    value = getattr(any_value, kind)
    if kind == "kvlist_value":
        return _attributes(value.values)
    if kind == "array_value":
        return [_value(item) for item in value.values]
    if kind == "bytes_value":
        return value.decode("utf-8", "replace")
    return value


# --- JSON ---------------------------------------------------------------------------------------------------


def from_json(found: Mapping[str, Any]) -> list[Part]:
    """Read an `otlp_json` message; what is of the wrong type counts as absent."""
    parts: list[Part] = []
    for resource_logs in _dicts(found.get("resourceLogs")):
        resource = resource_logs.get("resource")
        attributes = resource.get("attributes") if isinstance(resource, dict) else None
        sender = source.from_attributes(_json_attributes(attributes))
        for key in ("scopeLogs", "instrumentationLibraryLogs"):
            for scope in _dicts(resource_logs.get(key)):
                records = scope.get("logRecords", scope.get("logs"))
                if isinstance(records, list):
                    parts.extend(_of_json_record(record, sender) for record in records)
    return parts or [_NO_RECORD]


def _of_json_record(record: object, sender: Source) -> Part:
    if not isinstance(record, dict):
        return _NO_RECORD
    body = record.get("body")
    time_ms = nanos_ms(record.get("timeUnixNano")) or nanos_ms(record.get("observedTimeUnixNano"))
    attributes = _json_attributes(record.get("attributes"))
    return _part(_json_value(body) if isinstance(body, dict) else body, time_ms, attributes, sender)


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _json_attributes(pairs: object) -> dict[str, object]:
    return {
        pair["key"]: _json_value(pair.get("value"))
        for pair in _dicts(pairs)
        if isinstance(pair.get("key"), str)
    }


def _json_value(any_value: object) -> object:
    if not isinstance(any_value, dict):
        return None
    for kind, value in any_value.items():
        if kind == "kvlistValue":
            return _json_attributes(value.get("values") if isinstance(value, dict) else None)
        if kind == "arrayValue":
            items = value.get("values") if isinstance(value, dict) else None
            return [_json_value(item) for item in items] if isinstance(items, list) else []
        if kind == "bytesValue":
            return _from_base64(value)
        if kind in ("stringValue", "intValue", "doubleValue", "boolValue"):
            return value
    return None


def _from_base64(value: object) -> str | None:
    try:
        return base64.b64decode(value, validate=True).decode("utf-8", "replace")  # type: ignore[arg-type]
    except (binascii.Error, TypeError, ValueError):
        return None


def nanos_ms(value: object) -> int | None:
    """Epoch nanoseconds, a number or its text (JSON holds no 64-bit integers), as milliseconds."""
    if isinstance(value, str) and len(value) <= 19 and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**63:
        return None
    return value // 1_000_000


# --- records ------------------------------------------------------------------------------------------------

# Names that tell a record's own fields from a shipper's remarks.
RECORD_KEYS: Final[frozenset[str]] = frozenset(
    (
        "start_time",
        "upstream_cluster",
        "response_code",
        "response_flags",
        "upstream_host",
        "downstream_local_address",
        "downstream_remote_address",
    )
)
# A line of one of the default formats, or JSON, behind whatever a container runtime put before it.
_LINE: Final = re.compile(r"^\{|\[\d{4}-\d\d-\d\dT|\"[A-Z-]+ \S+ ")

# Attributes of a single record that tell its source.
_TELLING: Final[frozenset[str]] = frozenset(
    ("log.file.path", "node_name", *(key for keys in source.FLAT_KEYS.values() for key in keys))
)


def _part(body: object, time_ms: int | None, attributes: Mapping[str, object], sender: Source) -> Part:
    telling = tuple(
        (key, value)
        for key, value in attributes.items()
        if isinstance(value, str) and len(value) <= 1024 and (key in _TELLING or key.startswith("k8s."))
    )
    if telling:
        sender = sender.over(_from_record(telling))
    text = _text(body)
    if attributes and not RECORD_KEYS.isdisjoint(attributes) and not _LINE.search(text[:8192]):
        # Istio's provider with labels: the attributes are the record, the body is for people.
        text = _text(attributes)
    if body is None and not text:
        return Part(None, time_ms, sender, Reject.BAD_ENVELOPE.value, "body")
    return line(text, time_ms, sender)


@lru_cache(source.CACHED_TEXTS)
def _from_record(telling: tuple[tuple[str, str], ...]) -> Source:
    attributes = dict(telling)
    return source.from_attributes(attributes).over(source.from_flat(attributes))


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | Sequence):
        return (encoded(value) or b"").decode()
    return "" if value is None else str(value)
