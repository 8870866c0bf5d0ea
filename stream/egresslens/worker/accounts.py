"""What became of each partition's messages: absolute counts, true at `last_offset`.

They make the proof that nothing was lost: messages and gaps together are the offsets passed, and every
message is one with records, one rejected, or one filtered (design section 3, "progress").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from egresslens.clickhouse.frames import PROGRESS
from egresslens.enrich import Enriched

REASONS: Final = ("filtered", "rejected", "past_retention")


@dataclass
class Account:
    """The counts of one partition of one stream epoch."""

    stream_epoch: str
    topic: str
    partition: int
    first_offset: int | None = None
    last_offset: int = -1
    messages: int = 0
    messages_with_records: int = 0
    messages_filtered: int = 0
    messages_rejected: int = 0
    records: int = 0
    events: int = 0
    gaps: int = 0
    rules_version: int | None = None
    """Rules that counted last, as stored; None before anything is."""
    filtered: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    past_retention: Counter[str] = field(default_factory=Counter)
    refused: frozenset[tuple[int, int]] = frozenset()
    """Offset and seq of records beyond `last_offset` that ClickHouse refused for good before a restart."""

    def pass_offsets(self, offsets: npt.NDArray[np.int64]) -> None:
        """Count messages at these offsets (ascending, beyond `last_offset`) and the holes between them."""
        first, last = int(offsets[0]), int(offsets[-1])
        if self.first_offset is None:
            self.first_offset, self.last_offset = first, first - 1
        self.gaps += last - self.last_offset - len(offsets)
        self.messages += len(offsets)
        self.last_offset = last


def settle(
    accounts: Sequence[Account],
    sizes: Sequence[int],
    enriched: Enriched,
    events: pl.Series,
    minutes: pl.Series,
) -> None:
    """Count what became of a unit's messages.

    Args:
        accounts: the account of each run of messages.
        sizes: how many messages each run has; the runs follow each other in the unit.
        enriched: what the unit became.
        events: which records are young enough for the events table.
        minutes: which records are young enough for the 1-minute windows.
    """
    total = sum(sizes)
    with_records = _marked(enriched.records["message"], total)
    rejected = _marked(enriched.rejects["message"], total) & ~with_records
    filtered = _marked(enriched.filtered["message"], total) & ~with_records & ~rejected
    records = enriched.records["message"].to_numpy()
    at = 0
    for account, size in zip(accounts, sizes, strict=True):
        account.messages_with_records += int(with_records[at : at + size].sum())
        account.messages_rejected += int(rejected[at : at + size].sum())
        account.messages_filtered += int(filtered[at : at + size].sum())
        low, high = np.searchsorted(records, [at, at + size])
        account.records += int(high - low)
        stored = int(events[low:high].sum())
        account.events += stored
        account.past_retention.update(
            _nonzero({"events": int(high - low) - stored, "windows_1m": int((~minutes[low:high]).sum())})
        )
        account.rejected.update(_reasons(enriched.rejects, at, size))
        account.filtered.update(_reasons(enriched.filtered, at, size))
        at += size


def frame(accounts: Sequence[Account], rules_version: int) -> pl.DataFrame:
    """Rows of frames.PROGRESS, for accounts with messages."""
    rows: list[dict[str, Any]] = [
        {
            **{name: getattr(account, name) for name in PROGRESS if name not in REASONS},
            "rules_version": rules_version,
            **{name: [{"key": k, "value": v} for k, v in getattr(account, name).items()] for name in REASONS},
        }
        for account in accounts
        if account.first_offset is not None
    ]
    return pl.DataFrame(rows, schema=PROGRESS)


def _marked(messages: pl.Series, total: int) -> npt.NDArray[np.bool_]:
    marks = np.zeros(total, np.bool_)
    marks[messages.to_numpy()] = True
    return marks


def _reasons(outcomes: pl.DataFrame, at: int, size: int) -> dict[str, int]:
    if outcomes.is_empty():
        return {}
    mine = outcomes.filter(pl.col("message").is_between(at, at + size - 1))
    return dict(mine["reason"].value_counts().iter_rows())


def _nonzero(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
