"""What can become of a message besides records: the closed sets of reasons.

Every Kafka message ends as at least one record, as filtered, or as rejected; each filtered or rejected part
carries one of these reasons, so that metric labels stay bounded and `egresslens dlq` can group by them.
"""

from __future__ import annotations

from enum import Enum


class Reject(str, Enum):
    """Why a message, or one record in it, could not be read. It goes to the dead-letter topic."""

    EMPTY = "empty"
    """A null or blank message (a tombstone of a compacted topic, an empty line)."""
    TOO_LARGE = "too_large"
    """Longer than `max_message_bytes`, or more records in one message than `max_records_per_message`."""
    INVALID_JSON = "invalid_json"
    """It starts like JSON and is not."""
    LONE_SURROGATE = "lone_surrogate"
    """A JSON escape such as `\\ud800` without its pair: no text, and parsers disagree about it."""
    UNKNOWN_FORMAT = "unknown_format"
    """No layout that is active fits the line."""
    BAD_VALUE = "bad_value"
    """A field that must be a number or a time is neither; `field` names it."""
    BAD_ENVELOPE = "bad_envelope"
    """A known envelope without the payload it must have; `field` names the payload's key."""
    INVALID_PROTOBUF = "invalid_protobuf"
    """OTLP bytes that do not decode."""
    FUTURE_EVENT_TIME = "future_event_time"
    """The event lies further ahead of the Kafka record's own time than `max_clock_skew`."""
    PAST_RETENTION = "past_retention"
    """The event is older than every tier keeps."""
    UNFINISHED_PARTIAL = "unfinished_partial"
    """The rest of a line split by the container runtime never came within the bounds."""
    REFUSED = "refused"
    """ClickHouse never takes its event (a constraint that somebody added): the worker's log says why."""


class Filtered(str, Enum):
    """Why a part was left out on purpose: it is counted, not stored, and not an error."""

    INBOUND = "inbound"
    INBOUND_PASSTHROUGH = "inbound_passthrough"
    INTERNAL = "internal"
    OTHER_CONTAINER = "other_container"
    """The envelope names a container that is not istio-proxy."""
    PROXY_LOG = "proxy_log"
    """istio-proxy's own agent log, not an access log."""
    REPLAYED = "replayed"
    """A dead letter that another replay has applied already."""
    PARTIAL = "partial"
    """A part of a split line: the record is counted at the message that completes it."""
