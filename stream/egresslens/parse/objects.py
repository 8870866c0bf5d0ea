"""JSON objects: Istio's JSON access log, its relatives' keys, and the reading of a batch of objects at once.

Polars alone decides what is valid JSON and what its values are: orjson takes the last of two equal keys and
Polars the first, so values of one parser never mix with the other's. orjson only points at suspects, to find
the bad lines of a batch quickly.
"""

from __future__ import annotations

from typing import Final

import orjson
import polars as pl

from egresslens.outcome import Reject
from egresslens.parse import envelopes, source
from egresslens.parse.jsontext import has_lone_surrogate
from egresslens.parse.stage import Stage, rejected
from egresslens.parse.values import typed
from egresslens.rules import Rules

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
    "x_forwarded_for": ("x_forwarded_for", "x-forwarded-for"),
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
ALL_KEYS: Final[tuple[str, ...]] = tuple(
    dict.fromkeys([*(key for keys in FIELD_KEYS.values() for key in keys), *envelopes.KEYS])
)

# JSON columns carry this prefix, since an envelope's key may be `message` like a column of ours.
KEY: Final = "$."

# Lines are read this many at a time: large enough for the fixed cost of a reading (0.3 ms), small enough that
# the first reading that fails is cheap.
_CHUNK: Final = 4_096
# What no JSON object begins with.
_OBJECT_START: Final = r'^\{\s*["}]'
# An object without nested values: whoever is like this is no suspect. A regular expression of Rust's, linear.
_STRING: Final = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"'
_FLAT: Final = rf"^\{{(?:\s*{_STRING}\s*:\s*(?:{_STRING}|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|true|false|null)\s*(?:,|\}}$))+$"
_NOTHING: Final = pl.Struct({"\0": pl.String()})


def step(lines: pl.DataFrame, rules: Rules) -> Stage:
    """Read lines that begin with `{`: records, envelopes (whose payloads come back as lines), or rejects."""
    lines, stage = _sound(lines)
    text = pl.col("text")
    # Istio's own JSON needs 24 columns, a common envelope 10; the many keys of others cost twice as much.
    own = text.str.contains('"upstream_cluster":', literal=True)
    wrapped = text.str.contains('"kubernetes":', literal=True)
    kinds = lines.select(
        plain=own
        & ~wrapped
        & text.str.contains('"authority":', literal=True)
        & text.str.contains('"user_agent":', literal=True)
        & ~pl.any_horizontal(text.str.contains(mark, literal=True) for mark in source.FLAT_MARKS),
        common=wrapped & ~own,
    )
    others = [lines.filter(~kinds["plain"] & ~kinds["common"])]
    if (chosen := lines.filter(kinds["plain"])).height:
        rows, bad = read(chosen, ISTIO_KEYS)
        stage += rejected(bad, Reject.INVALID_JSON)
        # The keys may stand in an object inside.
        empty = rows.select(pl.all_horizontal(pl.col(KEY + key).is_null() for key in ISTIO_KEYS)).to_series()
        others.append(rows.filter(empty).select(lines.columns))
        stage += typed(fields(rows.filter(~empty)), rules)
    if (chosen := lines.filter(kinds["common"])).height:
        rows, bad = read(chosen, envelopes.COMMON_KEYS)
        stage += rejected(bad, Reject.INVALID_JSON)
        left, unwrapped = envelopes.unwrap_common(rows)
        stage += unwrapped
        others.append(left)
    if (chosen := pl.concat(others)).height:
        rows, bad = read(chosen, ALL_KEYS)
        stage += rejected(bad, Reject.INVALID_JSON)
        rows, unwrapped = envelopes.unwrap(rows, rules)
        stage += unwrapped + typed(fields(rows), rules)
    return stage


def _sound(lines: pl.DataFrame) -> tuple[pl.DataFrame, Stage]:
    """Reject what is certainly not one JSON object, and lone surrogates; put objects on one line."""
    text = pl.col("text")
    closed = lines.select(text.str.ends_with("}")).to_series()
    stage = rejected(lines.filter(~closed), Reject.INVALID_JSON)
    if not closed.all():
        lines = lines.filter(closed)
    if lines["text"].str.contains("[\r\n]").any():
        # JSON written over several lines; a line break inside a string is no JSON, and becomes a space.
        lines = lines.with_columns(text.str.replace_all("[\r\n]", " "))
    escaped = lines["text"].str.contains(r"\\u[dD][89a-fA-F]")
    if escaped.any():
        lone = escaped & lines["text"].map_elements(has_lone_surrogate, return_dtype=pl.Boolean)
        stage += rejected(lines.filter(lone), Reject.LONE_SURROGATE)
        lines = lines.filter(~lone)
    return lines, stage


def read(lines: pl.DataFrame, keys: tuple[str, ...]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read one JSON object per row.

    Args:
        lines: LINES; each `text` on one line, beginning with `{`.
        keys: top-level keys to read. Values come as text; nested ones as JSON text.

    Returns:
        (rows: PLACE, ENVELOPE, `text` and one `$.key` String column per key; lines that are no JSON object)
    """
    schema = {key: pl.String() for key in keys}
    bad = lines.clear()
    if not (objects := lines["text"].str.contains(_OBJECT_START)).all():
        lines, bad = lines.filter(objects), lines.filter(~objects)
    rows: list[pl.DataFrame] = []
    bads = [bad]
    wary = False
    for start in range(0, lines.height, _CHUNK):
        chunk = lines[start : start + _CHUNK]
        # One bad line makes the whole reading fail. Where it did, there will be more: look first from then on.
        table = None if wary else _read(chunk["text"], schema)
        if table is None:
            valid = _valid(chunk["text"])
            wary = not valid.all()
            bads.append(chunk.filter(~valid))
            chunk = chunk.filter(valid)
            table = _read(chunk["text"], schema)
        if table is None:
            read, unread = _bisect(chunk, schema)
            rows.append(read)
            bads.append(unread)
        else:
            rows.append(_beside(chunk, table))
    return (
        pl.concat(rows) if rows else _beside(lines.clear(), pl.DataFrame(schema=schema)),
        pl.concat(bads),
    )


def _valid(texts: pl.Series) -> pl.Series:
    """Which texts are JSON objects: Polars is asked about the suspects, one at a time."""
    plain = texts.str.contains(_FLAT)
    return pl.Series(
        [is_plain or _plausible(text) or _decodes(text) for text, is_plain in zip(texts, plain, strict=True)],
        dtype=pl.Boolean,
    )


def _plausible(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def _decodes(text: str) -> bool:
    """Whether Polars takes this one text for a JSON object (20 us; `read_ndjson` takes ten times as long)."""
    try:
        pl.Series([text]).str.json_decode(_NOTHING)
    except pl.exceptions.PolarsError:
        return False
    return True


def _bisect(lines: pl.DataFrame, schema: dict[str, pl.String]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read lines, halving them until each bad one is alone."""
    table = _read(lines["text"], schema)
    if table is not None:
        return _beside(lines, table), lines.clear()
    if lines.height == 1:
        return _beside(lines.clear(), pl.DataFrame(schema=schema)), lines
    half = lines.height // 2
    first, second = _bisect(lines[:half], schema), _bisect(lines[half:], schema)
    return pl.concat([first[0], second[0]]), pl.concat([first[1], second[1]])


def _read(texts: pl.Series, schema: dict[str, pl.String]) -> pl.DataFrame | None:
    if texts.is_empty():
        return pl.DataFrame(schema=schema)
    try:
        table = pl.read_ndjson(texts.str.join("\n").cast(pl.Binary).item(), schema=schema)
    except pl.exceptions.PolarsError:
        return None
    # Rows out = lines in, or a row would be taken for another's.
    return table if table.height == texts.len() else None


def _beside(lines: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    return lines.hstack(table.rename({name: KEY + name for name in table.columns}))


def fields(rows: pl.DataFrame) -> pl.DataFrame:
    """Name the values by field: PLACE, ENVELOPE, TEXT_FIELDS as text, `format` and `damage`."""
    given = set(rows.columns)
    named: list[pl.Expr] = []
    for field, keys in FIELD_KEYS.items():
        columns = [pl.col(KEY + key) for key in keys if KEY + key in given]
        named.append(
            (
                columns[0] if len(columns) == 1 else pl.coalesce(present_column(column) for column in columns)
            ).alias(field)
        )
    return rows.select(
        *(name for name in rows.columns if not name.startswith(KEY) and name != "text"),
        *named,
        pl.lit("istio_json").alias("format"),
        pl.lit(None, pl.String).alias("damage"),
    )


def present_column(column: pl.Expr) -> pl.Expr:
    """The value, with `-` and the empty string as null."""
    return pl.when((column != "-") & (column != "")).then(column)
