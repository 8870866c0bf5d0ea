"""Frames to JSON: one object per row, as the topics and `egresslens parse` carry it."""

from __future__ import annotations

import polars as pl


def json_rows(frame: pl.DataFrame) -> pl.Series:
    """One JSON object (String) per row, the columns as its keys; times as `2026-01-02T03:04:05.678Z`."""
    times = [
        pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.Datetime)
    ]
    return frame.with_columns(times).select(pl.struct(pl.all()).struct.json_encode()).to_series()
