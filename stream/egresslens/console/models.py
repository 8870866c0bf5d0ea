"""What all answers share: how times are written, the range they cover, and the SQL behind them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from egresslens.report import Period
from egresslens.report.ask import Question
from egresslens.report.period import WIDTH, Tier
from egresslens.report.shape import time_text

Time = Annotated[
    datetime,
    PlainSerializer(time_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""UTC, `2026-01-02T03:04:05.678Z`."""

Count = Annotated[int, Field(ge=0)]
Cell = int | float | bool | str | list[str] | None


class Model(BaseModel):
    """An answer, or a part of one: exactly these fields, always all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


class Range(Model):
    """What was read: whole windows of a tier."""

    since: Time = Field(description="Beginning, in UTC.")
    until: Time = Field(description="End, not included.")
    tier: Tier = Field(description="Windows of a minute, an hour or a day.")
    step_s: int = Field(description="Their length, seconds.")

    @classmethod
    def of(cls, period: Period) -> Range:
        """The range of a period."""
        step = int(WIDTH[period.tier].total_seconds())
        return cls(since=period.since, until=period.until, tier=period.tier, step_s=step)


class Sql(Model):
    """A statement behind an answer."""

    name: str = Field(description="Which part of the answer it gives.")
    statement: str = Field(description="As it was run: `{name:Type}` are parameters.")
    parameters: dict[str, Any] = Field(description="Their values.")
    text: str = Field(description="The same with the values in their places, for `egresslens sql`.")

    @classmethod
    def of(cls, name: str, question: Question) -> Sql:
        """A question's statement."""
        return cls(
            name=name,
            statement=question.statement,
            parameters={key: _plain(value) for key, value in question.parameters.items()},
            text=question.with_literals(),
        )


def _plain(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    return value.replace(tzinfo=None).isoformat(" ", "milliseconds").removesuffix(".000")
