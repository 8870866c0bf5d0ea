"""Single records: searching the events, and following those that come in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import polars as pl
from clickhouse_connect.driver.client import Client

from egresslens.report.ask import Question, Selection
from egresslens.settings import Settings

_CODES: Final = re.compile(r"([1-5])xx|(\d{1,3})")

Place = tuple[str, str, int]
"""Stream epoch, topic, partition."""


@dataclass(frozen=True)
class Search:
    """Which records; empty and None are any. `codes` are `503` or `5xx`, and any of `flags` suffices."""

    selection: Selection
    since: datetime | None = None
    until: datetime | None = None
    label: str | None = None
    request_id: str | None = None
    path: str | None = None
    codes: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    def conditions(self) -> list[str]:
        """Conditions on a row of the events view, with `parameters`."""
        tests = {
            "since": "row.event_time >= {since:DateTime64(3, 'UTC')}",
            "until": "row.event_time < {until:DateTime64(3, 'UTC')}",
            "label": "row.label = {label:String}",
            "request_id": "row.request_id = {request_id:String}",
            "path": "startsWith(ifNull(row.path, ''), {path:String})",
            "codes": "(row.response_code IN {codes:Array(Int32)} OR "
            "intDiv(row.response_code, 100) IN {hundreds:Array(Int32)})",
            "flags": "hasAny(row.response_flags, {flags:Array(String)})",
        }
        return [
            *self.selection.conditions().values(),
            *(test for name, test in tests.items() if getattr(self, name)),
        ]

    def parameters(self) -> dict[str, Any]:
        """Values of the conditions' parameters."""
        found = [match for match in (_CODES.fullmatch(code) for code in self.codes) if match]
        given = {
            **self.selection.parameters(),
            "since": self.since,
            "until": self.until,
            "label": self.label,
            "request_id": self.request_id,
            "path": self.path,
            "codes": [int(match[2]) for match in found if match[2]],
            "hundreds": [int(match[1]) for match in found if match[1]],
            "flags": list(self.flags),
        }
        return {name: value for name, value in given.items() if value is not None}


def is_code(text: str) -> bool:
    """Whether a text names response codes: `503` or `5xx`."""
    return _CODES.fullmatch(text) is not None


class Before(NamedTuple):
    """A record's place in a search's order: event time (milliseconds), topic, partition, offset, seq."""

    moment: int
    topic: str
    partition: int
    offset: int
    seq: int


def search(reader: Client, settings: Settings, wanted: Search, limit: int) -> pl.DataFrame:
    """Read the newest records that fit, at most `limit`, in the order of their time. All fields of events.

    Raises:
        clickhouse_connect.driver.exceptions.Error: the store cannot be asked, or refuses.
    """
    return search_question(settings, wanted, limit).frame(reader).reverse()


def search_question(settings: Settings, wanted: Search, limit: int, before: Before | None = None) -> Question:
    """The question for the newest records that fit, the newest first; from after `before` in that order."""
    if before is None:
        return _question(settings, wanted, [], {}, limit)
    after = (
        "(row.event_time < fromUnixTimestamp64Milli({moment:Int64}, 'UTC') "
        "OR row.event_time = fromUnixTimestamp64Milli({moment:Int64}, 'UTC') "
        "AND (row.topic, row.partition, -row.offset, -row.seq) "
        "> ({topic:String}, {partition:Int32}, -{offset:Int64}, -{seq:Int32}))"
    )
    return _question(settings, wanted, [after], before._asdict(), limit)


def ends(reader: Client, settings: Settings) -> dict[Place, int]:
    """How far each Kafka partition is stored: all records up to that offset are in the events."""
    rows = reader.query(
        f"SELECT stream_epoch, topic, partition, last_offset FROM {settings.database}.progress"  # noqa: S608 - a name by its pattern
    ).result_rows
    return {(epoch, topic, partition): offset for epoch, topic, partition, offset in rows}


def between(
    reader: Client,
    settings: Settings,
    wanted: Search,
    before: Mapping[Place, int],
    after: Mapping[Place, int],
    limit: int,
) -> pl.DataFrame:
    """Read the records that came in between two looks at `ends`, otherwise as `search`."""
    question = between_question(settings, wanted, before, after, limit)
    return question.frame(reader).reverse() if question else pl.DataFrame()


def between_question(
    settings: Settings, wanted: Search, before: Mapping[Place, int], after: Mapping[Place, int], limit: int
) -> Question | None:
    """The question for what came in between, the newest first; None where nothing did."""
    tests: list[str] = []
    values: dict[str, Any] = {}
    for number, (place, end) in enumerate(after.items()):
        begin = before.get(place, -1)
        if end <= begin:
            continue
        tests.append(
            f"(row.stream_epoch = {{e{number}:String}} AND row.topic = {{t{number}:String}} "
            f"AND row.partition = {{p{number}:Int32}} "
            f"AND row.offset > {{a{number}:Int64}} AND row.offset <= {{z{number}:Int64}})"
        )
        named = zip("etpaz", (*place, begin, end), strict=True)
        values |= {f"{letter}{number}": value for letter, value in named}
    return _question(settings, wanted, [f"({' OR '.join(tests)})"], values, limit) if tests else None


def _question(
    settings: Settings, wanted: Search, more: list[str], values: Mapping[str, Any], limit: int
) -> Question:
    where = " AND ".join(["1", *wanted.conditions(), *more])
    return Question(
        f"SELECT * FROM {settings.database}.events AS row WHERE {where} "  # noqa: S608 - conditions of ours, values are bound
        "ORDER BY event_time DESC, topic, partition, offset DESC, seq DESC LIMIT {limit:UInt32}",
        {**wanted.parameters(), **values, "limit": limit},
    )
