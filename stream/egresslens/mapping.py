"""What a column repeats is done once: a small scalar rule for each distinct value; or there is but one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl


def map_unique(
    frame: pl.DataFrame,
    column: str,
    rule: Callable[[str | None], Sequence[object]],
    schema: dict[str, pl.DataType],
) -> pl.DataFrame:
    """Add the columns of `schema`, which `rule` gives for each value of `column` (null included).

    Thousands of records hold dozens of values, so the rule may be plain Python.
    """
    distinct = frame[column].unique()
    results = pl.DataFrame([rule(value) for value in distinct], schema=schema, orient="row")
    return frame.join(
        results.with_columns(distinct.alias(column)),
        on=column,
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )


def is_one(column: pl.Series) -> bool:
    """Whether there are values and all are the same (lists only where all are absent)."""
    if column.null_count():
        return column.null_count() == column.len()
    if column.is_empty() or column.dtype.is_nested() or column[0] != column[-1]:
        return False
    return bool((column == column[0]).all())
