"""Lengths of time as options: `90m`, `24h`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final

import click

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN: Final = re.compile(r"(\d{1,6})([smhdw])")


class Span(click.ParamType):
    """A length of time: `30s`, `90m`, `24h`, `30d`, `4w`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        match = _SPAN.fullmatch(str(value))
        if not match:
            self.fail(f"{value!r} is no length of time such as 90m, 24h, 30d or 4w", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
