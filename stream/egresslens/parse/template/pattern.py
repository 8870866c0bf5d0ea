"""A compiled format string: one column of texts into one column per operator."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from egresslens.parse.template import cutting
from egresslens.parse.template.matching import match
from egresslens.parse.template.operators import Kind
from egresslens.parse.template.slots import Slot, slots_of


@dataclass(frozen=True)
class Pattern:
    """A format string as literals and slots."""

    pieces: tuple[str | Slot, ...]

    @cached_property
    def _cuts(self) -> cutting.Cuts | None:
        return cutting.plan(self.pieces)

    @cached_property
    def _passes(self) -> tuple[bool, ...]:
        """Strictly first; then relaxed, if that makes a difference."""
        slots = slots_of(self.pieces)
        differs = any(slot.barred or slot.kind in (Kind.TEXT, Kind.PATH) for slot in slots)
        return (False, True) if differs else (False,)

    def read(self, rows: pl.DataFrame, column: str) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Take the texts of a column apart.

        Args:
            rows: any frame without a column `damage`.
            column: its column with the texts; a null fits nothing.

        Returns:
            (rows that fit, with a column for every wanted slot, and `damage`: `ambiguous` where a hostile
            value leaves open which of several readings is true; rows that do not fit, unchanged)
        """
        found: list[pl.DataFrame] = []
        if self._cuts is not None:
            values, fits = self._cuts.apply(rows[column])
            if fits.any():
                if fits.all():
                    return rows.hstack(values), rows.clear()
                found.append(rows.filter(fits).hstack(values.filter(fits)))
                rows = rows.filter(~fits)
        for relaxed in self._passes:
            if rows.is_empty():
                break
            values, fits = match(rows[column], self.pieces, relaxed=relaxed)
            if fits.any():
                found.append(rows.filter(fits).hstack(values.filter(fits)))
                rows = rows.filter(~fits)
        if found:
            return pl.concat(found), rows
        names = [*(slot.column for slot in slots_of(self.pieces) if slot.wanted), "damage"]
        return rows.clear().with_columns(pl.lit(None, pl.String).alias(name) for name in names), rows
