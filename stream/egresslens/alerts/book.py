"""The book of incidents: what is going on, as plain data with verbs. No clock, no I/O.

A hit is a window row that a rule matched. Window rows are absolute (the same row comes again with a greater
count), so an incident remembers, per row, up to which offset it is counted and how much that was: a repeated
or an older row changes nothing. Of many rows the last that changed are remembered, the others are added up.

An incident's id follows from its rule, its caller, its destination and the minute of its first row, so
whoever finds it, however often, calls it the same. What is new can only be new once: there the minute is left
out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, Literal, NamedTuple

from egresslens.messages import AlertMessage
from egresslens.text import visible

State = Literal["firing", "resolved"]
# Rows that an incident remembers: about half an hour of them, and far more than are read again after a crash.
_REMEMBERED: Final = 200
_MAX_EXAMPLES: Final = 10
_MAX_SUPPRESSED: Final = 100_000


class Subject(NamedTuple):
    """Who and where to."""

    source_cluster: str | None = None
    source_namespace: str | None = None
    source_workload: str | None = None
    source_ip: str | None = None
    destination_host: str | None = None
    destination_port: int | None = None

    @property
    def source(self) -> str:
        """`namespace/workload`, else the address."""
        if self.source_workload is None:
            return self.source_ip or "unknown"
        return f"{self.source_namespace or ''}/{self.source_workload}"

    @property
    def destination(self) -> str:
        """`host:port`."""
        port = f":{self.destination_port}" if self.destination_port is not None else ""
        return f"{self.destination_host or 'unknown'}{port}"

    @property
    def key(self) -> bytes:
        """The key of the caller's windows in the topic (worker.topics)."""
        if self.source_workload is not None:
            return f"{self.source_namespace or ''}/{self.source_workload}".encode()
        return (self.source_ip or "").encode()


@dataclass(frozen=True)
class Hit:
    """A window row that a rule matched."""

    rule: str
    kind: str
    severity: str
    once: bool
    subject: Subject
    window_start: datetime
    row: str
    """Names the window row among all rows."""
    offset: int
    """The row's last_offset: of two versions of a row the higher is newer."""
    count: int
    first_event: datetime
    last_event: datetime
    summary: str
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Incident:
    """One incident. `counted` holds, per row that may still grow, its offset and count."""

    id: str
    rule: str
    kind: str
    severity: str
    state: State
    subject: Subject
    first_seen: datetime
    last_seen: datetime
    settled: int
    summary: str
    details: Mapping[str, str]
    counted: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)
    """Receiver -> the state it was told last."""

    @property
    def count(self) -> int:
        """Events so far."""
        return self.settled + sum(count for _, count in self.counted.values())

    def message(self) -> AlertMessage:
        """The incident as it is published."""
        return AlertMessage.model_validate(
            {
                "id": self.id,
                "rule": self.rule,
                "kind": self.kind,
                "severity": self.severity,
                "state": self.state,
                "summary": visible(self.summary),
                **self.subject._asdict(),
                "first_seen": self.first_seen,
                "last_seen": self.last_seen,
                "count": self.count,
                "details": dict(self.details),
            }
        )


def incident_id(rule: str, subject: Subject, episode: str = "") -> str:
    """32 hexadecimal digits."""
    text = "\x00".join((rule, *("" if one is None else str(one) for one in subject), episode))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Book:
    """The incidents that go on, or that not everybody was told of."""

    def __init__(self, max_per_minute: int, shard: str = "") -> None:
        """`shard` tells the storms of several processes apart."""
        self._max = max_per_minute
        self._shard = shard
        self._incidents: dict[str, Incident] = {}
        self._firing: dict[tuple[str, Subject], str] = {}
        self._begun: tuple[datetime, int] | None = None
        self._changed: set[str] = set()
        self._storm_hour: datetime | None = None
        self._suppressed: dict[tuple[str, Subject], None] = {}

    def __iter__(self) -> Iterator[Incident]:
        return iter(list(self._incidents.values()))

    def __len__(self) -> int:
        return len(self._incidents)

    def restore(self, incidents: Iterable[Incident]) -> None:
        """Take over stored incidents."""
        for one in incidents:
            self._put(one)

    def knows(self, hit: Hit) -> bool:
        """Whether a hit belongs to an incident in the book."""
        return (hit.rule, hit.subject) in self._firing or _id(hit) in self._incidents

    def apply(self, hits: Iterable[Hit], now: datetime, over: frozenset[str] = frozenset()) -> None:
        """Open and continue incidents.

        Args:
            hits: in the order of the topic.
            now: when incidents that begin now begin, for the limit of a minute.
            over: ids of incidents that can happen once and did.
        """
        for hit in hits:
            known = self._firing.get((hit.rule, hit.subject))
            if known:
                self._continue(self._incidents[known], hit)
            elif _id(hit) not in self._incidents and not (hit.once and _id(hit) in over):
                self._open(hit, now)

    def resolve(self, rules: Mapping[str, timedelta], now: datetime) -> None:
        """End the incidents without an event for their rule's time; those whose rule is gone end as well."""
        for one in self:
            if one.state == "firing" and now - one.last_seen >= rules.get(one.rule, timedelta(0)):
                self._firing.pop((one.rule, one.subject), None)
                self._change(replace(one, state="resolved", settled=one.count, counted={}))

    def tell(self, told: Iterable[tuple[str, str, str]]) -> None:
        """Note what was told: (incident id, receiver, state)."""
        for id_, receiver, state in told:
            if id_ in self._incidents:
                one = self._incidents[id_]
                self._change(replace(one, told={**one.told, receiver: state}))

    def changed(self) -> list[Incident]:
        """What changed since this was last asked."""
        ids, self._changed = self._changed, set()
        return [self._incidents[id_] for id_ in sorted(ids) if id_ in self._incidents]

    def untold(self, receiver: str) -> list[Incident]:
        """Incidents whose state a receiver was not told."""
        return [one for one in self if one.told.get(receiver) != one.state]

    def forget(self, receivers: Iterable[str]) -> None:
        """Let go of what is over and told to all receivers."""
        wanted = list(receivers)
        for one in self:
            told = all(one.told.get(name) == "resolved" for name in wanted)
            if one.state == "resolved" and told and one.id not in self._changed:
                del self._incidents[one.id]

    def _put(self, one: Incident) -> None:
        self._incidents[one.id] = one
        if one.state == "firing":
            self._firing[one.rule, one.subject] = one.id

    def _change(self, one: Incident) -> None:
        self._put(one)
        self._changed.add(one.id)

    def _open(self, hit: Hit, now: datetime) -> None:
        minute = now.replace(second=0, microsecond=0)
        begun = self._begun[1] if self._begun and self._begun[0] == minute else 0
        if begun >= self._max:
            self._storm(hit, minute)
            return
        self._begun = (minute, begun + 1)
        self._change(
            Incident(
                id=_id(hit),
                rule=hit.rule,
                kind=hit.kind,
                severity=hit.severity,
                state="firing",
                subject=hit.subject,
                first_seen=hit.first_event,
                last_seen=hit.last_event,
                settled=0,
                summary=hit.summary,
                details=hit.details,
                counted={hit.row: _row(hit)},
            )
        )

    def _continue(self, one: Incident, hit: Hit) -> None:
        before = one.counted.get(hit.row)
        if before and before[0] >= hit.offset:
            return
        # The rows that changed last come last; the others are let go first.
        counted = {row: value for row, value in one.counted.items() if row != hit.row}
        counted[hit.row] = _row(hit)
        final = set(islice(counted, max(0, len(counted) - _REMEMBERED)))
        self._change(
            replace(
                one,
                first_seen=min(one.first_seen, hit.first_event),
                last_seen=max(one.last_seen, hit.last_event),
                settled=one.settled + sum(counted[row][1] for row in final),
                counted={row: value for row, value in counted.items() if row not in final},
                summary=hit.summary,
                details=hit.details,
            )
        )

    def _storm(self, hit: Hit, minute: datetime) -> None:
        """One incident per hour says what was not opened: how many by rule, and examples."""
        hour = minute.replace(minute=0)
        if self._storm_hour != hour:
            self._storm_hour, self._suppressed = hour, {}
        if len(self._suppressed) < _MAX_SUPPRESSED:
            self._suppressed.setdefault((hit.rule, hit.subject))
        total = len(self._suppressed)
        many = f"{total}{' or more' if total == _MAX_SUPPRESSED else ''}"
        by_rule = Counter(rule for rule, _ in self._suppressed)
        examples = (
            f"{rule}: {subject.source} -> {subject.destination}"
            for rule, subject in islice(self._suppressed, _MAX_EXAMPLES)
        )
        id_ = incident_id("storm", Subject(), f"{self._shard} {hour.isoformat()}")
        one = self._incidents.get(id_)
        self._change(
            Incident(
                id=id_,
                rule="storm",
                kind="storm",
                severity="critical",
                state="firing",
                subject=Subject(),
                first_seen=min(one.first_seen, hit.first_event) if one else hit.first_event,
                last_seen=max(one.last_seen, hit.last_event) if one else hit.last_event,
                settled=total,
                summary=f"{many} incidents were not opened: more than {self._max} began in a minute",
                details={
                    **{name: str(count) for name, count in by_rule.items()},
                    "examples": "; ".join(examples),
                },
                told=one.told if one else {},
            )
        )


def _id(hit: Hit) -> str:
    return incident_id(hit.rule, hit.subject, "" if hit.once else hit.window_start.isoformat())


def _row(hit: Hit) -> tuple[int, int]:
    return hit.offset, hit.count
