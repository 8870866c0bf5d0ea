"""Parameters of the questions: read once from the query string, true from then on."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from egresslens.console.problems import Problem
from egresslens.record import STORED_LABELS
from egresslens.report import Period, Selection, period
from egresslens.settings import Settings
from egresslens.span import span

Params = TypeVar("Params", bound=BaseModel)

_LONGEST_TEXT: Final = 1_000
_OLDEST: Final = datetime(1970, 1, 2, tzinfo=timezone.utc)
_NEWEST: Final = datetime(2100, 1, 1, tzinfo=timezone.utc)


def _utc(moment: datetime) -> datetime:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    if not _OLDEST <= aware <= _NEWEST:
        raise ValueError("must lie between 1970 and 2100")
    return aware.astimezone(timezone.utc)


Text = Annotated[str, Field(min_length=1, max_length=_LONGEST_TEXT)]
Moment = Annotated[datetime, AfterValidator(_utc)]
SpanText = Annotated[str, Field(pattern=r"^\d{1,6}[smhdw]$")]
Label = typing.Literal["outbound", "passthrough", "blackhole", "unknown"]


class Nothing(BaseModel):
    """No parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Ranged(Nothing):
    """A range of time."""

    since: SpanText | None = Field(
        None,
        description="How far to look back from `until`: 90m, 24h, 7d, 4w; default 24h.",
        examples=["24h"],
    )
    from_: Moment | None = Field(
        None,
        alias="from",
        description="The beginning, instead of `since` (RFC 3339; UTC if no zone is given).",
    )
    until: Moment | None = Field(None, description="The end, not included; default now.")

    @model_validator(mode="after")
    def _one_beginning(self) -> Ranged:
        if self.since is not None and self.from_ is not None:
            raise ValueError("`since` and `from` exclude each other")
        return self

    def moments(self, now: datetime, default: timedelta = timedelta(days=1)) -> tuple[datetime, datetime]:
        """Beginning and end.

        Raises:
            Problem: the range is empty.
        """
        end = self.until or now
        back = span(self.since) if self.since else default
        begin = self.from_ or (end - back if back < end - _OLDEST else _OLDEST)
        if begin >= end:
            raise Problem(
                "parameter",
                "the range is empty: its end must be after its beginning",
                parameter="until" if self.until else "from",
            )
        return begin, end

    def period(self, settings: Settings, now: datetime) -> Period:
        """The windows that answer for the range."""
        begin, end = self.moments(now)
        return period(settings, begin, end, now, exact=self.from_ is not None)


class Filtered(Ranged):
    """A range, whose traffic, and where to."""

    namespace: Text | None = Field(None, description="Only this namespace of callers.")
    workload: Text | None = Field(None, description="Only this workload.")
    host: Text | None = Field(None, description="Only this destination; `*` stands for any text.")
    cluster: Text | None = Field(None, description="Only this Kubernetes cluster.")

    @property
    def selection(self) -> Selection:
        """The filters."""
        return Selection(self.namespace, self.workload, self.host, self.cluster)


class Labelled(Filtered):
    """The same, and some labels only."""

    label: tuple[Label, ...] = Field((), description="Only these labels; repeat it for several.")

    @property
    def labels(self) -> list[str]:
        """The labels that are meant."""
        return list(self.label or STORED_LABELS)


def read(model: type[Params], given: Mapping[str, Sequence[str]]) -> Params:
    """Read parameters; each name with all its values.

    Raises:
        Problem: one is unknown, repeated or does not fit; it says which.
    """
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    values: dict[str, Any] = {}
    for name, texts in given.items():
        if name not in fields:
            likely = difflib.get_close_matches(name, fields, n=1)
            meant = f"did you mean `{likely[0]}`? " if likely else ""
            known = ", ".join(f"`{one}`" for one in fields) or "none"
            raise Problem(
                "parameter",
                f"`{name[:100]}` is no parameter here: {meant}There are: {known}.",
                parameter=name[:100],
            )
        if is_several(fields[name].annotation):
            values[name] = tuple(texts)
        elif len(texts) > 1:
            raise Problem("parameter", f"`{name}` is given twice", parameter=name)
        else:
            values[name] = texts[0]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        message = wrong["msg"].removeprefix("Value error, ")
        if not wrong["loc"]:
            raise Problem("parameter", message) from None
        which = str(wrong["loc"][0])
        raise Problem("parameter", f"`{which}`: {message}", parameter=which) from None


def is_several(annotation: Any) -> bool:
    """Whether a parameter may be repeated."""
    return typing.get_origin(annotation) is tuple
