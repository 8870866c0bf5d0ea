"""Consumer groups: who reads, and how far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.errors import CoordinatorNotAvailableError, GroupAuthorizationFailedError, GroupIdNotFoundError

from egresslens.doctor import fetch
from egresslens.doctor.finding import Finding, fail, ok, skipped, warn
from egresslens.doctor.topics import allow
from egresslens.settings import Settings

_STEADY: Final = "Stable"
_OLD: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class Place:
    """Where a group stands in a partition; `oldest` is when the first unread message was written."""

    partition: TopicPartition
    committed: int | None
    beginning: int
    end: int
    oldest: datetime | None = None

    @property
    def unread(self) -> int:
        """Messages between what is committed (else what is left of the log) and its end."""
        return max(0, self.end - max(self.beginning, self.committed or 0))

    @property
    def lost(self) -> int:
        """Messages that the broker removed before they were read."""
        return max(0, self.beginning - self.committed) if self.committed is not None else 0


def workers(admin: KafkaAdminClient, settings: Settings) -> list[Finding]:
    """Whether workers are in the group."""
    part, group = "workers", settings.kafka_group
    try:
        found = _describe(admin, group)
    except GroupAuthorizationFailedError:
        return [_refused(part, group, settings)]
    members = len(found["members"]) if found else 0
    if not members:
        return [fail(part, f"nobody is in the group {group}: no worker runs", "Start `egresslens worker`.")]
    partitions = sum(
        len(topic["partitions"])
        for topic in admin.describe_topics([*settings.access_log_topics])
        if not topic["error_code"]
    )
    if found["group_state"] != _STEADY:
        return [
            warn(
                part,
                f"the group {group} is sharing out its partitions ({found['group_state']})",
                "Run this again in a minute; if it stays so, look for workers that start and end in turn.",
            )
        ]
    if members > partitions:
        return [
            warn(
                part,
                f"{members} workers share {partitions} partitions: {members - partitions} have nothing to do",
                f"Run {partitions} workers, or give the topic more partitions.",
            )
        ]
    return [ok(part, f"{members} in the group {group}, {partitions} partitions", members=members)]


def alerts(admin: KafkaAdminClient, settings: Settings) -> list[Finding]:
    """Whether the alerts process runs."""
    group = settings.alerts_group
    try:
        found = _describe(admin, group)
    except GroupAuthorizationFailedError:
        return [_refused("alerts", group, settings)]
    if not found or not found["members"]:
        return [
            warn(
                "alerts",
                f"nobody is in the group {group}: no alerts are told",
                "Start `egresslens alerts run`.",
            )
        ]
    return [ok("alerts", f"{len(found['members'])} in the group {group}")]


def _refused(part: str, group: str, settings: Settings) -> Finding:
    return fail(
        part, f"the group {group} may not be used by this user", allow(settings, "group", group, "READ")
    )


def _describe(admin: KafkaAdminClient, group: str) -> Mapping[str, Any]:
    """The group, or nothing where there never was one."""
    try:
        found: Mapping[str, Any] = admin.describe_groups([group])[group]
    # Before the first group of a cluster there is no coordinator either.
    except (GroupIdNotFoundError, CoordinatorNotAvailableError):
        return {}
    return found


def lag(admin: KafkaAdminClient, settings: Settings, now: datetime, timeout_s: float) -> list[Finding]:
    """What the workers have not read yet, and what they can never read."""
    part, group = "lag", settings.kafka_group
    try:
        found = places(admin, settings, timeout_s)
    except GroupAuthorizationFailedError:
        return [_refused(part, group, settings)]
    return judge_lag(found, now) if found else [skipped(part, "there is nothing to read")]


def judge_lag(found: Sequence[Place], now: datetime) -> list[Finding]:
    """What the places say: messages that are lost, and those that are not read yet."""
    lost = [
        fail(
            "lag",
            f"{one.partition.topic}/{one.partition.partition}: {one.lost:,} messages were removed before "
            "they were read",
            "They are lost; `progress` counts them as gaps. Keep messages longer, or run more workers.",
        )
        for one in found
        if one.lost
    ]
    return [*lost, _unread(found, now)]


def _unread(found: Sequence[Place], now: datetime) -> Finding:
    details = [
        {**one.partition._asdict(), "committed": one.committed, "end": one.end, "unread": one.unread}
        for one in found
    ]
    unread = sum(one.unread for one in found)
    if not unread:
        return ok("lag", f"everything is read in {len(found)} partitions", partitions=details)
    worst = max(found, key=lambda one: one.unread)
    oldest = min((one.oldest for one in found if one.oldest), default=None)
    age = f", the oldest {short(now - oldest)} old" if oldest else ""
    said = (
        f"{unread:,} messages are not read yet{age} (most in {worst.partition.topic}/"
        f"{worst.partition.partition}: {worst.unread:,})"
    )
    if oldest and now - oldest > _OLD:
        mend = "Look at the workers' log and /readyz. Is the store slow? May there be more workers?"
        return warn("lag", said, mend, partitions=details)
    return ok("lag", said, partitions=details)


def short(span: timedelta) -> str:
    """A length of time for people: `12 s`, `3 min`, `5 h`, `9 d`."""
    seconds = span.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if abs(seconds) >= 1 else f"{seconds * 1000:.0f} ms"


def places(admin: KafkaAdminClient, settings: Settings, timeout_s: float) -> list[Place]:
    """Where the workers' group stands in each partition of the access-log topics.

    Raises:
        kafka.errors.KafkaError: the group or a topic may not be seen.
    """
    partitions = fetch.partitions(admin, settings)
    try:
        offsets = admin.list_group_offsets({settings.kafka_group: partitions})[settings.kafka_group]
    except CoordinatorNotAvailableError:  # before the first group of a cluster
        offsets = {}
    begins = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
    ends = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    found = [
        Place(one, _offset(offsets.get(one)), begins[one].offset, ends[one].offset) for one in partitions
    ]
    # When the first unread message of each partition was written.
    firsts = {one.partition: max(one.beginning, one.committed or 0) for one in found if one.unread}
    read = fetch.read(settings, {one: (first, first + 1) for one, first in firsts.items()}, timeout_s)
    return [replace(one, oldest=_written(read.get(one.partition))) for one in found]


def _written(records: Sequence[Any] | None) -> datetime | None:
    return datetime.fromtimestamp(records[0].timestamp / 1000, timezone.utc) if records else None


def _offset(committed: Any) -> int | None:
    return committed.offset if committed is not None and committed.offset >= 0 else None
