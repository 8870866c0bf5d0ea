"""Istio's JSON read as text: the lines of one format have the same keys in the same order.

A shape is that order, and which values are numbers. A line fits a shape only as a whole, without backslashes
and control characters. No string of such a line holds a quote, so `,"` stands between its members alone: cut
there, each piece must be the shape's key and a value. Then the line is valid JSON, no key comes twice, and
the values are what a JSON reader would read, at half of its cost. Every other line is left to it (`ndjson`).
"""

from __future__ import annotations

from typing import Final

import orjson
import polars as pl

from egresslens.mapping import is_one
from egresslens.parse.keys import FIELD_KEYS, ISTIO_KEYS, TELLING

# Key, and whether its value is a number; in a line's order.
Shape = tuple[tuple[str, bool], ...]

# With these no field can be under another key (`keys.FIELD_KEYS`).
_NEEDED: Final = frozenset(
    [*TELLING, "start_time", "user_agent", *(keys[0] for keys in FIELD_KEYS.values() if len(keys) > 1)]
)
_KEYS: Final = frozenset(ISTIO_KEYS)

# A topic may hold several formats. The next one is that of one of the first lines that are left.
_MOST_SHAPES: Final = 4
_LOOKED_AT: Final = 8
# Fewer lines are read as fast by the JSON reader.
FEWEST_LINES: Final = 256
# Three bytes are looked for at once (memchr); a class of all of them costs four times as much.
_REFUSED: Final = (*(f"[\\x{first:02x}-\\x{first + 2:02x}]" for first in range(0, 0x1E, 3)), r"[\x1e\x1f\\]")
# More digits than a double holds exactly may be printed otherwise by a JSON reader.
_NUMBER: Final = r"^-?(?:0|[1-9][0-9]{0,14})$"


def read(lines: pl.DataFrame) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    """Read lines (LINES) that are of a common shape.

    Returns:
        (frames: the other columns of `lines`, Istio's fields as text, `format` and `damage`; the other lines)
    """
    found: list[pl.DataFrame] = []
    tried: set[Shape] = set()
    while lines.height >= FEWEST_LINES and len(tried) < _MOST_SHAPES:
        shapes = [shape_of(text) for text in lines["text"].head(_LOOKED_AT)]
        shape = next((one for one in shapes if one and one not in tried), None)
        if shape is None:
            break
        tried.add(shape)
        rows, lines = _fitting(lines, shape)
        found.append(rows)
    return found, lines


def shape_of(text: str) -> Shape | None:
    """The shape of a JSON object of Istio's own keys; None for anything else."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict) or not _NEEDED <= found.keys() <= _KEYS:
        return None
    shape = tuple((key, type(value) is int) for key, value in found.items())
    return None if ("start_time", True) in shape else shape


def _fitting(lines: pl.DataFrame, shape: Shape) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part lines into those of the shape, read, and the others."""
    likely = lines.select(_likely(shape)).to_series()
    chosen = lines if likely.all() else lines.filter(likely)
    last = len(shape) - 1
    text = chosen["text"].str.slice(1).str.head(-1)
    cut = text.str.split_exact(',"', last + 1).struct.unnest()
    # Some values are absent in all lines of a batch, or the same: what is a literal is looked at once.
    cut = cut.with_columns(pl.lit(piece[0], piece.dtype).alias(piece.name) for piece in cut if is_one(piece))
    keys = [(f'{key}":' if place else f'"{key}":', is_number) for place, (key, is_number) in enumerate(shape)]
    time = next(place for place, (key, _) in enumerate(shape) if key == "start_time")
    cut = cut.with_columns(
        value.alias(f"{name}_{place}")
        for place, (key, is_number) in enumerate(keys)
        for name, value in _parts(pl.col(f"field_{place}"), key, is_number=is_number).items()
    )
    fits = cut.select(
        pl.all_horizontal(
            pl.col(f"field_{last}").is_not_null(),
            pl.col(f"field_{last + 1}").is_null(),
            # A line without a time is no access log for certain (`objects`).
            pl.col(f"quoted_{time}") & (pl.col(f"value_{time}") != ""),
            *(_is_member(place, key, is_number=is_number) for place, (key, is_number) in enumerate(keys)),
        ).fill_null(value=False)
    ).to_series()
    rows = chosen.drop("text").hstack(
        cut.select(
            (
                pl.col(f"value_{place}") if is_number else pl.when(f"quoted_{place}").then(f"value_{place}")
            ).alias(key)
            for place, (key, is_number) in enumerate(shape)
        )
    )
    rows = rows.with_columns(pl.lit("istio_json").alias("format"), pl.lit(None, pl.String).alias("damage"))
    if fits.all():
        return rows, lines.filter(~likely)
    return rows.filter(fits), pl.concat([lines.filter(~likely), chosen.filter(~fits)])


def _likely(shape: Shape) -> pl.Expr:
    text = pl.col("text")
    begins = text.str.starts_with(f'{{"{shape[0][0]}":')
    return begins & text.str.ends_with("}") & ~pl.any_horizontal(text.str.contains(one) for one in _REFUSED)


def _parts(piece: pl.Expr, key: str, *, is_number: bool) -> dict[str, pl.Expr]:
    """A member's value, and whether it is quoted, if the piece is the key's."""
    if is_number:
        return {"value": piece.str.slice(len(key))}
    quoted = (
        piece.str.starts_with(f'{key}"') & piece.str.ends_with('"') & (piece.str.len_bytes() > len(key) + 1)
    )
    return {"value": piece.str.slice(len(key) + 1).str.head(-1), "quoted": quoted}


def _is_member(place: int, key: str, *, is_number: bool) -> pl.Expr:
    piece, value = pl.col(f"field_{place}"), pl.col(f"value_{place}")
    if is_number:
        return piece.str.starts_with(key) & value.str.contains(_NUMBER)
    quoted = pl.col(f"quoted_{place}") & ~value.str.contains('"', literal=True)
    return quoted | (piece == f"{key}null")


def _value(place: int, *, is_number: bool) -> pl.Expr:
    value = pl.col(f"value_{place}")
    return value if is_number else pl.when(f"quoted_{place}").then(value)
