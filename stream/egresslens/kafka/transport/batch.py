"""The records of one partition and poll, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Records of one partition in offset order; never empty. The columns have one length.

    Offsets may have holes (compaction, transactions); `next_offset` is where the next batch begins to look,
    and what is committed once this batch is acked.
    """

    topic: str
    partition: int
    generation: int
    """The consumer group's generation the records were fetched under."""
    offsets: npt.NDArray[np.int64]
    timestamps: npt.NDArray[np.int64]
    """Milliseconds since the epoch, as the Kafka record says; -1 where it says nothing."""
    values: list[bytes | None]
    """None is a tombstone."""
    headers: Mapping[int, Headers]
    """Row number -> Kafka headers, for the rows that have any."""
    size: int
    """Bytes of all values."""
    next_offset: int

    def __len__(self) -> int:
        return len(self.values)

    @property
    def first_offset(self) -> int:
        """Offset of the first record."""
        return int(self.offsets[0])

    @property
    def last_offset(self) -> int:
        """Offset of the last record."""
        return int(self.offsets[-1])

    def __repr__(self) -> str:
        where = f"{self.topic}/{self.partition}"
        return f"<Batch {where} {self.first_offset}-{self.last_offset}, {len(self)} records>"


def int_array(values: Any) -> npt.NDArray[np.int64]:
    """A column of 64-bit integers."""
    return np.asarray(values, dtype=np.int64)
