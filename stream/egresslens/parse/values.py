"""From text to values: what a field's text means, whatever layout it was found in.

Sources: Envoy writes `-` for an absent value, Istio's JSON writes null, `omit_empty_values` writes an empty
string: all mean absent. Typed JSON may print large integers as floats (`2.480891e+06`).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Final

import polars as pl

from egresslens.outcome import Reject
from egresslens.parse.damage import Damage
from egresslens.parse.stage import RECORDS, Stage, rejected
from egresslens.record import EARLIEST, LATEST, PARSED, TIMESTAMP
from egresslens.rules import Rules

# Layouts deliver these as text, under these names; `duration` becomes `duration_ms`.
# Envoy bounds all headers of a request together at 60 KiB unless told otherwise.
MAX_FIELD_BYTES: Final = 16_384

NUMBERS: Final[dict[str, str]] = {
    "response_code": "response_code",
    "bytes_sent": "bytes_sent",
    "bytes_received": "bytes_received",
    "duration": "duration_ms",
    "upstream_service_time": "upstream_service_time",
}
# A number at or beyond its limit is none: Envoy's counters lose precision at 2^53, and no connection lasts
# for 34 years (2^40 ms). The limits keep sums and times within what every store and program can hold.
LIMITS: Final[dict[str, int]] = {
    "response_code": 2**31,
    "bytes_sent": 2**53,
    "bytes_received": 2**53,
    "duration": 2**40,
    "upstream_service_time": 2**40,
}
TEXTS: Final[tuple[str, ...]] = tuple(
    name for name, dtype in PARSED.items() if dtype == pl.String() and name not in ("format", "damage")
)
TEXT_FIELDS: Final[tuple[str, ...]] = ("start_time", "response_flags", *NUMBERS, *TEXTS)

_NUMBER = re.compile(r"(-?\d{1,40}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,3})?)(ms|us|ns|s|)", re.ASCII)
_UNIT_MS: Final = {"": 1.0, "s": 1_000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}


def present(column: str) -> pl.Expr:
    """The column with `-` and the empty string as null."""
    value = pl.col(column)
    return pl.when((value != "-") & (value != "")).then(value).alias(column)


def typed(rows: pl.DataFrame, rules: Rules) -> Stage:
    """Turn rows of text into records, and reject those with a value that cannot be what it must be.

    Args:
        rows: PLACE and ENVELOPE columns, `format`, `damage`, and any of TEXT_FIELDS as text.
        rules: decides about query strings and redaction.

    Returns:
        Records (RECORDS) and rejects (`bad_value` with the field's name).
    """
    if rows.is_empty():
        return Stage()
    held = [name for name in TEXT_FIELDS if name in rows.columns]
    rows = _bounded(rows.with_columns(present(name) for name in held), held)
    numbers = [name for name in NUMBERS if name in held]
    rows = rows.with_columns(
        *(_number(name).alias(f"{name}:value") for name in numbers),
        *([_time("start_time").alias("start_time:value")] if "start_time" in held else []),
    )
    checked = [*numbers, *(["start_time"] if "start_time" in held else [])]
    rows = _second_look(rows, checked)
    bad = [pl.col(name).is_not_null() & pl.col(f"{name}:value").is_null() for name in checked]
    stage = Stage()
    if checked and (wrong := rows.filter(pl.any_horizontal(bad))).height:
        first = pl.coalesce(pl.when(test).then(pl.lit(name)) for name, test in zip(checked, bad, strict=True))
        stage = rejected(wrong, Reject.BAD_VALUE, first)
        rows = rows.filter(~pl.any_horizontal(bad))
    return stage + Stage(records=[rows.select(_columns(rows, held, rules))])


def _bounded(rows: pl.DataFrame, held: list[str]) -> pl.DataFrame:
    """Cut values that no honest header has: what is stored and published of a record stays bounded."""
    sizes = rows.select(pl.col(name).str.len_bytes().max() for name in held).row(0)
    long = [name for name, size in zip(held, sizes, strict=True) if (size or 0) > MAX_FIELD_BYTES]
    if not long:
        return rows
    cut = pl.any_horizontal(pl.col(name).str.len_bytes() > MAX_FIELD_BYTES for name in long).fill_null(
        value=False
    )
    marked = pl.concat_str("damage", pl.lit(Damage.LONG_FIELD.value), separator=",", ignore_nulls=True)
    # Characters of several bytes may take up to four times the bound.
    return rows.with_columns(
        pl.when(cut).then(marked).otherwise("damage").alias("damage"),
        *(pl.col(name).str.head(MAX_FIELD_BYTES) for name in long),
    )


def _columns(rows: pl.DataFrame, held: list[str], rules: Rules) -> list[pl.Expr]:
    """One expression per column of RECORDS."""
    values: dict[str, pl.Expr] = {NUMBERS[name]: pl.col(f"{name}:value") for name in NUMBERS if name in held}
    if "start_time" in held:
        values["start_time"] = pl.col("start_time:value")
    if "response_flags" in held:
        values["response_flags"] = pl.col("response_flags").str.split(",")
    if "path" in held:
        values["path"] = _path(rows["path"], rules)
    if "authority" in held and rows["authority"].str.contains("@", literal=True).any():
        # `user:password@host` is a URL's way to send a password; a host has no `@`.
        values["authority"] = pl.col("authority").str.replace(r"^[^/]*@", "", literal=False)
    given = set(rows.columns)
    return [
        values.get(name, pl.col(name) if name in given else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in RECORDS.items()
    ]


def _path(paths: pl.Series, rules: Rules) -> pl.Expr:
    path = pl.col("path")
    # Query strings hold secrets (codes, tokens): what follows the first `?` or `#` is not kept.
    for mark in () if rules.keep_query else ("?", "#"):
        if paths.str.contains(mark, literal=True).any():
            path = path.str.splitn(mark, 2).struct[0]
    for pattern in rules.redact:
        path = path.str.replace_all(pattern, "[redacted]")
    return path


def _number(column: str) -> pl.Expr:
    value = pl.col(column).cast(pl.Int64, strict=False)
    limit = LIMITS[column]
    return pl.when(value.is_between(-limit, limit, closed="none")).then(value)


def _time(column: str) -> pl.Expr:
    """`2026-01-02T03:04:05.678Z`, as Envoy's %START_TIME% prints it, by its fixed places."""
    text = pl.col(column)
    fixed = (text.str.len_bytes() == 24) & text.str.ends_with("Z")
    seconds = text.str.slice(0, 19).str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="ms", strict=False)
    millis = text.str.slice(20, 3).cast(pl.UInt16, strict=False)
    moment = (seconds + pl.duration(milliseconds=millis)).dt.replace_time_zone("UTC")
    return pl.when(fixed & moment.is_between(EARLIEST, LATEST, closed="left")).then(moment)


def times(texts: pl.Series) -> pl.Series:
    """Read times as `start_time` is read; what is no time is null."""
    text = pl.col("start_time")
    # Container runtimes print micro- or nanoseconds. All digits must be digits, also those that are cut off.
    finer = text.str.ends_with("Z") & text.str.len_bytes().is_in([27, 30])
    digits = text.str.slice(20).str.strip_suffix("Z").cast(pl.UInt32, strict=False)
    rows = texts.alias("start_time").to_frame()
    rows = rows.with_columns(
        pl.when(finer & digits.is_not_null())
        .then(pl.concat_str(text.str.slice(0, 23), pl.lit("Z")))
        .otherwise(text)
    )
    rows = rows.with_columns(_time("start_time").alias("start_time:value"))
    return _second_look(rows, ["start_time"])["start_time:value"]


def _second_look(rows: pl.DataFrame, checked: list[str]) -> pl.DataFrame:
    """Read what the quick way could not: floats, units, other RFC 3339 spellings, epoch seconds."""
    for name in checked:
        odd = rows.select(pl.col(name).is_not_null() & pl.col(f"{name}:value").is_null()).to_series()
        if not odd.any():
            continue
        texts = rows[name].filter(odd).unique()
        if name == "start_time":
            values = pl.Series([odd_time(text) for text in texts], dtype=pl.Int64).cast(TIMESTAMP)
        else:
            values = pl.Series([odd_number(text, LIMITS[name]) for text in texts], dtype=pl.Int64)
        rows = rows.with_columns(
            pl.coalesce(
                pl.col(f"{name}:value"),
                pl.col(name).replace_strict(texts, values, default=None, return_dtype=values.dtype),
            ).alias(f"{name}:value")
        )
    return rows


def odd_number(text: str, limit: int = 2**53) -> int | None:
    """Read an integer printed otherwise: `2.480891e+06`, `12ms`, `1.5s` (milliseconds); else None."""
    text = text.strip()
    if not (number := _NUMBER.fullmatch(text)):
        return None
    value = float(number[1]) * _UNIT_MS[number[2]]
    return int(value) if abs(value) < limit else None


_ISO = re.compile(
    r"^(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\s*(Z|[+-][01]\d:?[0-5]\d|UTC)?$",
    re.ASCII,
)
_EPOCH = re.compile(r"^(\d{9,10})(?:\.(\d{1,9}))?$", re.ASCII)


def odd_time(text: str) -> int | None:
    """Read an RFC 3339 time with any offset or fraction, or epoch seconds, as epoch milliseconds."""
    text = text.strip().strip("[]")
    if epoch := _EPOCH.match(text):
        return int(epoch[1]) * 1000 + _millis(epoch[2])
    iso = _ISO.match(text)
    if not iso:
        return None
    try:
        moment = datetime(*(int(iso[i]) for i in range(1, 7)), tzinfo=timezone.utc)  # type: ignore[misc,arg-type]
        if (zone := iso[8]) and zone not in ("Z", "UTC"):
            sign = -1 if zone[0] == "-" else 1
            moment -= sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
    except (ValueError, OverflowError):
        return None
    return int(moment.timestamp()) * 1000 + _millis(iso[7]) if EARLIEST <= moment < LATEST else None


def _millis(fraction: str | None) -> int:
    return int((fraction or "").ljust(3, "0")[:3])
