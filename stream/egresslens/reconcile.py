"""Reconcile: prove from what is stored that every message became what it must, and nothing counts twice.

Theory of operation. `progress` is absolute and written last, so at any moment everything up to its
`last_offset` is in events and windows, and what lies beyond belongs to a unit that is still being written (or
whose worker was killed). Each number is therefore compared as of one reading of `progress`:

* the account in itself: messages = with records + filtered + rejected; offsets passed = messages + gaps;
  records = events + those past the events' retention;
* recent minutes, each by itself: windows = events, in number and in bytes. A minute whose newest row lies
  beyond the progress is being written, and is left to the next run. Only minutes young enough that no tier
  can have dropped anything of them are compared;
* everything since the beginning: records = requests in all tiers together. Each hour, day and month is read
  from the highest tier it is rolled up to, and months are kept for ever, so this holds after any TTL.
  Minutes that are being written are replaced by their events up to the progress;
* Kafka: nothing is committed beyond the progress, and the progress is not ahead of the log.

What `purge` removed is missing on purpose: with a purge on record the total may only be less.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Final, NamedTuple

from clickhouse_connect.driver.client import Client
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient

from egresslens.kafka import client as kafka_client
from egresslens.kafka.topics import stream_epochs
from egresslens.settings import Settings

# Rows are dropped at the earliest this long before their tier's limit: the clock may be wrong by a day, and
# an event may lie `max_clock_skew_s` ahead of its Kafka record.
_MARGIN_DAYS: Final = 2
# Time to look for messages behind the progress, where something is committed that it does not know.
_LOOK_S: Final = 5.0


class Stream(NamedTuple):
    """One partition of one creation of a topic."""

    stream_epoch: str
    topic: str
    partition: int


@dataclass(frozen=True)
class Account:
    """A row of `progress`, as far as it is compared."""

    first_offset: int
    last_offset: int
    messages: int
    messages_with_records: int
    messages_filtered: int
    messages_rejected: int
    records: int
    events: int
    gaps: int
    past_retention: Mapping[str, int]


class Minute(NamedTuple):
    """What windows and events say of one minute of a stream; `newest` is the highest offset of either."""

    stream: Stream
    start: datetime
    requests: int
    events: int
    bytes_windows: int
    bytes_events: int
    newest: int


class Place(NamedTuple):
    """Where a partition stands in Kafka; `committed` is None if the group has committed nothing."""

    committed: int | None
    beginning: int
    end: int


@dataclass(frozen=True)
class Difference:
    """Two numbers that must be equal and are not."""

    stream_epoch: str
    topic: str
    partition: int
    check: str
    expected: int
    found: int
    text: str


@dataclass(frozen=True)
class Total:
    """All requests that the windows have of a stream: settled ones, and by minute those being written."""

    settled: int = 0
    writing: Mapping[datetime, int] = field(default_factory=dict)
    """Minute -> its events up to the progress, or -1 where its events may be gone."""


@dataclass(frozen=True)
class Report:
    """What was compared and what is not equal."""

    streams: int
    messages: int
    records: int
    minutes: int
    minutes_in_flight: int
    purges: int
    notes: Sequence[str]
    differences: Sequence[Difference]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "ok": not self.differences}


# --- comparing ----------------------------------------------------------------------------------------------


def accounts_differ(accounts: Mapping[Stream, Account]) -> list[Difference]:
    """Each account in itself."""
    found = []
    for stream, one in accounts.items():
        became = one.messages_with_records + one.messages_filtered + one.messages_rejected
        found += _unless_equal(
            stream, "messages", one.messages, became, "messages = with records + filtered + rejected"
        )
        passed = one.last_offset - one.first_offset + 1
        found += _unless_equal(
            stream,
            "offsets",
            passed,
            one.messages + one.gaps,
            f"offsets {one.first_offset} to {one.last_offset} = messages + gaps",
        )
        kept = one.records - one.past_retention.get("events", 0)
        found += _unless_equal(
            stream, "records", kept, one.events, "records, less those past the events' retention = events"
        )
    return found


def minutes_differ(
    minutes: Iterable[Minute], accounts: Mapping[Stream, Account]
) -> tuple[list[Difference], list[Minute]]:
    """Minutes in which windows and events are not equal, and those that are being written."""
    found: list[Difference] = []
    writing: list[Minute] = []
    for one in minutes:
        if one.stream not in accounts or one.newest > accounts[one.stream].last_offset:
            writing.append(one)
            continue
        when = f"{one.start:%Y-%m-%dT%H:%MZ}"
        found += _unless_equal(
            one.stream, "minute", one.events, one.requests, f"{when}: events = windows' requests"
        )
        found += _unless_equal(
            one.stream,
            "minute_bytes",
            one.bytes_events,
            one.bytes_windows,
            f"{when}: bytes sent and received",
        )
    return found, writing


def totals_differ(
    totals: Mapping[Stream, Total], accounts: Mapping[Stream, Account], *, purged: bool
) -> list[Difference]:
    """Records since the beginning against the requests of all tiers."""
    found = []
    for stream, one in accounts.items():
        total = totals.get(stream, Total())
        expected = one.records - one.past_retention.get("windows_1m", 0)
        counted = total.settled + sum(total.writing.values())
        text = "records, less those past the windows' retention = requests in all tiers"
        if any(count < 0 for count in total.writing.values()) or (purged and counted <= expected):
            continue
        found += _unless_equal(stream, "total", expected, counted, text)
    return found


def offsets_differ(
    places: Mapping[Stream, Place], accounts: Mapping[Stream, Account]
) -> tuple[list[Difference], list[str]]:
    """Kafka's offsets against the accounts, and what is worth a note."""
    found: list[Difference] = []
    notes: list[str] = []
    for stream, place in places.items():
        account = accounts.get(stream)
        position = account.last_offset + 1 if account else place.beginning
        if place.committed is not None and place.committed > position:
            text = f"committed offset <= last offset stored + 1: {place.committed - position} beyond it"
            found.append(Difference(*stream, "committed", position, place.committed, text))
        if account and position > place.end:
            text = "last offset stored + 1 <= the log's end: the topic has lost its end"
            found.append(Difference(*stream, "end", position, place.end, text))
        reached = position if place.committed is None else place.committed
        if place.beginning > max(position, reached):
            notes.append(
                f"{stream.topic}/{stream.partition}: retention has removed offsets {position} to "
                f"{place.beginning - 1} before they were read; they will be counted as gaps"
            )
    return found, notes


def _unless_equal(stream: Stream, check: str, expected: int, found: int, text: str) -> list[Difference]:
    return [] if expected == found else [Difference(*stream, check, expected, found, text)]


# --- reading ------------------------------------------------------------------------------------------------


def reconcile(client: Client, settings: Settings, now: datetime, hours: int) -> Report:
    """Read and compare once.

    Args:
        client: a connected reader, blocking.
        settings: for names, brokers and retention.
        now: the present (aware).
        hours: how far back minutes are compared with events one by one.

    Raises:
        clickhouse_connect.driver.exceptions.Error: ClickHouse is away, or a query failed.
        kafka.errors.KafkaError: no broker answers, or an access-log topic does not exist.
    """
    # Commits come after progress, so what is read of them must come before.
    committed = _committed(settings)
    accounts = _accounts(client, settings)
    places = _places(settings, committed, accounts)
    totals = _totals(client, settings, accounts, now)
    since = max(
        now - timedelta(hours=hours),
        now
        - timedelta(days=min(settings.events_ttl_days, settings.windows_1m_ttl_days))
        + timedelta(days=_MARGIN_DAYS),
    )
    minutes, unequal = _minutes(client, settings, since)
    minute_differences, writing = minutes_differ(unequal, accounts)
    offset_differences, notes = offsets_differ(places, accounts)
    purges = int(_rows(client, f"SELECT count() FROM {settings.database}.raw_purges")[0][0])  # noqa: S608 - a name by its pattern
    if purges:
        notes.append(f"{purges} purges on record: totals are only compared for being too high")
    return Report(
        streams=len(accounts),
        messages=sum(one.messages for one in accounts.values()),
        records=sum(one.records for one in accounts.values()),
        minutes=minutes,
        minutes_in_flight=len(writing),
        purges=purges,
        notes=notes,
        differences=[
            *accounts_differ(accounts),
            *totals_differ(totals, accounts, purged=bool(purges)),
            *minute_differences,
            *offset_differences,
        ],
    )


def _rows(client: Client, sql: str, **parameters: Any) -> Sequence[Sequence[Any]]:
    rows: Sequence[Sequence[Any]] = client.query(sql, parameters=parameters or None).result_rows
    return rows


def _accounts(client: Client, settings: Settings) -> dict[Stream, Account]:
    columns = ", ".join(Account.__dataclass_fields__)
    rows = _rows(
        client,
        f"SELECT stream_epoch, topic, partition, {columns} FROM {settings.database}.progress",  # noqa: S608 - names of ours
    )
    return {Stream(*row[:3]): Account(*row[3:]) for row in rows}


_STREAM: Final = "stream_epoch, topic, partition"
_NEVER: Final = "toDateTime(0, 'UTC')"
_STALE: Final = "changed > settled AND (kept OR settled = 0)"


def _totals(
    client: Client, settings: Settings, accounts: Mapping[Stream, Account], now: datetime
) -> dict[Stream, Total]:
    """Requests of all tiers, by stream: as `destinations` reads them, but minutes by minute."""
    database = settings.database

    def stale(tier: str) -> str:
        return (
            f"(SELECT groupArray((window_start, {_STREAM})) FROM {database}.{tier} WHERE {_STALE})"  # noqa: S608
            f" AS stale_{tier}"
        )

    def within(start: str, tier: str, *, inside: bool) -> str:
        word = "IN" if inside else "NOT IN"
        return f"({start}, {_STREAM}) {word} (SELECT arrayJoin(stale_{tier}))"

    month = "toDateTime(toStartOfMonth(part.window_start), 'UTC')"
    day, hour, itself = (
        "toStartOfDay(part.window_start)",
        "toStartOfHour(part.window_start)",
        "part.window_start",
    )
    branches = [
        ("raw_destinations", _NEVER, "0", [within(itself, "raw_months", inside=False)]),
        ("raw_windows_1d", _NEVER, "0", [
            within(month, "raw_months", inside=True), within(itself, "raw_days", inside=False),
        ]),
        ("raw_windows_1h", _NEVER, "0", [
            within(month, "raw_months", inside=True), within(day, "raw_days", inside=True),
            within(itself, "raw_hours", inside=False),
        ]),
        ("raw_windows_1m", "part.window_start", "last_offset", [
            within(month, "raw_months", inside=True), within(day, "raw_days", inside=True),
            within(hour, "raw_hours", inside=True),
        ]),
    ]  # fmt: skip
    union = " UNION ALL ".join(
        f"SELECT {_STREAM}, {start} AS minute, requests, {newest} AS newest "  # noqa: S608
        f"FROM {database}.{table} AS part FINAL WHERE {' AND '.join(conditions)}"
        for table, start, newest, conditions in branches
    )
    rows = _rows(
        client,
        f"WITH {', '.join(map(stale, ('raw_hours', 'raw_days', 'raw_months')))} "  # noqa: S608
        f"SELECT {_STREAM}, toUnixTimestamp(minute), sum(row.requests), max(row.newest) "
        f"FROM ({union}) AS row GROUP BY {_STREAM}, minute",
    )
    settled: dict[Stream, int] = defaultdict(int)
    writing: dict[Stream, list[datetime]] = defaultdict(list)
    for epoch, topic, partition, minute, requests, newest in rows:
        stream = Stream(epoch, topic, partition)
        if stream in accounts and newest <= accounts[stream].last_offset:
            settled[stream] += requests
        elif stream in accounts:
            writing[stream].append(datetime.fromtimestamp(minute, timezone.utc))
    return {
        stream: Total(
            settled[stream],
            _events(client, settings, stream, accounts[stream].last_offset, writing[stream], now),
        )
        for stream in {*settled, *writing}
    }


def _events(
    client: Client,
    settings: Settings,
    stream: Stream,
    last_offset: int,
    minutes: Collection[datetime],
    now: datetime,
) -> dict[datetime, int]:
    """Events of these minutes up to an offset; -1 where they may be gone already."""
    if not minutes:
        return {}
    oldest = now - timedelta(days=settings.events_ttl_days - _MARGIN_DAYS)
    rows = _rows(
        client,
        "SELECT toUnixTimestamp(toStartOfMinute(event_time)) AS minute, uniqExact(offset, seq) "  # noqa: S608
        f"FROM {settings.database}.raw_events WHERE stream_epoch = %(epoch)s AND topic = %(topic)s "
        "AND partition = %(partition)s AND offset <= %(last)s AND minute IN %(minutes)s "
        "AND event_time >= fromUnixTimestamp(%(first)s) GROUP BY minute",
        epoch=stream.stream_epoch,
        topic=stream.topic,
        partition=stream.partition,
        last=last_offset,
        minutes=[int(one.timestamp()) for one in minutes],
        first=int(min(minutes).timestamp()),
    )
    counts = {datetime.fromtimestamp(minute, timezone.utc): count for minute, count in rows}
    return {one: counts.get(one, 0) if one >= oldest else -1 for one in minutes}


def _minutes(client: Client, settings: Settings, since: datetime) -> tuple[int, list[Minute]]:
    """How many minutes were compared, and those in which windows and events are not equal."""
    database = settings.database

    def query(final: str) -> str:
        # An event that was written twice counts twice without FINAL, which costs several times as much: so
        # FINAL is only asked where the plain count is not right. Numbers and bytes together would have to be
        # wrong in just the same way for a difference to hide.
        return (
            f"SELECT {_STREAM}, toUnixTimestamp(minute), sum(row.requests) AS requests, "  # noqa: S608
            "sum(row.events) AS events, sum(row.bytes_windows) AS bytes_windows, "
            "sum(row.bytes_events) AS bytes_events, max(row.newest) FROM ("
            f"SELECT {_STREAM}, window_start AS minute, requests, toInt64(0) AS events, "
            "bytes_sent + bytes_received AS bytes_windows, toInt64(0) AS bytes_events, last_offset AS newest "
            f"FROM {database}.raw_windows_1m FINAL WHERE window_start >= fromUnixTimestamp(%(since)s) "
            f"UNION ALL SELECT {_STREAM}, toStartOfMinute(toDateTime(event_time, 'UTC')) AS minute, "
            "toInt64(0) AS requests, toInt64(1) AS events, toInt64(0) AS bytes_windows, "
            "ifNull(bytes_sent, 0) + ifNull(bytes_received, 0) AS bytes_events, offset AS newest "
            f"FROM {database}.raw_events {final} WHERE event_time >= fromUnixTimestamp(%(since)s)"
            f") AS row GROUP BY {_STREAM}, minute"
        )

    start = int(since.timestamp()) // 60 * 60 + 60
    unequal = "requests != events OR bytes_windows != bytes_events"
    ((compared, wrong),) = _rows(
        client,
        f"SELECT count(), countIf({unequal}) FROM ({query('')})",  # noqa: S608
        since=start,
    )
    if not wrong:
        return compared, []
    rows = _rows(client, f"{query('FINAL')} HAVING {unequal}", since=start)
    return compared, [
        Minute(Stream(*row[:3]), datetime.fromtimestamp(row[3], timezone.utc), *row[4:]) for row in rows
    ]


def _committed(settings: Settings) -> dict[Stream, int | None]:
    """What the group has committed of each partition of the topics it reads."""
    topics = (*settings.access_log_topics, settings.replay_topic)
    epochs = stream_epochs(settings, topics)
    admin = KafkaAdminClient(**kafka_client.kafka_python(settings))
    try:
        partitions = [
            TopicPartition(topic["name"], one["partition_index"])
            for topic in admin.describe_topics(list(topics))
            for one in topic["partitions"]
        ]
        offsets = admin.list_group_offsets({settings.kafka_group: partitions})[settings.kafka_group]
    finally:
        admin.close()
    committed = {tp: offsets[tp].offset if tp in offsets else -1 for tp in partitions}
    return {
        Stream(epochs[tp.topic], tp.topic, tp.partition): offset if offset >= 0 else None
        for tp, offset in committed.items()
    }


def _places(
    settings: Settings, committed: Mapping[Stream, int | None], accounts: Mapping[Stream, Account]
) -> dict[Stream, Place]:
    consumer = KafkaConsumer(
        **kafka_client.kafka_python(settings),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    places = {}
    try:
        partitions = {stream: TopicPartition(stream.topic, stream.partition) for stream in committed}
        beginnings = consumer.beginning_offsets(list(partitions.values()))
        ends = consumer.end_offsets(list(partitions.values()))
        for stream, tp in partitions.items():
            offset, account = committed[stream], accounts.get(stream)
            position = account.last_offset + 1 if account else beginnings[tp]
            if offset is not None and offset > position and not _has_messages(consumer, tp, position, offset):
                offset = position
            places[stream] = Place(offset, beginnings[tp], ends[tp])
    finally:
        consumer.close()
    return places


def _has_messages(consumer: KafkaConsumer, tp: TopicPartition, first: int, end: int) -> bool:
    """Whether any message lies in these offsets: transactions leave offsets that are none.

    Offsets that the broker no longer has, or does not give within the time, are taken for messages.
    """
    consumer.assign([tp])
    consumer.seek(tp, first)
    deadline = time.monotonic() + _LOOK_S
    while consumer.position(tp) < end and time.monotonic() < deadline:
        for record in consumer.poll(timeout_ms=500, max_records=1).get(tp, []):
            return bool(record.offset < end)
    return bool(consumer.position(tp) < end)
