"""JSON objects: Istio's JSON access log and its relatives, envelopes, and what is no access log."""

from __future__ import annotations

from typing import Final

import polars as pl

from egresslens.outcome import Filtered, Reject
from egresslens.parse import broken_json, envelopes, shapes, source, template, ztunnel
from egresslens.parse.damage import Damage
from egresslens.parse.jsontext import has_lone_surrogate, unquoted
from egresslens.parse.keys import FEWEST, FIELD_KEYS, ISTIO_KEYS, MARKERS, TELLING
from egresslens.parse.ndjson import KEY, read, texts
from egresslens.parse.reading import Reading
from egresslens.parse.reading import rows as reading_rows
from egresslens.parse.stage import LINES, Stage, filtered, mended, rejected
from egresslens.parse.values import typed
from egresslens.rules import Rules

ALL_KEYS: Final[tuple[str, ...]] = tuple(
    dict.fromkeys([*(key for keys in FIELD_KEYS.values() for key in keys), *envelopes.KEYS])
)

# What sticks to an object that was cut out of a list or a program.
_STRAY_END: Final = r"\}[`',\";\s]{1,4}$"
# The text of a JSON string, broken into lines as it stands.
_ESCAPED: Final = r'^\{\s+\\"'


def step(lines: pl.DataFrame, rules: Rules) -> Stage:
    """Read lines that begin with `{`: records, envelopes (whose payloads come back as lines), or rejects."""
    stage = Stage()
    # Custom formats come before Istio's own.
    if not template.reads_objects(rules):
        shaped, lines = shapes.read(lines)
        for rows in shaped:
            stage += typed(rows, rules)
        if lines.is_empty():
            return stage
    lines, unsound = _sound(lines)
    custom, lines = template.read_objects(lines, rules)
    text = pl.col("text")
    stage += unsound + custom
    mesh = lines["text"].str.contains(ztunnel.MARK, literal=True)
    if mesh.any():
        stage += ztunnel.step_json(lines.filter(mesh), rules)
        lines = lines.filter(~mesh)
    # Istio's own JSON needs 24 columns, a common envelope 10; the many keys of others cost twice as much.
    own = lines["text"].str.contains('"upstream_cluster":', literal=True)
    wrapped = lines.select(
        text.str.contains('"kubernetes":', literal=True) | text.str.starts_with(envelopes.DOCKER)
    ).to_series()
    common = _where(lines, wrapped & ~own)
    plain = _where(lines, own & ~wrapped)
    others = [_where(lines, own == wrapped)]
    broken: list[pl.DataFrame] = []
    if plain.height:
        istio = _is_istio(plain["text"])
        others.append(_where(plain, ~istio))
        rows, bad = read(_where(plain, istio), texts(ISTIO_KEYS))
        broken.append(bad)
        other = _has_other_keys(rows)
        others.append(_where(rows, other).select(lines.columns))
        stage += typed(fields(_where(rows, ~other)), rules)
    if common.height:
        rows, bad = read(common, texts(envelopes.COMMON_KEYS))
        broken.append(bad)
        left, unwrapped = envelopes.unwrap_common(rows)
        stage += unwrapped
        others.append(left)
    if (chosen := pl.concat(others)).height:
        rows, bad = read(chosen, texts(ALL_KEYS))
        broken.append(bad)
        rows, unwrapped = envelopes.unwrap(rows, rules)
        stage += unwrapped + _records(rows, rules)
    return stage + (_broken(pl.concat(broken), rules) if broken else Stage())


def _is_istio(texts: pl.Series) -> pl.Series:
    """Which texts have Istio's own keys, the telling ones once each, and none that tell of the source."""
    text = pl.col("text")
    return (
        texts.to_frame("text")
        .select(
            pl.all_horizontal(text.str.count_matches(f'"{key}"', literal=True) == 1 for key in TELLING)
            & text.str.contains('"user_agent":', literal=True)
            & ~pl.any_horizontal(text.str.contains(mark, literal=True) for mark in source.FLAT_MARKS)
        )
        .to_series()
    )


def _has_other_keys(rows: pl.DataFrame) -> pl.Series:
    """Which rows of ISTIO_KEYS may hold a field under another key, or all of them in an object inside."""
    found = rows.select(pl.all_horizontal(pl.col(KEY + key).is_null() for key in ISTIO_KEYS)).to_series()
    for key, *aliases in FIELD_KEYS.values():
        # An absent value is looked for where it is absent only: mostly in few rows.
        if aliases and (absent := rows[KEY + key].is_null()).any():
            written = rows["text"].filter(absent).str.contains(f'"{key}"', literal=True)
            if not written.all():
                found = found.scatter(absent.arg_true().filter(~written), values=True)
    return found


def _records(rows: pl.DataFrame, rules: Rules) -> Stage:
    """Read rows of ALL_KEYS that are no envelopes: records, programs' own logs, or nothing known."""
    if rows.is_empty():
        return Stage()
    given = {key: pl.col(KEY + key).is_not_null() for key in ALL_KEYS}
    known = [pl.any_horizontal(given[key] for key in keys) for keys in FIELD_KEYS.values()]
    kinds = rows.select(
        record=pl.any_horizontal(given[key] for key in MARKERS) & (pl.sum_horizontal(known) >= FEWEST),
        # istio-agent and ztunnel write `{"level":…,"time":…,"scope":…,"msg":…}`.
        program=given["level"]
        & (given["time"] | given["ts"] | given["timestamp"])
        & pl.any_horizontal(given[key] for key in ("msg", "message", "scope")),
    )
    stage = filtered(_where(rows, ~kinds["record"] & kinds["program"]), Filtered.PROXY_LOG)
    stage += rejected(_where(rows, ~kinds["record"] & ~kinds["program"]), Reject.UNKNOWN_FORMAT)
    rows = _where(rows, kinds["record"])
    text = pl.col("text")
    twice = rows.select(
        pl.any_horizontal(text.str.count_matches(f'"{key}"', literal=True) > 1 for key in TELLING)
    ).to_series()
    if twice.any():
        repeated = twice & rows["text"].map_elements(broken_json.repeats, return_dtype=pl.Boolean)
        stage += _by_keys(rows.filter(repeated), Damage.REPEATED_KEYS, rules)
        rows = rows.filter(~repeated)
    return stage + typed(fields(rows), rules)


def _broken(lines: pl.DataFrame, rules: Rules) -> Stage:
    """Read what is no JSON as far as its keys can be found; reject the rest."""
    text = pl.col("text")
    stage = Stage()
    escaped = lines.select(text.str.contains(_ESCAPED)).to_series()
    if escaped.any():
        strings, lines = lines.filter(escaped), lines.filter(~escaped)
        stage += mended(strings, [unquoted(one) for one in strings["text"]], Damage.ESCAPED_QUOTES)
    similar = lines.select(
        pl.any_horizontal(text.str.contains(f'"{key}"', literal=True) for key in MARKERS)
    ).to_series()
    stage += rejected(_where(lines, ~similar), Reject.INVALID_JSON)
    return stage + _by_keys(_where(lines, similar), Damage.BROKEN_JSON, rules)


def _by_keys(lines: pl.DataFrame, damage: Damage, rules: Rules) -> Stage:
    if lines.is_empty():
        return Stage()
    readings: list[Reading | None] = [broken_json.read(text, damage) for text in lines["text"]]
    unread = pl.Series([reading is None for reading in readings], dtype=pl.Boolean)
    stage = rejected(lines.filter(unread), Reject.INVALID_JSON)
    found = [reading for reading in readings if reading]
    return stage + typed(reading_rows(lines.filter(~unread).select(list(LINES)), found), rules)


def _where(rows: pl.DataFrame, chosen: pl.Series) -> pl.DataFrame:
    """The chosen rows; all of them, mostly, and then nothing is copied."""
    return rows if chosen.all() else rows.filter(chosen)


def _sound(lines: pl.DataFrame) -> tuple[pl.DataFrame, Stage]:
    """Reject what is certainly not one JSON object, and lone surrogates; put objects on one line."""
    text = pl.col("text")
    stage = Stage()
    closed = lines.select(text.str.ends_with("}")).to_series()
    if not closed.all():
        opened, lines = lines.filter(~closed), lines.filter(closed)
        stray = opened.select(text.str.contains(_STRAY_END)).to_series()
        stage += rejected(opened.filter(~stray), Reject.INVALID_JSON)
        ended = opened.filter(stray)
        stage += mended(ended, [one[: one.rindex("}") + 1] for one in ended["text"]], Damage.STRAY_END)
    if lines["text"].str.contains("[\r\n]").any():
        # JSON written over several lines; a line break inside a string is no JSON, and becomes a space.
        lines = lines.with_columns(text.str.replace_all("[\r\n]", " "))
    # Looked for as they stand first: a line with many backslashes is slow to search for a pattern.
    escaped = lines.select(
        text.str.contains("\\ud", literal=True) | text.str.contains("\\uD", literal=True)
    ).to_series()
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
        _format(given).alias("format"),
        pl.lit(None, pl.String).alias("damage"),
    )


def _format(given: set[str]) -> pl.Expr:
    """The format's name: Envoy Gateway's keys, Istio's, or others."""
    if KEY + ":authority" not in given:
        return pl.lit("istio_json")
    gateway = (":authority", "x-envoy-origin-path", "x-envoy-upstream-service-time")
    return (
        pl.when(pl.any_horizontal(pl.col(KEY + key).is_not_null() for key in gateway))
        .then(pl.lit("envoy_gateway_json"))
        .when(pl.col(KEY + "response_code").is_not_null())
        .then(pl.lit("istio_json"))
        .otherwise(pl.lit("envoy_json"))
    )


def present_column(column: pl.Expr) -> pl.Expr:
    """The value, with `-` and the empty string as null."""
    return pl.when((column != "-") & (column != "")).then(column)
