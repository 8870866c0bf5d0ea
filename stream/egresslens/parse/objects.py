"""JSON objects: Istio's JSON access log, its relatives' keys, and what is no access log."""

from __future__ import annotations

from typing import Final

import polars as pl

from egresslens.outcome import Reject
from egresslens.parse import envelopes, source, template
from egresslens.parse.jsontext import has_lone_surrogate
from egresslens.parse.ndjson import KEY, read, texts
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

def step(lines: pl.DataFrame, rules: Rules) -> Stage:
    """Read lines that begin with `{`: records, envelopes (whose payloads come back as lines), or rejects."""
    lines, stage = _sound(lines)
    custom, lines = template.read_objects(lines, rules)
    stage += custom
    text = pl.col("text")
    # Istio's own JSON needs 24 columns, a common envelope 10; the many keys of others cost twice as much.
    own = lines["text"].str.contains('"upstream_cluster":', literal=True)
    wrapped = lines["text"].str.contains('"kubernetes":', literal=True)
    common = _where(lines, wrapped & ~own)
    plain = _where(lines, own & ~wrapped)
    others = [_where(lines, own == wrapped)]
    if plain.height:
        istio = plain.select(
            text.str.contains('"authority":', literal=True)
            & text.str.contains('"user_agent":', literal=True)
            & ~pl.any_horizontal(text.str.contains(mark, literal=True) for mark in source.FLAT_MARKS)
        ).to_series()
        others.append(_where(plain, ~istio))
        rows, bad = read(_where(plain, istio), texts(ISTIO_KEYS))
        stage += rejected(bad, Reject.INVALID_JSON)
        # The keys may stand in an object inside.
        empty = rows.select(pl.all_horizontal(pl.col(KEY + key).is_null() for key in ISTIO_KEYS)).to_series()
        others.append(_where(rows, empty).select(lines.columns))
        stage += typed(fields(_where(rows, ~empty)), rules)
    if common.height:
        rows, bad = read(common, texts(envelopes.COMMON_KEYS))
        stage += rejected(bad, Reject.INVALID_JSON)
        left, unwrapped = envelopes.unwrap_common(rows)
        stage += unwrapped
        others.append(left)
    if (chosen := pl.concat(others)).height:
        rows, bad = read(chosen, texts(ALL_KEYS))
        stage += rejected(bad, Reject.INVALID_JSON)
        rows, unwrapped = envelopes.unwrap(rows, rules)
        stage += unwrapped + typed(fields(rows), rules)
    return stage


def _where(rows: pl.DataFrame, chosen: pl.Series) -> pl.DataFrame:
    """The chosen rows; all of them, mostly, and then nothing is copied."""
    return rows if chosen.all() else rows.filter(chosen)


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
