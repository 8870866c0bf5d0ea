"""Texts cut at their delimiters, column by column: the quick way.

A text is cut at its quotes first, then each piece at its spaces, and so on, and must come apart into exactly
as many pieces as the format has. The counts are equal only if no value holds the delimiter, so a text that
comes apart is read right, whatever its values are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import polars as pl

from egresslens.parse.template.matching import regex
from egresslens.parse.template.operators import Kind
from egresslens.parse.template.slots import Pieces, Slot, slots_of

# Preferred first: what values hold least.
_DELIMITERS: Final = '" \t|;,'
_TEXT: Final = "~"
_SPACELESS: Final = frozenset({Kind.WORD, Kind.CLUSTER, Kind.PATH})


@dataclass
class _Draft:
    rounds: list[list[pl.Expr]] = field(default_factory=list)
    tests: list[pl.Expr] = field(default_factory=list)
    parts: dict[str, list[tuple[pl.Expr, str]]] = field(default_factory=dict)
    names: Iterator[str] = field(default_factory=lambda: (f"~{i}" for i in itertools.count()))


@dataclass(frozen=True)
class Cuts:
    """Expressions over a column `~`.

    rounds: columns to add, round after round.
    tests: all true where a text is of the format.
    values: column name -> text, of the wanted slots.
    """

    rounds: tuple[tuple[pl.Expr, ...], ...]
    tests: tuple[pl.Expr, ...]
    values: dict[str, pl.Expr]

    def apply(self, texts: pl.Series) -> tuple[pl.DataFrame, pl.Series]:
        """Cut texts.

        Returns:
            (the wanted slots' texts and `damage`, or an empty frame where no text fits; which texts fit)
        """
        frame = texts.alias(_TEXT).to_frame()
        for expressions in self.rounds:
            frame = frame.with_columns(expressions)
        fits = frame.select(pl.all_horizontal(self.tests).fill_null(value=False)).to_series()
        if not fits.any():
            return pl.DataFrame(), fits
        undamaged = pl.lit(None, pl.String).alias("damage")
        values = (value.alias(name) for name, value in self.values.items())
        return frame.with_columns(undamaged).select(*values, "damage"), fits


def plan(pieces: Pieces) -> Cuts | None:
    """How to cut texts of a format, or None where a value that usually holds spaces would be cut at them."""
    if not _worthwhile(pieces):
        return None
    draft = _Draft(tests=[pl.col(_TEXT).is_not_null()])
    _cut(draft, pieces, pl.col(_TEXT), "")
    values: dict[str, pl.Expr] = {}
    for slot in slots_of(pieces):
        value = _joined(draft.parts[slot.column])
        draft.tests += slot.tests(value)
        if slot.wanted:
            values[slot.column] = value
    return Cuts(tuple(map(tuple, draft.rounds)), tuple(draft.tests), values)


def _worthwhile(pieces: Pieces) -> bool:
    for before, piece, behind in zip(("\t", *pieces), pieces, (*pieces[1:], "\t"), strict=False):
        if isinstance(piece, Slot) and piece.kind is Kind.PROSE and not piece.quoted:
            neighbours = [literal for literal in (before, behind) if isinstance(literal, str)]
            if not all(any(char in literal for char in '"\t|') for literal in neighbours):
                return False
    return True


def _joined(parts: list[tuple[pl.Expr, str]]) -> pl.Expr:
    if len(parts) == 1:
        return parts[0][0]
    return pl.concat_str([part for part, _ in parts], separator=parts[0][1])


def _cut(draft: _Draft, pieces: Pieces, text: pl.Expr, cut_at: str) -> None:
    """Add what cuts `text` into `pieces`; `cut_at` are the delimiters it was cut at before, one per round."""
    slots = slots_of(pieces)
    if not slots:
        draft.tests.append(text == "".join(piece for piece in pieces if isinstance(piece, str)))
        return
    if len(slots) == 1 and not _holds_quote(pieces):
        _strip(draft, pieces, text, cut_at)
        return
    depth = len(cut_at)
    by = _delimiter(pieces)
    name = next(draft.names)
    if len(draft.rounds) == depth:
        draft.rounds.append([])
    if by is None:
        draft.rounds[depth].append(text.str.extract_groups(regex(pieces, every=True)).alias(name))
        draft.tests.append(pl.col(name).struct[0].is_not_null())
        for index, slot in enumerate(slots, 1):  # the first group is the whole
            _found(draft, slot, pl.col(name).struct[index])
        return
    parts = _split(pieces, by)
    # One piece more than there should be, to see that it is not there.
    draft.rounds[depth].append(text.str.split_exact(by, len(parts)).alias(name))
    cut = pl.col(name).struct
    draft.tests += [cut[len(parts) - 1].is_not_null(), cut[len(parts)].is_null()]
    for index, part in enumerate(parts):
        _cut(draft, part, cut[index], cut_at + by)


def _holds_quote(pieces: Pieces) -> bool:
    return any('"' in piece for piece in pieces if isinstance(piece, str))


def _strip(draft: _Draft, pieces: Pieces, text: pl.Expr, cut_at: str) -> None:
    """One slot, and perhaps a literal before and behind it."""
    at = next(i for i, piece in enumerate(pieces) if isinstance(piece, Slot))
    before = "".join(piece for piece in pieces[:at] if isinstance(piece, str))
    behind = "".join(piece for piece in pieces[at + 1 :] if isinstance(piece, str))
    value = text
    if before:
        draft.tests.append(text.str.starts_with(before))
        value = value.str.strip_prefix(before)
    if behind:
        draft.tests.append(value.str.ends_with(behind))
        value = value.str.strip_suffix(behind)
    slot = slots_of(pieces)[0]
    if slot.kind in _SPACELESS and not slot.quoted and " " not in cut_at:
        draft.tests.append(~value.str.contains(" ", literal=True))
    _found(draft, slot, value)


def _found(draft: _Draft, slot: Slot, value: pl.Expr) -> None:
    draft.parts.setdefault(slot.column, []).append((value, slot.cut_at or ""))


def _delimiter(pieces: Pieces) -> str | None:
    """The character to cut at: quotes, else the one that separates most; None where operators only touch."""
    if _holds_quote(pieces):
        return '"'
    first = next(i for i, piece in enumerate(pieces) if isinstance(piece, Slot))
    last = max(i for i, piece in enumerate(pieces) if isinstance(piece, Slot))
    between = [piece for piece in pieces[first:last] if isinstance(piece, str)]
    chars = dict.fromkeys([*_DELIMITERS, *"".join(between)])
    best = max(chars, key=lambda char: sum(char in literal for literal in between))
    return best if any(best in literal for literal in between) else None


def _split(pieces: Pieces, by: str) -> list[list[str | Slot]]:
    """Pieces between the delimiters; a time that prints the delimiter comes apart as well."""
    parts: list[list[str | Slot]] = [[]]
    for piece in pieces:
        if isinstance(piece, str):
            first, *rest = piece.split(by)
        elif piece.kind is Kind.TIME and piece.cut_at is None and (count := piece.time.count(by)):
            part = replace(piece, cut_at=by)
            parts[-1].append(part)
            parts += [[part] for _ in range(count)]
            continue
        else:
            parts[-1].append(piece)
            continue
        if first:
            parts[-1].append(first)
        parts += [[literal] if literal else [] for literal in rest]
    return parts
