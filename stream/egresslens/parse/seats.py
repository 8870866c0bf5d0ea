"""Seats: every part of a message that holds several gets a `seq` of its own.

Parts of one line arrive together, in order, under that line's `seq`. The first keeps it, the others take the
message's next free numbers, so a message's numbers follow from its bytes alone.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from egresslens.outcome import Filtered, Reject
from egresslens.parse.stage import LINES, Stage, filtered, rejected

# A part that is no line carries its fate: why it is rejected (and which field is to blame) or filtered.
FATE: Final[dict[str, pl.DataType]] = {"reason": pl.String(), "field": pl.String()}
PARTS: Final[dict[str, pl.DataType]] = {**LINES, **FATE}

_FILTERED: Final = tuple(reason.value for reason in Filtered)


class Seats:
    """The numbers taken in the messages of one batch that hold several records."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._taken: dict[int, int] = {}
        self.refused: set[int] = set()
        """Messages with more records than the bound: nothing of them counts."""

    def take(self, parts: pl.DataFrame) -> tuple[pl.DataFrame, Stage]:
        """Number `parts` (PARTS; those of one line in order): (LINES, the parts that are none)."""
        if parts.is_empty():
            return pl.DataFrame(schema=LINES), Stage()
        parts = parts.sort("message", "seq", maintain_order=True)
        later = pl.int_range(pl.len()).over("message", "seq") > 0
        parts = parts.with_columns(later.alias("later"))
        parts = parts.with_columns(pl.col("later").cum_sum().over("message").alias("nth"))
        totals = parts.group_by("message", maintain_order=True).agg(pl.col("nth").last())
        free = []
        for message, added in totals.rows():
            first = self._taken.get(message, 1)
            free.append(first)
            self._taken[message] = first + added
            if first + added > self._bound:
                self.refused.add(message)
        totals = totals.select("message", pl.Series("free", free, pl.Int64()))
        parts = parts.join(totals, on="message", how="left", maintain_order="left")
        seq = pl.when("later").then(pl.col("free") + pl.col("nth") - 1).otherwise("seq")
        parts = parts.with_columns(seq.cast(pl.Int32).alias("seq"))
        parts = parts.filter(~pl.col("message").is_in(sorted(self.refused)))
        doomed = parts.filter(pl.col("reason").is_not_null())
        meant = pl.col("reason").is_in(_FILTERED)
        stage = filtered(doomed.filter(meant), pl.col("reason"))
        for reason in Reject:
            stage += rejected(doomed.filter(pl.col("reason") == reason.value), reason, pl.col("field"))
        return parts.filter(pl.col("reason").is_null()).select(list(LINES)), stage

    def refuse(self, stage: Stage) -> Stage:
        """Take back what refused messages gave before they were known to be too large, and reject them."""
        if not self.refused:
            return stage
        refused = sorted(self.refused)
        kept = ~pl.col("message").is_in(refused)
        place = pl.DataFrame({"message": refused, "seq": 0}, schema={"message": pl.UInt32, "seq": pl.Int32})
        return Stage(
            [frame.filter(kept) for frame in stage.records],
            [frame.filter(kept) for frame in stage.rejects],
            [frame.filter(kept) for frame in stage.filtered],
            [frame.filter(kept) for frame in stage.lines],
            stage.forgiven,
        ) + rejected(place, Reject.TOO_LARGE)
