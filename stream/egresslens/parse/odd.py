"""The exact way, one line at a time: for lines that no columnar layout fits."""

from __future__ import annotations

import polars as pl

from egresslens.outcome import Reject
from egresslens.parse.stage import Stage, rejected
from egresslens.rules import Rules


def step(lines: pl.DataFrame, rules: Rules) -> Stage:
    """Read odd lines (LINES)."""
    del rules
    return rejected(lines, Reject.UNKNOWN_FORMAT)
