"""One destination, judged: what its name says, what its addresses say, and which of them counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from egresslens.judge import region, scope
from egresslens.judge.address import Addresses, AddressVerdicts, Lookup
from egresslens.judge.cover import Catalog
from egresslens.judge.hosts import Hosts
from egresslens.judge.kind import Kinds
from egresslens.judge.verdict import NOTHING, Verdict
from egresslens.registry.value import Registry

_CACHE = 131_072


@dataclass(frozen=True)
class NameVerdicts:
    """What a destination's name and port say, for callers of one namespace.

    `declared` verdicts are people's words and beat addresses, the others only fill in for them.
    """

    service_entry: str | None
    service_entry_reason: str
    declared_scope: Verdict
    scope: Verdict
    declared_region: Verdict
    region: Verdict
    kind: Verdict


@dataclass(frozen=True)
class Judgement:
    """What is concluded. `scope` is `external`, `mesh`, `private` or `unknown`; the others may be nothing."""

    scope: Verdict
    region: Verdict
    kind: Verdict
    service_entry: str | None
    service_entry_reason: str


class Judge:
    """Judges destinations by one registry."""

    def __init__(self, registry: Registry, geo: Lookup | None = None) -> None:
        self.catalog = Catalog(registry)
        self._domain = registry.cluster_domain
        self._entries = {entry.title: entry for entry in registry.service_entries}
        self._services = {service.title: service for service in registry.services}
        self._scopes = Hosts((host.host, host.scope) for host in registry.hosts if host.scope)
        self._regions = Hosts((host.host, host.region) for host in registry.hosts if host.region)
        self._kinds = Kinds(Hosts((host.host, host.kind) for host in registry.hosts if host.kind))
        self.name = lru_cache(_CACHE)(self._name)
        self.address = lru_cache(_CACHE)(Addresses(registry, geo).judge)

    def judge(
        self,
        host: str | None,
        port: int | None,
        namespace: str | None,
        ips: Sequence[str] = (),
        *,
        registered: bool = False,
    ) -> Judgement:
        """Judge one destination.

        Args:
            host: name or address asked for, in lower case.
            port: its port, None if not logged.
            namespace: the caller's, None if not known.
            ips: addresses it went to.
            registered: the name is the mesh's own (destination_host_source `registry`), not the caller's.
        """
        name = self.name(host, port, namespace)
        addresses = [self.address(ip) for ip in (ips or ((host,) if host else ()))]
        return combine(name, addresses, registered=registered)

    def _name(self, host: str | None, port: int | None, namespace: str | None) -> NameVerdicts:
        coverage = self.catalog.cover(host, port, namespace)
        found = coverage.found
        entry = self._entries.get(found.title) if found and found.kind == "ServiceEntry" else None
        service = self._services.get(found.title) if found and found.kind == "Service" else None
        declared = self._scopes.find(host) if host else None
        placed = self._regions.find(host) if host else None
        return NameVerdicts(
            service_entry=coverage.service_entry,
            service_entry_reason=coverage.reason,
            declared_scope=_declared(declared),
            scope=scope.by_name(
                host,
                found,
                location=entry.spec.location if entry else None,
                external_name=service.spec.external_name if service else "",
                domain=self._domain,
            ),
            declared_region=_declared(placed) or region.by_entry(entry),
            region=region.by_host(host),
            kind=self._kinds.judge(host, port, found),
        )


def combine(name: NameVerdicts, addresses: Sequence[AddressVerdicts], *, registered: bool) -> Judgement:
    """Decide between what name and addresses say.

    A name is the caller's word: `db.internal.svc` may be asked of any address. So addresses come first,
    unless the operator declared the host, or the mesh itself named it as one of its own.
    """
    return Judgement(
        scope=_scope(name, [one.scope for one in addresses], registered=registered),
        region=_region(name, addresses),
        kind=name.kind,
        service_entry=name.service_entry,
        service_entry_reason=name.service_entry_reason,
    )


def _scope(name: NameVerdicts, addresses: Sequence[Verdict], *, registered: bool) -> Verdict:
    by_name = name.scope
    in_mesh = by_name if by_name.value == "mesh" else NOTHING
    return (
        name.declared_scope
        or (in_mesh if registered else NOTHING)
        or _first(addresses, "external")
        or in_mesh
        or _first(addresses, "mesh")
        or _first(addresses, "private")
        or by_name
        or Verdict("unknown", "low", "neither name nor address tells")
    )


def _region(name: NameVerdicts, addresses: Sequence[AddressVerdicts]) -> Verdict:
    if name.declared_region:
        return name.declared_region
    by_table = _agreed([one.region for one in addresses])
    if by_table.reason:
        return by_table
    geo = _agreed([one.geo for one in addresses])
    return name.region or (geo if geo.reason else name.declared_region)


def _first(verdicts: Iterable[Verdict], value: str) -> Verdict:
    return next((one for one in verdicts if one.value == value), NOTHING)


def _agreed(verdicts: Iterable[Verdict]) -> Verdict:
    """The one region that all addresses with a region have; several are none, and the reason names them."""
    known = [one for one in verdicts if one]
    regions = sorted({one.value for one in known if one.value})
    if len(regions) > 1:
        return Verdict(None, None, f"addresses in {', '.join(regions)}")
    return known[0] if known else NOTHING


def _declared(found: tuple[str, str | None] | None) -> Verdict:
    return Verdict(found[1], "high", f"declared host {found[0]}") if found else NOTHING
