"""The values of advice: what is asked, and what is answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from egresslens.registry.models import ServiceEntry, Sidecar

Row = dict[str, Any]
"""A row of observed.OBSERVED."""

DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Options:
    """How careful advice is.

    into: namespace of new ServiceEntries. min_requests, min_age: a destination seen more rarely, or for the
    first time less long ago, is listed apart. wildcard_hosts: so many hosts of one domain become a wildcard.
    include_blocked: also advise what was blocked; such attempts may be the very ones to block.
    sidecars: limit namespaces that have no scope to what they were seen to use. registry_only: have these
    Sidecars block the rest. unused_after: entries without traffic for so long are listed for removal.
    """

    into: str = "istio-system"
    min_requests: int = 1
    min_age: timedelta = timedelta(0)
    wildcard_hosts: int = 10
    include_blocked: bool = False
    sidecars: bool = True
    registry_only: bool = False
    unused_after: timedelta = 30 * DAY


@dataclass(frozen=True)
class Evidence:
    """What was seen of one host and port: by whom, how often, when, and where its name came from."""

    host: str
    port: int | None
    requests: int
    sources: tuple[tuple[str, int], ...]
    name_sources: tuple[str, ...]
    first: datetime
    last: datetime
    ips: tuple[str, ...] = ()


@dataclass(frozen=True)
class Advised:
    """An object to apply: new, or with what it lacked. `before` is what it replaces."""

    object: ServiceEntry | Sidecar
    before: ServiceEntry | Sidecar | None = None
    evidence: tuple[Evidence, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Apart:
    """Traffic that no entry is advised for, and why."""

    reason: str
    evidence: tuple[Evidence, ...]
    rows: tuple[Row, ...] = field(repr=False)


@dataclass(frozen=True)
class Unused:
    """An entry without traffic. `last_seen` None is never in the history."""

    entry: ServiceEntry
    last_seen: datetime | None


@dataclass(frozen=True)
class Advice:
    """All of it. `unused` is None where the history is too short to tell."""

    entries: tuple[Advised, ...]
    sidecars: tuple[Advised, ...]
    apart: tuple[Apart, ...]
    unused: tuple[Unused, ...] | None
    since: datetime
    until: datetime
