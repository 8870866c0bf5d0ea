"""What a check finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Status(str, Enum):
    """How it is. `skipped`: it could not be looked at, for a reason that is a finding of its own."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """One fact about a part of the deployment; `mend` is what to do, empty where nothing is to be done."""

    part: str
    status: Status
    said: str
    mend: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Figures for programs."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "part": self.part,
            "status": self.status.value,
            "said": self.said,
            "mend": self.mend,
            "details": dict(self.details),
        }


def ok(part: str, said: str, **details: Any) -> Finding:
    """Nothing is to be done."""
    return Finding(part, Status.OK, said, details=details)


def warn(part: str, said: str, mend: str, **details: Any) -> Finding:
    """It works, and something is missing or about to go wrong."""
    return Finding(part, Status.WARN, said, mend, details)


def fail(part: str, said: str, mend: str, **details: Any) -> Finding:
    """It does not work."""
    return Finding(part, Status.FAIL, said, mend, details)


def skipped(part: str, said: str) -> Finding:
    """It could not be looked at."""
    return Finding(part, Status.SKIPPED, said)
