"""Host names as patterns: exact or `*.suffix`, the longest first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Hosts(Generic[Value]):
    """Patterns and what is known of each. `*.example.com` is any name below example.com, not itself."""

    def __init__(self, patterns: Iterable[tuple[str, Value]] = ()) -> None:
        # Of one pattern the first counts.
        self._known: dict[str, Value] = {}
        for pattern, value in patterns:
            self._known.setdefault(pattern, value)

    def find(self, host: str) -> tuple[str, Value] | None:
        """The most exact pattern that fits, and its value."""
        if host in self._known:
            return host, self._known[host]
        suffix = host.partition(".")[2]
        while suffix:
            pattern = f"*.{suffix}"
            if pattern in self._known:
                return pattern, self._known[pattern]
            suffix = suffix.partition(".")[2]
        return None
