"""A judgement: what, how sure, and why."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Confidence = Literal["high", "medium", "low"]


class Verdict(NamedTuple):
    """`value` None is no judgement; the reason may then say why there is none."""

    value: str | None = None
    confidence: Confidence | None = None
    reason: str | None = None

    def __bool__(self) -> bool:
        """Whether there is a judgement: verdicts are chosen with `or`."""
        return self.value is not None


NOTHING: Final = Verdict()
