"""The plan: which traffic needs an entry, which cannot have one, and which scope each namespace needs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import polars as pl

from egresslens.advise.entries import Drafts
from egresslens.advise.evidence import evidence
from egresslens.advise.names import domain_of, is_host, is_label
from egresslens.advise.sidecars import scopes
from egresslens.advise.values import Advice, Apart, Options, Row, Unused
from egresslens.judge.cover import Catalog
from egresslens.record import OTHER
from egresslens.registry.models import ServiceEntry, Sidecar
from egresslens.registry.value import Registry, parse_ip
from egresslens.whatif import NAMED_BY_THE_MESH, Mesh

# Why traffic is listed apart, in words for people; the order is that of the list.
ADDRESS = "Addresses without a name: never turned into a host name; allow them by CIDR if they are known"
MESH_NAME = "Names of the mesh that no Service has: they are no egress, and no entry would help"
NO_HOST = "Hosts that Istio refuses as hosts, so that no entry can allow them"
SUFFIX = "Wildcards over public suffixes: an entry would allow many owners' names"
NAMESPACE = "Callers whose namespace is unknown or no name: no entry or scope can be made for them"
NO_PORT = "Destinations whose port was not logged: an entry needs one"
PROTOCOL = "Ports that are used in two ways, or not as the existing entry says: one entry cannot allow both"
CAP = "Traffic beyond the cap on distinct destinations: nobody knows where it went"
RARE = "Seen more rarely than --min-requests"
NEW = "First seen less than --min-age ago"
BLOCKED = "Blocked attempts: not advised, look into who tried and why (--include-blocked advises them)"
_ORDER = (ADDRESS, BLOCKED, PROTOCOL, NO_HOST, SUFFIX, NAMESPACE, NO_PORT, MESH_NAME, RARE, NEW, CAP)

_LET_OUT = ("passthrough", "outbound")


def advise(observed: pl.DataFrame, registry: Registry, options: Options, until: datetime) -> Advice:
    """Advise what would allow the traffic that was seen.

    Args:
        observed: observed.OBSERVED, of one cluster: the lookback.
        registry: what is in force there. What it allows needs no new entry.
        options: how careful to be.
        until: the end of the lookback (aware).

    Returns:
        Objects that, applied over the registry, make `whatif` block nothing but what is listed apart.
    """
    rows: list[Row] = list(observed.iter_rows(named=True))
    # Scopes come last: whether an entry is needed is asked as if every entry were seen that is exported.
    mesh = Mesh(registry.without(Sidecar))
    drafts = Drafts(mesh.catalog, registry, options)
    apart: dict[str, list[Row]] = {}
    needed: list[Row] = []
    for row in rows:
        reason = _apart(row, mesh, options)
        if reason:
            apart.setdefault(reason, []).append(row)
        elif reason is None:
            needed.append(row)
    for reason, row in _unsettled(needed, options, until):
        apart.setdefault(reason, []).append(row)
    late = {id(row) for several in apart.values() for row in several}
    for row in drafts.add(row for row in needed if id(row) not in late):
        apart.setdefault(PROTOCOL, []).append(row)
    entries = drafts.finish()
    after = registry.over(advised.object for advised in entries)
    for row in _hidden(rows, after):
        apart.setdefault(NAMESPACE, []).append(row)
    let_out = [row for row in rows if row["label"] in _LET_OUT or options.include_blocked]
    return Advice(
        entries=entries,
        sidecars=scopes(let_out, after, options),
        apart=tuple(Apart(r, evidence(apart[r]), tuple(apart[r])) for r in _ORDER if r in apart),
        unused=_unused(rows, registry, options, until),
        since=min((row["first_event"] for row in rows), default=until),
        until=until,
    )


def _apart(row: Row, mesh: Mesh, options: Options) -> str | None:
    """Why a row gets no entry: a reason, empty if it needs none, None if it gets one."""
    host = row["destination_host"]
    if host is None or host == OTHER:
        return CAP
    if row["label"] not in (*_LET_OUT, "blackhole"):
        return ""
    coverage = mesh.cover(row)
    if coverage.found or coverage.reason == NAMED_BY_THE_MESH:
        return ""
    if row["label"] == "blackhole" and not options.include_blocked:
        return BLOCKED
    return _unnameable(row, host, mesh.registry)


def _unnameable(row: Row, host: str, registry: Registry) -> str | None:
    domain = registry.cluster_domain
    checks = (
        (parse_ip(host) is not None, ADDRESS),
        (host.endswith((".svc", f".{domain}")), MESH_NAME),
        (not is_host(host), NO_HOST),
        (host.startswith("*.") and row["destination_host_source"] != "registry", NO_HOST),
        (domain_of(host) is None, SUFFIX),
        (row["source_namespace"] is not None and not is_label(row["source_namespace"]), NAMESPACE),
        (not row["destination_port"], NO_PORT),
    )
    return next((reason for holds, reason in checks if holds), None)


def _unsettled(rows: list[Row], options: Options, until: datetime) -> Iterable[tuple[str, Row]]:
    """Rows of destinations that were seen too rarely, or not long enough."""
    seen: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        seen.setdefault((row["destination_host"], row["destination_port"]), []).append(row)
    for several in seen.values():
        if sum(row["requests"] for row in several) < options.min_requests:
            yield from ((RARE, row) for row in several)
        elif until - min(row["first_event"] for row in several) < options.min_age:
            yield from ((NEW, row) for row in several)


def _hidden(rows: list[Row], after: Registry) -> Iterable[Row]:
    """Rows of unknown callers that have an entry, but from whom the mesh's default Sidecar hides it."""
    unscoped, scoped = Mesh(after.without(Sidecar)), Mesh(after)
    for row in rows:
        unknown = row["label"] in _LET_OUT and not is_label(row["source_namespace"])
        if unknown and unscoped.cover(row).found and scoped.cover(row).found is None:
            yield row


def _unused(
    rows: list[Row], registry: Registry, options: Options, until: datetime
) -> tuple[Unused, ...] | None:
    """Entries of the registry whose hosts nobody asked for lately, on any port; None if nobody can know."""
    since = until - options.unused_after
    if not rows or min(row["first_event"] for row in rows) > since:
        return None
    catalog = Catalog(Registry(registry.service_entries))
    last: dict[str, datetime] = {}
    for row in rows:
        for title in _asked(row, catalog):
            last[title] = max(last.get(title, row["last_event"]), row["last_event"])
    return tuple(
        Unused(entry, last.get(entry.title))
        for entry in registry.service_entries
        if last.get(entry.title, since) <= since and _is_older(entry, since)
    )


def _asked(row: Row, catalog: Catalog) -> set[str]:
    """Entries that a row may be traffic of, whoever may see them: when in doubt an entry is in use."""
    named = {one.title for one in catalog.named(row["destination_host"])}
    ips = (*(row["destination_ips"] or ()), row["destination_host"] or "")
    held = {one.title for ip in ips for one in catalog.at(ip)}
    return named | held | {one.title for one in catalog.taking(row["destination_port"])}


def _is_older(entry: ServiceEntry, since: datetime) -> bool:
    created = entry.metadata.creation_timestamp
    return created is None or created <= since
