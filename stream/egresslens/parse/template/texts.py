"""Text formats: `accessLogFormat` with TEXT encoding, `envoyFileAccessLog.logFormat.text`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from egresslens.parse.stage import ENVELOPE, PLACE
from egresslens.parse.template import fields, operators
from egresslens.parse.template.grammar import FormatError, Operator, tokens
from egresslens.parse.template.operators import Kind
from egresslens.parse.template.pattern import Pattern
from egresslens.parse.template.slots import Slot, in_place, slots_of, unbounded


@dataclass(frozen=True)
class TextFormat:
    """A compiled text format; `name` is what records of it carry as `format`."""

    name: str
    pattern: Pattern

    @cached_property
    def reads(self) -> list[fields.Read]:
        """Its operators, with their columns."""
        return reads(slots_of(self.pattern.pieces))

    @cached_property
    def rooted(self) -> bool:
        """Whether it tells where its lines begin, so that no prefix is taken for a value."""
        first = self.pattern.pieces[0]
        return isinstance(first, str) or first.kind is Kind.TIME

    @cached_property
    def _begins(self) -> pl.Expr:
        """Whether a line can be of this format, by its first character."""
        first = self.pattern.pieces[0]
        if isinstance(first, str):
            return pl.col("text").str.starts_with(first)
        # What begins with a brace is an object, often a shipper's, and would fit what fits everything.
        return ~pl.col("text").str.starts_with("{")

    def read(self, lines: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Split lines into those of this format and the others.

        Args:
            lines: LINES.

        Returns:
            (what `values.typed` takes, the other lines unchanged)
        """
        similar = lines.select(self._begins).to_series()
        if similar.all():
            rows, others = self.pattern.read(lines, "text")
        else:
            rows, others = self.pattern.read(lines.filter(similar), "text")
            others = pl.concat([lines.filter(~similar), others])
        return named(rows, self.reads, self.name), others


def named(rows: pl.DataFrame, operators_read: Sequence[fields.Read], name: str) -> pl.DataFrame:
    """Rows with a column per operator and `damage`, as `values.typed` takes them."""
    if rows.is_empty():
        return rows
    found = fields.expressions(operators_read)
    return fields.identified(rows, operators_read).select(
        *PLACE,
        *ENVELOPE,
        "damage",
        *(value.alias(field) for field, value in found.items()),
        pl.lit(name).alias("format"),
    )


def reads(slots: Sequence[Slot]) -> list[fields.Read]:
    """What the operators in slots mean."""
    return [fields.Read(slot.column, slot.operator, operators.meaning(slot.operator)) for slot in slots]


def text_format(name: str, source: str) -> TextFormat:
    """Compile a text format.

    Raises:
        FormatError: it cannot be read back.
    """
    return TextFormat(name, pattern(stripped(source)))


def stripped(source: str) -> str:
    r"""A format as its lines come: without space around it.

    Istio adds the newline where it is missing; in an environment variable it is often written as `\n`.
    """
    return source.strip().removesuffix("\\n").strip()


def pattern(source: str, first: int = 0) -> Pattern:
    """Compile one format string; its slots' columns are `#first` and on.

    Raises:
        FormatError: it cannot be read back.
    """
    read = tokens(source)
    found = [token for token in read if isinstance(token, Operator)]
    slots = [_slot(f"#{index}", operator, source) for index, operator in enumerate(found, first)]
    pieces = in_place(read, slots)
    if touching := unbounded(pieces):
        one, other = (slot.operator for slot in touching)
        raise FormatError(
            f"{one} and {other} touch, so nothing tells where the first ends and the second begins: "
            "put a literal between them (a space, or quotes around each)",
            source,
            other.position,
        )
    return Pattern(pieces)


def _slot(column: str, operator: Operator, source: str) -> Slot:
    if operator.name in operators.NEEDS_ARGS and not operator.args:
        raise FormatError(
            f"{operator} needs an argument, such as %{operator.name}(NAME)%", source, operator.position
        )
    meaning = operators.meaning(operator)
    wanted = meaning.target is not None
    decides = wanted and meaning.target not in fields.INDIFFERENT
    return Slot(column, operator, meaning.kind, wanted, decides)
