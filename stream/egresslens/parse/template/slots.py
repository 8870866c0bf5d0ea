"""An operator in its place in a format: the column its text goes to, and what its text looks like."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import polars as pl

from egresslens.parse.template.grammar import Operator, Token
from egresslens.parse.template.operators import Kind
from egresslens.parse.template.strftime import Time

# A longer limit is not worth the size of its automaton; every length is tested afterwards in any case.
_MAX_REPEAT: Final = 256

_SHAPES: Final[dict[Kind, str]] = {
    Kind.INT: "-?[0-9]*",
    Kind.FLAGS: "-?[A-Za-z0-9_,]*",
    Kind.PROTOCOL: "(?:HTTP/[0-9.]+|-)?",
    # Four parts between three pipes, or no pipe at all.
    Kind.CLUSTER: r'(?:[a-z0-9_-]+\|[0-9]*\|[^|\n]*\|[^|" \t\n]*|[^" \t\n]*)',
    Kind.WORD: '[^" \t\n]*',
    Kind.PATH: "[^ \t\n]*",
}
# Delimiters that a text beside them does not hold, as a rule; spaces, tabs and quotes its shape says.
_BARRING: Final = "|;,"
_BARRED: Final = frozenset({Kind.WORD, Kind.PATH, Kind.TEXT, Kind.CLUSTER})
_MULTI_LINE: Final = frozenset({"LOCAL_REPLY_BODY", "FILE_CONTENT", "SECRET"})
# Kinds whose texts tell by themselves where they end.
_CLOSED: Final = frozenset({Kind.PROTOCOL, Kind.TIME})
_DIGITS_AND_NAMES: Final = frozenset({Kind.INT, Kind.FLAGS})


@dataclass(frozen=True)
class Slot:
    """An operator in its place.

    wanted: whether its text is a field's; other operators are read over.
    decides: whether a label, a host or a count depends on it (a user agent's text does not).
    quoted: whether there are double quotes directly before and behind it.
    barred: delimiters beside it, which its text does not hold as a rule.
    cut_at: for a part of a time, the delimiter it prints and was cut at.
    """

    column: str
    operator: Operator
    kind: Kind
    wanted: bool
    decides: bool
    quoted: bool = False
    barred: str = ""
    cut_at: str | None = None

    @cached_property
    def time(self) -> Time:
        """Its strftime, where `kind` is TIME."""
        return Time.of(self.operator)

    @property
    def limit(self) -> int | None:
        """Its maximum length in bytes; structures in metadata and filter states are never cut."""
        structured = "METADATA" in self.operator.name or "FILTER_STATE" in self.operator.name
        return None if structured else self.operator.max_length

    def shape(self, *, relaxed: bool, longest: bool) -> str:
        """Regular expression of its text, without groups.

        Args:
            relaxed: whether texts may hold the spaces, quotes and delimiters that they hold not as a rule.
            longest: whether texts without a shape of their own reach as far as they can, not as short.
        """
        if self.cut_at is not None:
            return "[^\n]*?"
        if self.kind is Kind.TIME:
            return f"(?:{self.time.pattern}|-)?"
        shape = _SHAPES.get(self.kind)
        if self.kind is Kind.TEXT:
            shape = '[^"\n]*' if self.quoted else '[^" \t\n]*'
        if shape and not self.open(relaxed=relaxed):
            if self.kind in _BARRED and not relaxed:
                # The last set of a shape is that of the whole text.
                head, _, tail = shape.rpartition("[^")
                shape = f"{head}[^{self.barred}{tail}"
            return self._limited(shape)
        reach = "" if longest else "?"
        return (r"(?s:.*)" if self.operator.name in _MULTI_LINE else self._limited("[^\n]*")) + reach

    def open(self, *, relaxed: bool) -> bool:
        """Whether its text may be anything at all, so that only what follows ends it."""
        loose = {Kind.HEADER, Kind.PROSE, *({Kind.TEXT, Kind.PATH} if relaxed else ())}
        return self.kind in loose

    def never_holds(self, char: str) -> bool:
        """Whether its text, by its shape (not relaxed), never holds a character."""
        if self.kind in _CLOSED:
            return True
        if self.kind is Kind.TEXT and self.quoted:
            return char == '"'
        if self.kind is Kind.INT:
            return char not in "-0123456789"
        if self.kind is Kind.FLAGS:
            return not char.isalnum() and char not in "-_,"
        return char in f" \t{self.barred}" or (char == '"' and self.kind is not Kind.PATH)

    def _limited(self, shape: str) -> str:
        if self.limit is None or self.limit > _MAX_REPEAT or not shape.endswith("]*"):
            return shape
        return f"{shape[:-1]}{{0,{self.limit}}}"

    def tests(self, text: pl.Expr) -> list[pl.Expr]:
        """Tests of a text that was cut out by its delimiters."""
        tests: list[pl.Expr] = []
        if self.limit is not None:
            tests.append(text.str.len_chars() <= self.limit)
        if self.kind is Kind.INT:
            tests.append(text.cast(pl.Int64, strict=False).is_not_null() | text.is_in(["-", ""]))
        elif self.kind is Kind.PROTOCOL:
            tests.append(text.str.starts_with("HTTP/") | text.is_in(["-", ""]))
        elif self.kind is Kind.TIME and self.cut_at is None:
            tests.append(self.time.fits(text) | (text == "-"))
        return tests


Pieces = Sequence["str | Slot"]


def in_place(tokens: Sequence[Token], slots: Sequence[Slot]) -> tuple[str | Slot, ...]:
    """The tokens with a slot for each operator, in order."""
    waiting = iter(slots)
    pieces: list[str | Slot] = []
    for before, token, behind in zip(("", *tokens), tokens, (*tokens[1:], ""), strict=False):
        if isinstance(token, str):
            pieces.append(token)
            continue
        beside = {literal for literal in (_last(before), _first(behind)) if literal}
        barred = "".join(char for char in _BARRING if char in beside)
        pieces.append(replace(next(waiting), quoted=_last(before) == _first(behind) == '"', barred=barred))
    return tuple(pieces)


def _last(token: Token) -> str:
    return token[-1:] if isinstance(token, str) else ""


def _first(token: Token) -> str:
    return token[:1] if isinstance(token, str) else ""


def slots_of(pieces: Pieces) -> list[Slot]:
    """The slots alone."""
    return [piece for piece in pieces if isinstance(piece, Slot)]


def unbounded(pieces: Pieces) -> tuple[Slot, Slot] | None:
    """The first two operators between which nothing tells where one ends and the other begins."""
    for one, other in itertools.pairwise(pieces):
        if isinstance(one, str) or isinstance(other, str):
            continue
        kinds = {one.kind, other.kind}
        if not kinds & _CLOSED and kinds != _DIGITS_AND_NAMES:
            return one, other
    return None
