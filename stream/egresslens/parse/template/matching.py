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
from egresslens.parse.template.operators import ALWAYS
from egresslens.parse.template.slots import Pieces, Slot, slots_of

_WHOLE: Final = "~"
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
    _forgive_ends(pieces, shapes, longest=longest)
    return rf"\A({''.join(shapes)})\z"


def _forgive_ends(pieces: Pieces, shapes: list[str], *, longest: bool) -> None:
    """Texts come stripped: a value that is empty at either end took the space beside it along."""
    at = len(pieces) - 1
    # The longest reading would give everything to an open slot and find the rest empty.
    while at >= 1 and _may_go(pieces[at]) and not (longest and _open(pieces[at - 2])):
        before = pieces[at - 1]
        if not isinstance(before, str) or not before[-1].isspace():
            break
        kept = before.rstrip()
        shapes[at - 1 :] = [f"{literal(kept)}(?:{literal(before[len(kept) :])}{''.join(shapes[at:])})?"]
        if kept:
            break
        at -= 2
    end, at = len(shapes), 0
    while at + 1 < end - 1 and _may_go(pieces[at]):
        behind = pieces[at + 1]
        if not isinstance(behind, str) or not behind[0].isspace():
            break
        kept = behind.lstrip()
        space = literal(behind[: len(behind) - len(kept)])
        shapes[: at + 2] = [*[""] * (at + 1), f"(?:{''.join(shapes[: at + 1])}{space})?{literal(kept)}"]
        if kept:
            break
        at += 2


def _may_go(piece: str | Slot) -> bool:
    """Whether a piece may be empty."""
    return isinstance(piece, Slot) and piece.operator.name not in ALWAYS


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
    rows = _groups(texts, regex(pieces, relaxed=relaxed), wanted)
    fits = rows[_WHOLE].is_not_null()
    for slot in wanted:
        if slot.limit is not None:
            fits &= rows[slot.column].str.len_chars().le(slot.limit).fill_null(value=True)
    damage = pl.lit(None, pl.String)
    deciding = [slot.column for slot in wanted if slot.decides]
    if deciding and fits.any() and (relaxed or not one_reading(pieces)):
        other = _groups(texts, regex(pieces, relaxed=relaxed, longest=True), wanted)
        same = other[_WHOLE].is_null() | pl.all_horizontal(
            pl.col(name).eq_missing(pl.lit(other[name])) for name in deciding
        )
        damage = pl.when(~same).then(pl.lit(Damage.AMBIGUOUS.value))
    return rows.with_columns(damage.alias("damage")).drop(_WHOLE), fits


def _groups(texts: pl.Series, pattern: str, wanted: list[Slot]) -> pl.DataFrame:
    table = texts.str.extract_groups(pattern).struct.unnest()
    names = [_WHOLE, *(slot.column for slot in wanted)]
    return table.rename(dict(zip(table.columns, names, strict=True)))
