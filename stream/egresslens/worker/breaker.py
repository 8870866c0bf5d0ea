"""The limit on dead letters: a bad deploy stops the worker instead of dead-lettering everything.

Nothing of the unit that breaks the limit is stored or committed, so that a repaired worker reads it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

# A share means something from this many messages on, and looks back over as many as twice of it.
ENOUGH: Final = 1_000


class TooManyRejectsError(RuntimeError):
    """More messages were rejected than the operator allows; the message says which and what to do."""


@dataclass
class Breaker:
    """Watches the rejects of all partitions. A share of 1 and a run of 0 switch the limits off."""

    max_share: float
    max_run: int
    messages: int = 0
    rejected: int = 0
    runs: Counter[str] = field(default_factory=Counter)

    def watch(
        self, topics: Sequence[str], sizes: Sequence[int], rejected: npt.NDArray[np.bool_], reason: str
    ) -> None:
        """Take note of a unit.

        Args:
            topics: the topic and partition of each run of messages.
            sizes: how many messages each has.
            rejected: which messages were rejected.
            reason: the most frequent reason.

        Raises:
            TooManyRejectsError: a limit is broken.
        """
        at = 0
        for topic, size in zip(topics, sizes, strict=True):
            self._watch_run(topic, rejected[at : at + size], reason)
            at += size
        self.messages += len(rejected)
        self.rejected += int(rejected.sum())
        if self.messages >= ENOUGH and self.rejected > self.max_share * self.messages:
            raise TooManyRejectsError(
                f"{self.rejected:,} of the last {self.messages:,} messages were rejected (mostly {reason}): "
                "stopping instead of dead-lettering everything. `egresslens formats` shows what a file of "
                "such lines holds; mend EGRESSLENS_LOG_FORMAT, or raise EGRESSLENS_MAX_REJECTED_SHARE if "
                "they are to be dead letters"
            )
        if self.messages >= 2 * ENOUGH:
            # Older messages count half with each look back, so that a good past does not hide a bad present.
            self.messages //= 2
            self.rejected //= 2

    def _watch_run(self, topic: str, rejected: npt.NDArray[np.bool_], reason: str) -> None:
        good = np.flatnonzero(~rejected)
        first = int(good[0]) if len(good) else len(rejected)
        longest = self.runs[topic] + first
        if len(good):
            gaps = np.diff(good) - 1
            longest = max(longest, int(gaps.max(initial=0)), len(rejected) - 1 - int(good[-1]))
            self.runs[topic] = len(rejected) - 1 - int(good[-1])
        else:
            self.runs[topic] = longest
        if self.max_run and longest > self.max_run:
            raise TooManyRejectsError(
                f"{longest:,} messages of {topic} in a row were rejected (mostly {reason}): stopping instead "
                "of dead-lettering everything. Mend what produces them or EGRESSLENS_LOG_FORMAT, or raise "
                "EGRESSLENS_MAX_REJECTED_RUN if they are to be dead letters"
            )
