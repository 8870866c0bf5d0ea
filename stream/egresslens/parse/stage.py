"""The frames that flow between the steps of parsing.

A step takes lines and returns a `Stage`: every line it was given comes back exactly once, as a record, a
reject, filtered, or as one or more lines for the next step (an unwrapped envelope).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from egresslens.outcome import Filtered, Reject
from egresslens.parse.damage import Damage
from egresslens.record import PARSED, TIMESTAMP

# Which message a row came from, and which record inside it.
PLACE: Final[dict[str, pl.DataType]] = {"message": pl.UInt32(), "seq": pl.Int32()}

# What an envelope says about the line it carries.
ENVELOPE: Final[dict[str, pl.DataType]] = {
    "envelope_time": TIMESTAMP,
    "source_cluster": pl.String(),
    "source_namespace": pl.String(),
    "source_workload": pl.String(),
    "source_pod": pl.String(),
    "source_region": pl.String(),
    "source_zone": pl.String(),
    "source_role": pl.String(),
    "source_pod_ip": pl.String(),
}

LINES: Final[dict[str, pl.DataType]] = {**PLACE, **ENVELOPE, "text": pl.String()}
RECORDS: Final[dict[str, pl.DataType]] = {
    **PLACE,
    "envelope_time": TIMESTAMP,
    "source_role": pl.String(),
    "source_pod_ip": pl.String(),
    # `inbound` or `outbound`, where the proxy says so itself (ztunnel) instead of naming a cluster.
    "direction": pl.String(),
    **PARSED,
}
REJECTS: Final[dict[str, pl.DataType]] = {**PLACE, "reason": pl.String(), "field": pl.String()}
FILTERED: Final[dict[str, pl.DataType]] = {**PLACE, "reason": pl.String()}
FORGIVEN: Final[dict[str, pl.DataType]] = {**PLACE, "forgiven": pl.String()}


@dataclass(frozen=True)
class Stage:
    """Results of one step. Frames have the columns of RECORDS, REJECTS, FILTERED, LINES and FORGIVEN."""

    records: Sequence[pl.DataFrame] = ()
    rejects: Sequence[pl.DataFrame] = ()
    filtered: Sequence[pl.DataFrame] = ()
    lines: Sequence[pl.DataFrame] = ()
    forgiven: Sequence[pl.DataFrame] = ()
    """Damage of lines that come back mended, for the records they become."""

    def __add__(self, other: Stage) -> Stage:
        return Stage(
            [*self.records, *other.records],
            [*self.rejects, *other.rejects],
            [*self.filtered, *other.filtered],
            [*self.lines, *other.lines],
            [*self.forgiven, *other.forgiven],
        )


def rejected(rows: pl.DataFrame, reason: Reject, field: str | pl.Expr | None = None) -> Stage:
    """Reject `rows` (any frame with PLACE) for one reason; `field` names the offending field."""
    if rows.is_empty():
        return Stage()
    named = field if isinstance(field, pl.Expr) else pl.lit(field, pl.String)
    return Stage(
        rejects=[rows.select("message", "seq", pl.lit(reason.value).alias("reason"), named.alias("field"))]
    )


def filtered(rows: pl.DataFrame, reason: Filtered | pl.Expr) -> Stage:
    """Filter `rows` (any frame with PLACE); a reason may be an expression over them."""
    if rows.is_empty():
        return Stage()
    expression = reason if isinstance(reason, pl.Expr) else pl.lit(reason.value)
    return Stage(filtered=[rows.select("message", "seq", expression.alias("reason"))])


def mended(lines: pl.DataFrame, texts: Sequence[str], damage: Damage) -> Stage:
    """Lines to be read again, with other texts; what they become is flagged."""
    return Stage(
        lines=[lines.with_columns(pl.Series("text", texts, dtype=pl.String))],
        forgiven=[lines.select(*PLACE, pl.lit(damage.value).alias("forgiven"))],
    )


def flagged(records: pl.DataFrame, forgiven: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Records (RECORDS) with what was forgiven before (FORGIVEN, as it was found), then their own damage."""
    if not forgiven:
        return records
    marks = (
        pl.concat(forgiven)
        .group_by(list(PLACE), maintain_order=True)
        .agg(pl.col("forgiven").unique(maintain_order=True))
    )
    found = records.join(marks, on=list(PLACE), how="left", maintain_order="left")
    own = pl.col("damage").str.split(",").fill_null([])
    every = pl.col("forgiven").fill_null([]).list.concat(own).list.unique(maintain_order=True)
    return found.with_columns(
        pl.when(pl.col("forgiven").is_not_null())
        .then(every.list.join(","))
        .otherwise("damage")
        .alias("damage")
    ).select(list(RECORDS))


def trimmed(texts: pl.Series) -> pl.Series:
    """The texts without white space around them; whole objects, which most are, have none."""
    whole = (texts.str.starts_with("{") & texts.str.ends_with("}")).all()
    return texts if whole else texts.str.strip_chars()


def gather(frames: Sequence[pl.DataFrame], schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """Put frames together under `schema`, in message order."""
    full = [frame for frame in frames if not frame.is_empty()]
    if not full:
        return pl.DataFrame(schema=schema)
    frame = pl.concat([frame.select(list(schema)) for frame in full])
    place = frame.select(pl.col("message").cast(pl.Int64) * 2**32 + pl.col("seq")).to_series()
    return frame if place.is_sorted() else frame.sort("message", "seq")
