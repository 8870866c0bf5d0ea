"""Lengths of time as people write them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN: Final = re.compile(r"(\d{1,6})([smhdw])")


def span(text: str) -> timedelta:
    """Read a length of time: `30s`, `90m`, `24h`, `30d`, `4w`.

    Raises:
        ValueError: it is none.
    """
    match = _SPAN.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no length of time such as 90m, 24h, 30d or 4w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
