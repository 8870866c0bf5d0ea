"""Readings: what was made of single lines, one at a time, and the frame they become."""

from __future__ import annotations

from typing import Final, NamedTuple

import polars as pl

from egresslens.parse.damage import Damage
from egresslens.parse.values import TEXT_FIELDS

# What a line of text says by itself; the envelope says who sent it.
FIELDS: Final = tuple(name for name in TEXT_FIELDS if not name.startswith("source_"))


class Reading(NamedTuple):
    """A line's fields as text (names of values.TEXT_FIELDS), the layout they came in, what was forgiven."""

    fields: dict[str, str]
    format: str
    damage: tuple[Damage, ...] = ()


def rows(lines: pl.DataFrame, readings: list[Reading]) -> pl.DataFrame:
    """Put readings beside the lines (LINES) they come from, as `values.typed` takes them."""
    return lines.drop("text").with_columns(
        *(pl.Series(name, [reading.fields.get(name) for reading in readings], pl.String) for name in FIELDS),
        pl.Series("format", [reading.format for reading in readings], pl.String),
        pl.Series(
            "damage",
            [",".join(damage.value for damage in reading.damage) or None for reading in readings],
            pl.String,
        ),
    )
