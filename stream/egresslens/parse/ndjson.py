"""A batch of JSON objects read at once, although one bad one makes the whole reading fail.

Polars alone decides what is valid JSON and what its values are: orjson takes the last of two equal keys and
Polars the first, so values of one parser never mix with the other's. orjson only points at suspects, to find
the bad lines of a batch quickly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import orjson
import polars as pl

# JSON columns carry this prefix, since an envelope's key may be `message` like a column of ours.
KEY: Final = "$."

Schema = Mapping[str, pl.DataType]

# Lines are read this many at a time: large enough for the fixed cost of a reading (0.3 ms), small enough that
# the first reading that fails is cheap.
_CHUNK: Final = 4_096
# What no JSON object begins with.
_OBJECT_START: Final = r'^\{\s*["}]'
# An object without nested values: what is like this is no suspect.
_STRING: Final = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"'
_VALUE: Final = rf"(?:{_STRING}|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|true|false|null)"
_FLAT: Final = rf"^\{{(?:\s*{_STRING}\s*:\s*{_VALUE}\s*(?:,|\}}$))+$"
_NOTHING: Final = pl.Struct({"\0": pl.String()})


def texts(keys: Iterable[str]) -> Schema:
    """Read every value as text: numbers, strings, null and nested objects become uniform."""
    return dict.fromkeys(keys, pl.String())


def read(lines: pl.DataFrame, schema: Schema) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read one JSON object per row.

    Args:
        lines: LINES; each `text` on one line, beginning with `{`.
        schema: top-level keys to read. A value read as String comes as text, a nested one as JSON text.

    Returns:
        (rows: PLACE, ENVELOPE, `text` and one `$.key` column per key; lines that are no JSON object)
    """
    bad = lines.clear()
    if not (objects := lines["text"].str.contains(_OBJECT_START)).all():
        lines, bad = lines.filter(objects), lines.filter(~objects)
    rows: list[pl.DataFrame] = []
    bads = [bad]
    wary = False
    for start in range(0, lines.height, _CHUNK):
        chunk = lines[start : start + _CHUNK]
        # One bad line makes the whole reading fail. Where it did, there will be more: look first from then.
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


def _bisect(lines: pl.DataFrame, schema: Schema) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read lines, halving them until each bad one is alone."""
    table = _read(lines["text"], schema)
    if table is not None:
        return _beside(lines, table), lines.clear()
    if lines.height == 1:
        return _beside(lines.clear(), pl.DataFrame(schema=schema)), lines
    half = lines.height // 2
    first, second = _bisect(lines[:half], schema), _bisect(lines[half:], schema)
    return pl.concat([first[0], second[0]]), pl.concat([first[1], second[1]])


def _read(texts: pl.Series, schema: Schema) -> pl.DataFrame | None:
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
