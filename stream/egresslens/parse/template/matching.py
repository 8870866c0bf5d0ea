"""Texts matched as a whole: the exact way for values that hold the delimiters.

One anchored regular expression: texts that a client chooses reach to the first place from which all the rest
still fits. Rust's engine is linear in the text, whatever a client sends. Where the longest reach would give
another value to a field that decides something, nobody can tell which is true: the row is marked.
"""

from __future__ import annotations

import itertools
import re
from typing import Final

import polars as pl

from egresslens.parse.damage import Damage
from egresslens.parse.template.operators import Kind
from egresslens.parse.template.slots import Pieces, Slot, slots_of

_SPECIAL: Final = re.compile(r"([\\.+*?()|\[\]{}^$])")


def literal(text: str) -> str:
    """A literal as a regular expression, for Python's engine and Rust's."""
    return _SPECIAL.sub(r"\\\1", text)


def regex(pieces: Pieces, *, every: bool = False, relaxed: bool = False, longest: bool = False) -> str:
    """Anchored regular expression: the first group is the whole, the others are slots in order.

    Args:
        pieces: the format.
        every: whether all slots have a group, or the wanted ones alone.
        relaxed: see `Slot.shape`.
        longest: see `Slot.shape`.
    """

    def shape(piece: str | Slot) -> str:
        if isinstance(piece, str):
            return literal(piece)
        inner = piece.shape(relaxed=relaxed, longest=longest)
        return f"({inner})" if every or piece.wanted else f"(?:{inner})"

    shapes = [shape(piece) for piece in pieces]
    _forgive_ends(pieces, shapes)
    return rf"\A({''.join(shapes)})\z"


def _forgive_ends(pieces: Pieces, shapes: list[str]) -> None:
    """Texts come stripped: a value that is empty at either end took its space along."""
    last = len(pieces) - 1
    while last >= 2 and _may_go(pieces[last], pieces[last - 1]) and not _open(pieces[last - 2]):
        shapes[last - 1] = f"(?:{shapes[last - 1]}{shapes[last]})?"
        shapes[last] = ""
        last -= 2
    first = 0
    while first + 2 < last and _may_go(pieces[first], pieces[first + 1]):
        shapes[first + 1] = f"(?:{''.join(shapes[: first + 2])})?"
        shapes[: first + 1] = [""] * (first + 1)
        first += 2


def _may_go(slot: str | Slot, space: str | Slot) -> bool:
    return (
        isinstance(slot, Slot) and slot.kind is not Kind.TIME and isinstance(space, str) and space.isspace()
    )


def _open(piece: str | Slot) -> bool:
    return isinstance(piece, Slot) and piece.open(relaxed=True)


def one_reading(pieces: Pieces) -> bool:
    """Whether a text that matches (not relaxed) can be read in one way only.

    One open slot at most: then everything before it is read from the left and everything behind it from the
    right, if every other slot meets a character there that it cannot hold.
    """
    at = [i for i, piece in enumerate(pieces) if isinstance(piece, Slot) and piece.open(relaxed=False)]
    if len(at) > 1:
        return False
    split = at[0] if at else len(pieces)
    pairs = list(itertools.pairwise(pieces))
    return all(
        not isinstance(one, Slot) or (isinstance(other, str) and one.never_holds(other[0]))
        for one, other in pairs[:split]
    ) and all(
        not isinstance(other, Slot) or (isinstance(one, str) and other.never_holds(one[-1]))
        for one, other in pairs[split:]
    )


def match(texts: pl.Series, pieces: Pieces, *, relaxed: bool) -> tuple[pl.DataFrame, pl.Series]:
    """Match texts.

    Returns:
        (the wanted slots' texts and `damage`, which texts fit)
    """
    wanted = [slot for slot in slots_of(pieces) if slot.wanted]
    rows, fits = _groups(texts, regex(pieces, relaxed=relaxed), wanted)
    for slot in wanted:
        if slot.limit is not None:
            fits &= rows[slot.column].str.len_chars().le(slot.limit).fill_null(value=True)
    damage = pl.lit(None, pl.String)
    deciding = [slot.column for slot in wanted if slot.decides]
    if deciding and fits.any() and (relaxed or not one_reading(pieces)):
        other, _ = _groups(texts, regex(pieces, relaxed=relaxed, longest=True), wanted)
        same = pl.all_horizontal(pl.col(name).eq_missing(pl.lit(other[name])) for name in deciding)
        damage = pl.when(~same).then(pl.lit(Damage.AMBIGUOUS.value))
    return rows.with_columns(damage.alias("damage")), fits


def _groups(texts: pl.Series, pattern: str, wanted: list[Slot]) -> tuple[pl.DataFrame, pl.Series]:
    table = texts.str.extract_groups(pattern).struct.unnest()
    fits = table.to_series(0).is_not_null()
    return table.drop(table.columns[0]).rename(
        dict(zip(table.columns[1:], (slot.column for slot in wanted), strict=True))
    ), fits
