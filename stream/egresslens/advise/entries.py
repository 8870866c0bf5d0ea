"""Drafts of ServiceEntries: one per owner's domain, existing ones extended, TCP hosts for themselves.

HTTP is told by its Host header and TLS by its server name, so hosts can share an entry, and its ports. Other
TCP is told by its address, which counts for the whole entry: each such host has an entry of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from egresslens.advise.evidence import evidence
from egresslens.advise.names import domain_of, generalise
from egresslens.advise.values import Advised, Options, Row
from egresslens.judge.cover import Candidate, Catalog, fits, is_tcp
from egresslens.registry.models import ServiceEntry
from egresslens.registry.value import Registry, parse_ip

# Where the mesh names the host and the proxy reads nothing, these ports are TLS by their registration.
_TLS_PORTS: Final = frozenset({443, 465, 563, 636, 853, 989, 990, 993, 995, 5061, 6443, 8443, 9443})
_LABELS: Final = {"app.kubernetes.io/managed-by": "egresslens"}


@dataclass
class Draft:
    """An entry in the making. `domain`: many hosts of it may become a wildcard."""

    namespace: str
    name: str
    base: ServiceEntry | None = None
    domain: str | None = None
    hosts: set[str] = field(default_factory=set)
    ports: dict[int, str] = field(default_factory=dict)
    export_to: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    rows: list[Row] = field(default_factory=list)

    def takes(self, ports: dict[int, str]) -> bool:
        """Whether these ports can be beside the ones it has."""
        return all(self.ports.get(port, protocol) == protocol for port, protocol in ports.items())

    def add(self, host: str, ports: dict[int, str], rows: Iterable[Row]) -> None:
        """Take a host with its ports."""
        self.hosts.add(host)
        self.ports |= ports
        for row in rows:
            self.export_to.add(row["source_namespace"] or "*")
            self.rows.append(row)


class Drafts:
    """All entries in the making."""

    def __init__(self, catalog: Catalog, registry: Registry, options: Options) -> None:
        self._catalog = catalog
        self._options = options
        self._known = {entry.title: entry for entry in registry.service_entries}
        self._default_export = registry.mesh.spec.default_service_export_to
        self._drafts: dict[str, Draft] = {}

    def add(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Find each row an entry; yields the rows whose port is used in two ways."""
        by_host: dict[str, dict[int, list[Row]]] = {}
        for row in rows:
            by_host.setdefault(row["destination_host"], {}).setdefault(row["destination_port"], []).append(
                row
            )
        by_domain: dict[str, dict[str, dict[int, list[Row]]]] = {}
        for host, ports in sorted(by_host.items()):
            for port, several in sorted(ports.items()):
                protocol, odd = _protocol(several, opaque=self._opaque(host, port, several))
                yield from odd
                apart = set(map(id, odd))
                fitting = [row for row in several if id(row) not in apart]
                if self._is_taken(host, port, fitting):
                    yield from fitting
                elif is_tcp(protocol):
                    self._add_tcp(host, port, protocol, fitting)
                elif existing := self._existing(host, port, fitting):
                    self._extend(existing, host, port, protocol, fitting)
                else:
                    domain = domain_of(host) or host
                    by_domain.setdefault(domain, {}).setdefault(host, {})[port] = fitting
        for domain, hosts in sorted(by_domain.items()):
            self._add_domain(domain, hosts)

    def finish(self) -> tuple[Advised, ...]:
        """Make the entries, by namespace and name."""
        return tuple(self._finished(draft) for _, draft in sorted(self._drafts.items()))

    def _opaque(self, host: str, port: int, rows: list[Row]) -> str:
        """Protocol of traffic whose host the mesh named and of which nothing more is known."""
        known = (one.ports.get(port) for one in self._catalog.named(host))
        told = port in _TLS_PORTS or any(row["traffic"] == "tls" for row in rows)
        return "TLS" if told or any(protocol in ("TLS", "HTTPS") for protocol in known) else "TCP"

    def _is_taken(self, host: str, port: int, rows: list[Row]) -> bool:
        """Whether the most exact entries that know the host's port know it as what this traffic is not."""
        known = [one for one in self._catalog.named(host) if port in one.ports]
        exact = [one for one in known if one.host == known[0].host]
        return bool(exact) and not any(_fit(rows, one, port) for one in exact)

    def _existing(self, host: str, port: int, rows: list[Row]) -> Candidate | None:
        """The entry that has this very host: one in the callers' namespace first, then the oldest."""
        namespaces = {row["source_namespace"] for row in rows}
        found = [
            one
            for one in self._catalog.exact(host)
            if one.kind == "ServiceEntry" and (port not in one.ports or _fit(rows, one, port))
        ]
        return min(found, key=lambda one: one.namespace not in namespaces, default=None)

    def _extend(self, existing: Candidate, host: str, port: int, protocol: str, rows: list[Row]) -> None:
        draft = self._drafts.setdefault(existing.title, self._based_on(self._known[existing.title]))
        draft.add(host, {} if port in draft.ports else {port: protocol}, rows)

    def _add_tcp(self, host: str, port: int, protocol: str, rows: list[Row]) -> None:
        name = f"{host.removeprefix('*.')}-tcp"
        title = f"{self._options.into}/{name}"
        draft = self._drafts.get(title)
        if draft is None:
            base = self._known.get(title)
            draft = self._based_on(base) if base else Draft(self._options.into, name)
            self._drafts[title] = draft
        draft.add(host, {port: protocol}, rows)
        ips = {ip for row in rows for ip in row["destination_ips"] or ()}
        draft.addresses |= {ip for ip in ips if parse_ip(ip)}

    def _add_domain(self, domain: str, hosts: dict[str, dict[int, list[Row]]]) -> None:
        """Share the domain's hosts among as few entries as their ports allow."""
        groups: list[Draft] = []
        names = self._free_names(domain)
        for host, ports in sorted(hosts.items()):
            protocols = {
                port: _protocol(rows, opaque=self._opaque(host, port, rows))[0]
                for port, rows in ports.items()
            }
            group = next((one for one in groups if one.takes(protocols)), None)
            while group is None:
                groups.append(next(names))
                group = groups[-1] if groups[-1].takes(protocols) else None
            group.add(host, protocols, (row for rows in ports.values() for row in rows))
        if len(groups) > 1:
            # A wildcard of one would hold the others' hosts, whose ports are used otherwise.
            for group in groups:
                group.domain = None
        self._drafts |= {f"{one.namespace}/{one.name}": one for one in groups if one.rows}

    def _free_names(self, domain: str) -> Iterator[Draft]:
        """Entries to share, existing ones taken up: `example.com`, then `example.com-2` and so on."""
        number = 1
        while True:
            name = domain if number == 1 else f"{domain}-{number}"
            title = f"{self._options.into}/{name}"
            base = self._known.get(title)
            if title in self._drafts:
                pass  # another host's own entry, that is already extended
            elif base is None:
                yield Draft(self._options.into, name, domain=domain)
            elif _is_shared(base, domain):
                draft = self._based_on(base)
                draft.domain = domain
                yield draft
            number += 1

    def _based_on(self, base: ServiceEntry) -> Draft:
        return Draft(
            base.namespace,
            base.name,
            base,
            hosts=set(base.spec.hosts),
            ports={port.number: port.protocol for port in base.spec.ports},
            addresses=set(base.spec.addresses),
        )

    def _finished(self, draft: Draft) -> Advised:
        hosts = frozenset(draft.hosts)
        if draft.domain:
            hosts = generalise(hosts, draft.domain, self._options.wildcard_hosts)
        document = draft.base.document() if draft.base else _blank(draft)
        spec = document["spec"]
        kept = [host for host in spec.get("hosts", ()) if host in hosts]
        spec["hosts"] = [*kept, *sorted(hosts - set(kept))]
        spec["ports"] = _ports(spec.get("ports", []), draft.ports)
        spec["exportTo"] = self._export_to(draft)
        if draft.addresses:
            spec["addresses"] = sorted(draft.addresses)
        if any(host.startswith("*.") for host in hosts) and spec.get("resolution") == "DNS":
            # Nobody can resolve a wildcard: the address that the caller found is used.
            spec["resolution"] = "NONE"
        entry = ServiceEntry.model_validate(document)
        return Advised(entry, draft.base, evidence(draft.rows), tuple(_notes(entry)))

    def _export_to(self, draft: Draft) -> list[str]:
        before = set(draft.base.spec.export_to or self._default_export) if draft.base else set()
        if "." in before and draft.namespace in draft.export_to:
            draft.export_to.discard(draft.namespace)
        wanted = before | draft.export_to
        return ["*"] if "*" in wanted else sorted(wanted - {"~"})


def _protocol(rows: list[Row], opaque: str) -> tuple[str, list[Row]]:
    """Protocol of a port by the traffic most of its requests were; and the rows that are otherwise."""
    kinds = {"http": "HTTP", "tls": "TLS", "opaque": opaque}
    requests: dict[str, int] = {}
    for row in rows:
        kind = kinds.get(row["traffic"], "TCP")
        requests[kind] = requests.get(kind, 0) + row["requests"]
    first = max(requests, key=lambda kind: (requests[kind], kind))
    odd = [row for row in rows if kinds.get(row["traffic"], "TCP") != first]
    if first != "HTTP":
        return first, odd
    # A port that also saw HTTP/1.1 must not speak HTTP/2 to everybody.
    versions = {row["protocol"] for row in rows if row not in odd}
    return ("HTTP2" if versions == {"HTTP/2"} else "HTTP"), odd


def _fit(rows: list[Row], existing: Candidate, port: int) -> bool:
    """Whether the existing port would find all of this traffic by its host."""
    return all(fits(row["traffic"], existing.ports[port]) for row in rows)


def _is_shared(entry: ServiceEntry, domain: str) -> bool:
    """Whether hosts of the domain can be added to an entry: nothing in it is for one host alone."""
    spec = entry.spec
    alone = spec.addresses or spec.endpoints or (spec.model_extra or {}).get("workloadSelector")
    return (
        not alone
        and spec.location == "MESH_EXTERNAL"
        and spec.resolution in ("NONE", "DNS")
        and not any(is_tcp(port.protocol) for port in spec.ports)
        and all(domain_of(host) == domain for host in spec.hosts)
    )


def _blank(draft: Draft) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": draft.name, "namespace": draft.namespace, "labels": dict(_LABELS)},
        "spec": {"hosts": [], "location": "MESH_EXTERNAL", "resolution": "DNS"},
    }


def _ports(before: list[dict[str, Any]], wanted: dict[int, str]) -> list[dict[str, Any]]:
    known = {port["number"] for port in before}
    names = {port.get("name") for port in before}
    added = []
    for number, protocol in sorted(wanted.items()):
        if number not in known:
            name = f"{protocol.lower()}-{number}"
            while name in names:
                name = f"x-{name}"
            names.add(name)
            added.append({"number": number, "name": name, "protocol": protocol})
    return [*before, *added]


def _notes(entry: ServiceEntry) -> Iterator[str]:
    tcp = [port.number for port in entry.spec.ports if is_tcp(port.protocol)]
    if tcp and not entry.spec.addresses:
        ports = ", ".join(map(str, tcp))
        yield f"no address is known: without one, port {ports} takes every TCP connection to that port"
    if tcp and entry.spec.addresses:
        yield "addresses are those that were seen; a host that changes them needs Istio's DNS proxy instead"
    if entry.spec.export_to == ("*",):
        yield "exported to all namespaces: some of its callers' namespaces are not known"
