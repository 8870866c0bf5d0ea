"""Roll-ups: hours from exact minutes, days from hours, and each month's destinations from days.

Theory of operation. A window is rolled up when it is over and everything in it is acknowledged: its newest
version is at or below its partition's progress. First its rows are written, absolute and with the highest
version in them, then the fact that it is rolled up, with the version that was known before. So a minute
that changes meanwhile, or comes late, leaves the window stale: the views go on reading the tier below, and
the next roll-up does it again. Nothing is lost if this runs twice, in two places at once, or not at all: the
views only get slower.

A window whose lower tier may have lost rows to its TTL is never rolled up a second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import groupby
from typing import Any, Final, Protocol

from egresslens.clickhouse.client import connect
from egresslens.record import MAX_DESTINATION_IPS, WINDOW_KEY, WINDOW_MEASURES
from egresslens.settings import Settings

# Windows per statement: bounds the statement's text and the memory of its aggregation.
_BATCH: Final = 500

Stream = tuple[str, str, int]
"""Stream epoch, topic, partition."""
Window = tuple[datetime, str, str, int]
"""Start (UTC), stream epoch, topic, partition."""


class Client(Protocol):
    """What rolling up needs of a clickhouse-connect client."""

    def command(self, cmd: str, parameters: dict[str, Any] | None = None, /) -> Any:
        """Run a statement."""

    def query(self, query: str, /) -> Any:
        """Run a query; `result_rows` are its rows."""

    def insert(self, table: str, data: Sequence[Sequence[Any]], column_names: Sequence[str], /) -> Any:
        """Insert rows."""


@dataclass(frozen=True)
class Tier:
    """A step of the roll-up: rows of `source` become rows of `target`.

    state: the view that says how far it is. start: SQL for the window that a source row belongs to.
    measures: SQL of each of the target's columns that is no key.
    """

    name: str
    state: str
    source: str
    target: str
    start: str
    key: tuple[str, ...]
    measures: dict[str, str]


_WINDOW_KEY: Final = tuple(name for name in WINDOW_KEY if name != "window_start")
# A row with 0 requests was withdrawn: it counts in no measure, but its version does.
_WINDOW_MEASURES: Final = {
    **{name: f"sum(part.{name})" for name in WINDOW_MEASURES},
    "duration_ms_max": "max(part.duration_ms_max)",
    "duration_buckets": "sumForEach(part.duration_buckets)",
    "destination_ips": (
        f"arraySlice(arraySort(groupUniqArrayArray(part.destination_ips)), 1, {MAX_DESTINATION_IPS})"
    ),
    "first_event": "minIf(part.first_event, part.requests > 0)",
    "last_event": "maxIf(part.last_event, part.requests > 0)",
}
_DESTINATION_KEY: Final = tuple(
    name
    for name in _WINDOW_KEY
    if name not in ("destination_host_source", "protocol", "hop", "response_code")
)
_DESTINATION_MEASURES: Final = {
    "requests": "sum(part.requests)",
    "first_seen": "minIf(part.first_event, part.requests > 0)",
    "last_seen": "maxIf(part.last_event, part.requests > 0)",
}

# In the order they must run.
TIERS: Final = (
    Tier(
        "1h",
        "raw_hours",
        "raw_windows_1m",
        "raw_windows_1h",
        "toStartOfHour(part.window_start)",
        _WINDOW_KEY,
        _WINDOW_MEASURES,
    ),
    Tier(
        "1d",
        "raw_days",
        "raw_windows_1h",
        "raw_windows_1d",
        "toStartOfDay(part.window_start)",
        _WINDOW_KEY,
        _WINDOW_MEASURES,
    ),
    Tier(
        "1M",
        "raw_months",
        "raw_windows_1d",
        "raw_destinations",
        "toDateTime(toStartOfMonth(part.window_start), 'UTC')",
        _DESTINATION_KEY,
        _DESTINATION_MEASURES,
    ),
)


def roll_up(client: Client, settings: Settings, now: datetime) -> dict[str, int]:
    """Roll up every stale window that is over and acknowledged; how many, by tier ('1h', '1d', '1M').

    Args:
        client: a connected writer, blocking.
        settings: for the database's name.
        now: the present (aware). A window is over when its end is not after it.

    Raises:
        clickhouse_connect.driver.exceptions.Error: a statement failed; what is done stays done.
    """
    acknowledged = _acknowledged(client, settings)
    done: dict[str, int] = {}
    unfinished: set[Window] = set()
    for tier in TIERS:
        # A day waits for its hours and a month for its days.
        waiting = {(start(tier.name, when), *stream) for when, *stream in unfinished}
        due = {
            window: version
            for window, version in _stale(client, settings, tier).items()
            if end(tier.name, window[0]) <= now
            and version <= acknowledged.get(window[1:], -1)
            and window not in waiting
        }
        for batch in _batches(due):
            _roll(client, settings, tier, batch)
        done[tier.name] = len(due)
        unfinished = set(_stale(client, settings, tier))
    return done


def run(settings: Settings, now: datetime) -> dict[str, int]:
    """`roll_up` with a connection of its own. Blocking: call it in a thread, every minute or so.

    Raises:
        clickhouse_connect.driver.exceptions.Error: it is away, or a statement failed; try later.
    """
    client = connect(settings, "writer")
    try:
        return roll_up(client, settings, now)
    finally:
        client.close()


def start(tier: str, when: datetime) -> datetime:
    """Give the start of the tier's window that holds a moment (UTC)."""
    if tier == "1h":
        return when.replace(minute=0, second=0, microsecond=0)
    if tier == "1d":
        return when.replace(hour=0, minute=0, second=0, microsecond=0)
    return when.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def end(tier: str, when: datetime) -> datetime:
    """Give the end of the tier's window that starts at a moment (UTC)."""
    if tier == "1h":
        return when + timedelta(hours=1)
    if tier == "1d":
        return when + timedelta(days=1)
    return start("1M", when + timedelta(days=31))


def _acknowledged(client: Client, settings: Settings) -> dict[Stream, int]:
    rows = client.query(
        f"SELECT stream_epoch, topic, partition, version FROM {settings.database}.raw_progress FINAL"  # noqa: S608 - names of ours
    ).result_rows
    return {(epoch, topic, partition): version for epoch, topic, partition, version in rows}


def _stale(client: Client, settings: Settings, tier: Tier) -> dict[Window, int]:
    """Windows that are not rolled up to their newest version, with that version."""
    rows = client.query(
        "SELECT toUnixTimestamp(window_start), stream_epoch, topic, partition, changed "  # noqa: S608 - names of ours
        f"FROM {settings.database}.{tier.state} WHERE changed > rolled AND (kept OR rolled = 0)"
    ).result_rows
    return {
        (datetime.fromtimestamp(when, timezone.utc), epoch, topic, partition): changed
        for when, epoch, topic, partition, changed in rows
    }


def _batches(due: dict[Window, int]) -> Iterator[dict[Window, int]]:
    """Cut windows into batches of one month each: an insert may not touch too many table partitions."""
    for _, month in groupby(sorted(due), key=lambda window: (window[0].year, window[0].month)):
        windows = list(month)
        for at in range(0, len(windows), _BATCH):
            yield {window: due[window] for window in windows[at : at + _BATCH]}


def _roll(client: Client, settings: Settings, tier: Tier, batch: dict[Window, int]) -> None:
    stream = ("stream_epoch", "topic", "partition")
    columns = ("window_start", *stream, *tier.key)
    client.command(
        f"INSERT INTO {settings.database}.{tier.target} "  # noqa: S608 - names of ours, values are bound
        f"({', '.join((*columns, *tier.measures, 'version'))}) "
        f"SELECT {', '.join((tier.start, *columns[1:], *tier.measures.values(), 'max(part.version)'))} "
        f"FROM {settings.database}.{tier.source} AS part FINAL "
        f"WHERE ({tier.start}, {', '.join(stream)}) IN %(windows)s "
        f"GROUP BY {', '.join((tier.start, *columns[1:]))}",
        {"windows": [(int(when.timestamp()), *rest) for when, *rest in batch]},
    )
    client.insert(
        f"{settings.database}.raw_rolled",
        [(tier.name, *window, version) for window, version in batch.items()],
        ("tier", *columns[:4], "version"),
    )
