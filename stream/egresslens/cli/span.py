"""Lengths of time as options: `90m`, `24h`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from egresslens.span import span


class Span(click.ParamType):
    """A length of time: `30s`, `90m`, `24h`, `30d`, `4w`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        try:
            return span(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
