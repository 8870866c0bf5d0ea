"""Rules: everything besides a message's bytes that decides what is stored.

They are values, validated once. `fingerprint` names them: two workers whose fingerprints are equal store the
same rows for the same bytes (design section 3, "facts at write time").
"""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from typing import Final

import orjson
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator

from egresslens.record import STORED_LABELS, Label

# Raised by hand whenever the code that parses or labels decides differently for some bytes.
RULES_REVISION: Final = 4


def one_or_several(value: object) -> object:
    """Read one text, or a JSON list of texts, as an environment variable gives them.

    A JSON template may also come as the object it is, from a file or in a list.
    """
    if isinstance(value, dict):
        return (orjson.dumps(value).decode(),)
    if isinstance(value, list):
        return tuple(orjson.dumps(one).decode() if isinstance(one, dict) else one for one in value)
    if not isinstance(value, str):
        return value
    if not value.strip():
        return ()
    try:
        several = orjson.loads(value)
    except orjson.JSONDecodeError:
        return (value,)
    # A JSON template is one format, not a list; so is a text like `[%START_TIME%]`, which is no JSON.
    return one_or_several(several) if isinstance(several, list) else (value,)


class Rules(BaseModel):
    """What parsing, labelling and windowing are told by the operator."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    log_format: tuple[str, ...] = Field(
        (),
        description="Custom Envoy format string (text or JSON template), or a JSON list of several; "
        "tried before the default layouts.",
    )
    keep_query: bool = Field(
        False, description="Keep query strings. They often hold secrets; off by default."
    )
    redact: tuple[str, ...] = Field(
        (), description="Regular expressions; what they match in a path is stored as `[redacted]`."
    )
    keep: tuple[Label, ...] = Field(
        STORED_LABELS, description="Labels that are stored; the others are filtered and counted."
    )
    egress_gateways: tuple[str, ...] = Field(
        (r"(^|.*-)egress-?gateway(-.*)?\..+",),
        description="Regular expressions for egress gateways' hosts, whose records name the host asked for.",
    )
    max_message_bytes: int = Field(1_048_576, gt=0, description="Longer messages are dead-lettered.")
    max_records_per_message: int = Field(
        10_000, gt=0, description="Messages with more records are dead-lettered."
    )
    max_destinations: int = Field(
        1_000,
        gt=0,
        description="Distinct destinations per window, workload and partition; the rest is `(other)`.",
    )
    max_clock_skew_s: int = Field(
        86_400, gt=0, description="Seconds an event may lie ahead of its Kafka record's time."
    )

    events_ttl_days: int = Field(
        30,
        gt=0,
        description="Days single records are kept; older ones on arrival are only counted in windows.",
    )
    windows_1m_ttl_days: int = Field(
        90, gt=0, description="Days 1-minute windows are kept; a record past both is dead-lettered."
    )

    @field_validator("log_format", "redact", "egress_gateways", "keep", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return one_or_several(value)

    @field_validator("log_format")
    @classmethod
    def _formats_compile(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        from egresslens.parse.template import compiled  # noqa: PLC0415 - parsing imports the rules

        compiled(formats)
        return formats

    @field_validator("redact", "egress_gateways")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
                # Records are matched by Polars: in linear time, and without look-around.
                pl.Series([""]).str.contains(pattern)
            except (re.error, pl.exceptions.PolarsError) as error:
                raise ValueError(f"{pattern!r} is not a regular expression of Rust's: {error}") from error
        return patterns

    @cached_property
    def fingerprint(self) -> str:
        """Name these rules, with the revision of the code, in 16 hexadecimal digits."""
        text = orjson.dumps([RULES_REVISION, self.model_dump(mode="json")], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(text).hexdigest()[:16]
