"""Single records: a search in pages, and what came in since."""

from __future__ import annotations

import base64
import binascii
import zlib
from datetime import datetime
from typing import Annotated, Final, TypeVar

import orjson
import polars as pl
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_serializer

from egresslens.console.answers import Context
from egresslens.console.models import Model, Sql, Time
from egresslens.console.params import Filtered, Label, Text
from egresslens.console.problems import Problem
from egresslens.messages import EnrichedRecord
from egresslens.report.records import Before, Place, Search, between_question, ends, is_code, search_question
from egresslens.report.shape import time_text

_MAX_CURSOR_BYTES: Final = 1_000_000
Cursor = TypeVar("Cursor", bound=BaseModel)


def _code(text: str) -> str:
    if not is_code(text):
        raise ValueError(f"{text[:20]!r} is no response code such as 503 or 5xx")
    return text


class EventsParams(Filtered):
    """Which records."""

    label: Label | None = Field(None, description="Only this label.")
    request_id: Text | None = Field(
        None, description="Only this request; without a range, in all that is stored."
    )
    path: Text | None = Field(None, description="Only paths that begin so.")
    code: tuple[Annotated[str, AfterValidator(_code)], ...] = Field(
        (), max_length=20, description="Only these response codes: 503 or 5xx; repeat it for several."
    )
    flag: tuple[Text, ...] = Field(
        (), max_length=20, description="Only with one of these response flags; repeat it for several."
    )
    limit: int = Field(100, ge=1, le=1_000, description="Records at most.")
    cursor: str | None = Field(
        None, max_length=8_000, description="`next` of the page before, for the older one."
    )
    follow: str | None = Field(
        None, max_length=8_000, description="`follow` of the last look, for what came since."
    )


class Record(EnrichedRecord):
    """One record, with the judgements of today beside it."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    # What is stored may be older or newer than this program's own words.
    label: str  # type: ignore[assignment] # wider than what is written today, on purpose; so are the next
    label_evidence: str | None = None  # type: ignore[assignment]
    confidence: str | None = None  # type: ignore[assignment]
    destination_host_source: str | None = None  # type: ignore[assignment]
    mismatch: bool | None = None  # type: ignore[assignment]
    hop: str | None = None  # type: ignore[assignment]
    format: str | None = None  # type: ignore[assignment]

    source_ip_namespace: str | None = Field(None, description="Namespace of the pod behind source_ip.")
    source_ip_workload: str | None = Field(None, description="Workload of the pod behind source_ip.")
    destination_scope: str | None = Field(None, description="external, mesh, private or unknown.")
    destination_scope_confidence: str | None = None
    destination_scope_reason: str | None = None
    destination_region: str | None = None
    destination_region_confidence: str | None = None
    destination_region_reason: str | None = None
    destination_kind: str | None = Field(None, description="Database, broker or cache that it is.")
    destination_kind_confidence: str | None = None
    destination_kind_reason: str | None = None
    service_entry: str | None = Field(None, description="The ServiceEntry that covers it: namespace/name.")
    service_entry_reason: str | None = None

    @field_serializer("event_time", "start_time", "kafka_timestamp")
    def _time(self, moment: datetime | None) -> str | None:
        return time_text(moment) if moment else None


class Between(Model):
    """From when to when; null is without end."""

    since: Time | None
    until: Time | None


class Events(Model):
    """Records, the newest first."""

    range: Between
    records: list[Record]
    next: str | None = Field(description="Cursor of the older page; null at the end.")
    follow: str | None = Field(
        description="Cursor for what comes in from now on; null with `until` or `cursor`."
    )
    cut: bool = Field(description="While following: more came than `limit`, and the older ones are left out.")
    sql: list[Sql]


class _Follow(BaseModel):
    """How far each Kafka partition was stored at the last look."""

    model_config = ConfigDict(strict=True)
    ends: list[tuple[str, str, int, int]] = Field(max_length=10_000)


def events(context: Context, params: EventsParams) -> Events:
    """Search records, or give what came in since the last look."""
    if params.follow is not None and (params.cursor is not None or params.until is not None):
        raise Problem(
            "parameter", "`follow` goes on for ever: it excludes `cursor` and `until`", parameter="follow"
        )
    wanted = _wanted(context, params)
    about = Between(since=wanted.since, until=wanted.until)
    if params.follow is not None:
        return _followed(context, params, wanted, about)
    known = ends(context.reader, context.settings) if params.until is None and params.cursor is None else None
    before = Before(*_read(params.cursor, "cursor", _Before).place) if params.cursor is not None else None
    question = search_question(context.settings, wanted, params.limit, before)
    found = question.frame(context.reader)
    return Events(
        range=about,
        records=records(found),
        next=_next(found, params.limit),
        follow=_follow(known) if known is not None else None,
        cut=False,
        sql=[Sql.of("records", question)],
    )


def records(found: pl.DataFrame) -> list[Record]:
    """Rows of the view events as records."""
    return [Record(**row) for row in found.iter_rows(named=True)]


def _followed(context: Context, params: EventsParams, wanted: Search, about: Between) -> Events:
    cursor = _read(params.follow or "", "follow", _Follow)
    before = {(epoch, topic, partition): offset for epoch, topic, partition, offset in cursor.ends}
    now = ends(context.reader, context.settings)
    question = between_question(context.settings, wanted, before, now, params.limit + 1)
    found = question.frame(context.reader) if question else pl.DataFrame()
    return Events(
        range=about,
        records=records(found.head(params.limit)),
        next=None,
        follow=_follow(now),
        cut=found.height > params.limit,
        sql=[Sql.of("records", question)] if question else [],
    )


def _wanted(context: Context, params: EventsParams) -> Search:
    everything = params.request_id is not None and params.since is None and params.from_ is None
    begin, end = params.moments(context.now)
    return Search(
        selection=params.selection,
        since=None if everything else begin,
        until=end if params.until else None,
        label=params.label,
        request_id=params.request_id,
        path=params.path,
        codes=params.code,
        flags=params.flag,
    )


class _Before(BaseModel):
    model_config = ConfigDict(strict=True)
    place: tuple[int, str, int, int, int]


def _next(found: pl.DataFrame, limit: int) -> str | None:
    if found.height < limit:
        return None
    last = found.row(-1, named=True)
    moment = round(last["event_time"].timestamp() * 1000)
    return _write(_Before(place=(moment, last["topic"], last["partition"], last["offset"], last["seq"])))


def _follow(known: dict[Place, int]) -> str:
    return _write(_Follow(ends=[(*place, offset) for place, offset in sorted(known.items())]))


def _write(cursor: BaseModel) -> str:
    """A cursor as text: packed, since a stream may have hundreds of partitions."""
    packed = zlib.compress(orjson.dumps(cursor.model_dump()))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _read(text: str, name: str, model: type[Cursor]) -> Cursor:
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return model.model_validate_json(zlib.decompressobj().decompress(packed, _MAX_CURSOR_BYTES))
    except (ValueError, binascii.Error, zlib.error, ValidationError):
        raise Problem("parameter", f"`{name}` is none that this API gave", parameter=name) from None
