"""What may be committed: a pure state machine, one first-in-first-out lane per partition.

Theory of operation. A lane is made when its partition is sought to a position, and replaced by a new one at
the next seek; it is dropped when the partition is revoked. Every batch that is handed out gets an entry at
the end of its lane, and must begin to look exactly where the previous one ended: anything else is a hole, and
past a hole nothing may be committed. Acks mark entries in any order. The offset to commit is the end of the
unbroken run of acked entries at the lane's head, and these entries leave the lane only when the commit has
succeeded. An ack or a commit that belongs to a replaced lane finds its entry void and changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Partition(NamedTuple):
    """A topic's partition; equal to Faust's `TP` and aiokafka's `TopicPartition` of the same values."""

    topic: str
    partition: int


class HoleError(RuntimeError):
    """A batch does not begin where the one before it ended: records were lost between fetch and delivery."""


@dataclass(eq=False, slots=True)
class Entry:
    """One batch between delivery and commit: `next` is the offset to commit once it is `done`."""

    next: int
    timestamp: int | None = None
    """Milliseconds since the epoch, as the batch's first record says."""
    done: bool = False
    void: bool = False


@dataclass(eq=False, slots=True)
class Lane:
    """The entries of one partition since it was last sought; `position` is where the next batch begins."""

    position: int
    entries: deque[Entry] = field(default_factory=deque)
    read: int | None = None
    """Timestamp of the last record handed out, as it says itself."""


class Ledger:
    """The lanes of all assigned partitions."""

    def __init__(self) -> None:
        self._lanes: dict[Partition, Lane] = {}

    def seek(self, positions: Mapping[Partition, int]) -> None:
        """Begin anew at these positions; what was handed out before is void."""
        self.forget(positions)
        for partition, position in positions.items():
            self._lanes[partition] = Lane(position)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Drop these partitions; what was handed out of them is void."""
        for partition in partitions:
            lane = self._lanes.pop(partition, None)
            for entry in lane.entries if lane else ():
                entry.void = True

    def clear(self) -> None:
        """Drop all partitions."""
        self.forget(list(self._lanes))

    def lanes(self) -> dict[Partition, Lane]:
        """The lanes as they are now; `is_current` tells later whether one still stands. Thread-safe."""
        return dict(self._lanes)

    def is_current(self, partition: Partition, lane: Lane | None) -> bool:
        """Whether the lane has not been replaced or dropped."""
        return lane is not None and self._lanes.get(partition) is lane

    def track(
        self,
        partition: Partition,
        position: int,
        next_offset: int,
        times: tuple[int | None, int | None] = (None, None),
    ) -> Entry:
        """Enter a batch that began to look at `position` and ended before `next_offset`.

        `times` are the timestamps of its first and its last record, where they have any.

        Raises:
            HoleError: the batch does not begin where the one before it ended.
        """
        lane = self._lanes.get(partition)
        if lane is None or lane.position != position:
            expected = lane.position if lane else "no batch at all"
            raise HoleError(f"{partition.topic}/{partition.partition}: expected {expected}, got {position}")
        first, last = times
        entry = Entry(next_offset, first)
        lane.entries.append(entry)
        lane.position = next_offset
        lane.read = last if last is not None else lane.read
        return entry

    def ack(self, entry: Entry) -> bool:
        """Mark a batch as safe; False if it is void or was marked before."""
        if entry.void or entry.done:
            return False
        entry.done = True
        return True

    def committable(self) -> dict[Partition, Entry]:
        """For each partition with something to commit, the last entry of the acked run at its head."""
        ready = {}
        for partition, lane in self._lanes.items():
            for entry in lane.entries:
                if not entry.done:
                    break
                ready[partition] = entry
        return ready

    def committed(self, partition: Partition, entry: Entry) -> None:
        """Let go of everything up to this entry, whose offset the broker has accepted."""
        if entry.void:
            return
        entries = self._lanes[partition].entries
        while entries.popleft() is not entry:
            pass
