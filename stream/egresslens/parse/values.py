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
from egresslens.parse.stage import RECORDS, Stage, rejected
from egresslens.record import PARSED, TIMESTAMP
from egresslens.rules import Rules

# Layouts deliver these as text, under these names; `duration` becomes `duration_ms`.
NUMBERS: Final[dict[str, str]] = {
    "response_code": "response_code",
    "bytes_sent": "bytes_sent",
    "bytes_received": "bytes_received",
    "duration": "duration_ms",
    "upstream_service_time": "upstream_service_time",
}
TEXTS: Final[tuple[str, ...]] = tuple(
    name for name, dtype in PARSED.items() if dtype == pl.String() and name not in ("format", "damage")
)
TEXT_FIELDS: Final[tuple[str, ...]] = ("start_time", "response_flags", *NUMBERS, *TEXTS)

_UNIT = re.compile(r"^(-?\d+(?:\.\d+)?)(ms|us|ns|s)$")
_UNIT_MS: Final = {"s": 1_000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}


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
    rows = rows.with_columns(present(name) for name in held)
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


def _columns(rows: pl.DataFrame, held: list[str], rules: Rules) -> list[pl.Expr]:
    """One expression per column of RECORDS."""
    values: dict[str, pl.Expr] = {NUMBERS[name]: pl.col(f"{name}:value") for name in NUMBERS if name in held}
    if "start_time" in held:
        values["start_time"] = pl.col("start_time:value")
    if "response_flags" in held:
        values["response_flags"] = pl.col("response_flags").str.split(",")
    if "path" in held:
        values["path"] = _path(rules)
    given = set(rows.columns)
    return [
        values.get(name, pl.col(name) if name in given else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in RECORDS.items()
    ]


def _path(rules: Rules) -> pl.Expr:
    path = pl.col("path")
    if not rules.keep_query:
        # Query strings hold secrets (codes, tokens): what follows the first `?` or `#` is not kept.
        path = path.str.splitn("?", 2).struct[0].str.splitn("#", 2).struct[0]
    for pattern in rules.redact:
        path = path.str.replace_all(pattern, "[redacted]")
    return path


def _number(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Int64, strict=False)


def _time(column: str) -> pl.Expr:
    """`2026-01-02T03:04:05.678Z`, as Envoy's %START_TIME% prints it, by its fixed places.

    Three, six and nine digits of a second are read; more than milliseconds are cut off.
    """
    text = pl.col(column)
    size = text.str.len_bytes()
    fixed = size.is_in([24, 27, 30]) & text.str.ends_with("Z") & (text.str.slice(19, 1) == ".")
    seconds = text.str.slice(0, 19).str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="ms", strict=False)
    # All digits must be digits, also those that are cut off.
    whole = text.str.slice(20).str.strip_suffix("Z").cast(pl.UInt32, strict=False)
    millis = whole // pl.when(size == 24).then(1).when(size == 27).then(1_000).otherwise(1_000_000)
    return pl.when(fixed).then((seconds + pl.duration(milliseconds=millis)).dt.replace_time_zone("UTC"))


def times(texts: pl.Series) -> pl.Series:
    """Read times as `start_time` is read; what is no time is null."""
    rows = texts.alias("start_time").to_frame().with_columns(_time("start_time").alias("start_time:value"))
    return _second_look(rows, ["start_time"])["start_time:value"]


def _second_look(rows: pl.DataFrame, checked: list[str]) -> pl.DataFrame:
    """Read what the quick way could not: floats, units, other RFC 3339 spellings, epoch seconds."""
    for name in checked:
        odd = rows.select(pl.col(name).is_not_null() & pl.col(f"{name}:value").is_null()).to_series()
        if not odd.any():
            continue
        texts = rows[name].filter(odd).unique()
        read = odd_time if name == "start_time" else odd_number
        dtype = TIMESTAMP if name == "start_time" else pl.Int64()
        values = pl.Series([read(text) for text in texts], dtype=pl.Int64).cast(dtype)
        rows = rows.with_columns(
            pl.coalesce(
                pl.col(f"{name}:value"),
                pl.col(name).replace_strict(texts, values, default=None, return_dtype=dtype),
            ).alias(f"{name}:value")
        )
    return rows


def odd_number(text: str) -> int | None:
    """Read an integer printed otherwise: `2.480891e+06`, `12ms`, `1.5s` (milliseconds); else None."""
    text = text.strip()
    unit = _UNIT.match(text)
    try:
        value = float(unit[1]) * _UNIT_MS[unit[2]] if unit else float(text)
    except ValueError:
        return None
    return int(value) if abs(value) < 2**53 else None


_ISO = re.compile(
    r"^(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\s*(Z|[+-]\d\d:?\d\d|UTC)?$"
)
_EPOCH = re.compile(r"^(\d{9,10})(?:\.(\d{1,9}))?$")


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
    except ValueError:
        return None
    zone = iso[8]
    if zone and zone not in ("Z", "UTC"):
        sign = -1 if zone[0] == "-" else 1
        moment -= sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
    return int(moment.timestamp()) * 1000 + _millis(iso[7])


def _millis(fraction: str | None) -> int:
    return int((fraction or "").ljust(3, "0")[:3])
