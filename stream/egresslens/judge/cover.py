"""Which ServiceEntry or Service covers a destination, as a workload of a namespace sees the registry.

The rules are Istio's (reference: Traffic management, ServiceEntry and Sidecar; pilot/pkg/model/sidecar.go,
pilot/pkg/networking/core/listener.go):

* A host is matched exactly first, then by the longest `*.suffix`; `*.example.com` is not `example.com`.
* What is not exported to a namespace, or lies outside its Sidecar's egress hosts, does not exist for it.
* HTTP is told by its Host header, TLS by its server name, other TCP by its address. A TCP port without
  addresses takes every connection to that port number, whatever is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Final, Literal

from egresslens.registry.models import EgressListener, Service, ServiceEntry, Sidecar
from egresslens.registry.value import Networks, Registry, is_network

Traffic = Literal["http", "tls", "tcp", "opaque"]
"""What a proxy could read: HTTP; TLS with a server name; nothing (an address is all there is); or nothing
though the mesh's own registry names the host."""

# Protocols of a port (istio.io/istio pkg/config/protocol), by how Istio tells their traffic apart.
_HTTP: Final = frozenset({"HTTP", "HTTP2", "HTTP_PROXY", "GRPC", "GRPC-WEB"})
_TLS: Final = frozenset({"TLS", "HTTPS"})
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Candidate:
    """One host of a ServiceEntry or Service.

    ports: number -> protocol, upper case, empty where Istio detects it. addresses: by which TCP finds it.
    takes_all: its TCP ports have no address of their own, and take all connections to their numbers.
    """

    kind: Literal["ServiceEntry", "Service"]
    namespace: str
    name: str
    host: str
    ports: Mapping[int, str]
    export_to: tuple[str, ...]
    created: datetime = _LONG_AGO
    addresses: tuple[str, ...] = ()
    takes_all: bool = False
    port_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Coverage:
    """What covers a destination, and by which rule; `found` None is nothing, and `reason` says why not."""

    found: Candidate | None
    reason: str

    @property
    def service_entry(self) -> str | None:
        """`namespace/name`, if it is a ServiceEntry."""
        return self.found.title if self.found and self.found.kind == "ServiceEntry" else None


class Catalog:
    """A registry's hosts, indexed. Answers are values: the same question gets the same answer."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._exact: dict[str, list[Candidate]] = {}
        self._wildcard: dict[str, list[Candidate]] = {}
        self._takes_all: dict[int, list[Candidate]] = {}
        by_address: dict[str, list[Candidate]] = {}
        for candidate in sorted(_candidates(registry), key=_oldest_first):
            if candidate.host.startswith("*."):
                self._wildcard.setdefault(candidate.host[2:], []).append(candidate)
            else:
                self._exact.setdefault(candidate.host, []).append(candidate)
            for address in candidate.addresses:
                by_address.setdefault(address, []).append(candidate)
            if candidate.takes_all:
                for port, protocol in candidate.ports.items():
                    if is_tcp(protocol):
                        self._takes_all.setdefault(port, []).append(candidate)
        self._addresses = Networks(by_address.items())
        self._scopes = _Scopes(registry)

    def sidecar(self, namespace: str | None, labels: Mapping[str, str] | None) -> Sidecar | None:
        """The Sidecar that a workload has: one that selects it, its namespace's, or the mesh's."""
        return self._scopes.of(namespace, labels)

    def named(self, host: str | None) -> Iterator[Candidate]:
        """All whose host is this one or a wildcard that holds it, whoever may see them."""
        return self._named(host, None)

    def at(self, ip: str) -> Iterator[Candidate]:
        """All that have an address of their own which holds this one."""
        return (one for _, several in self._addresses.holding(ip) for one in several)

    def taking(self, port: int | None) -> tuple[Candidate, ...]:
        """All that take every TCP connection to a port."""
        return tuple(self._takes_all.get(port or 0, ()))

    def exact(self, host: str) -> tuple[Candidate, ...]:
        """All that claim exactly this host, the oldest first."""
        return tuple(self._exact.get(host, ()))

    def cover(
        self,
        host: str | None,
        port: int | None,
        namespace: str | None,
        *,
        traffic: Traffic | None = None,
        ips: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
    ) -> Coverage:
        """Say what covers a destination.

        Args:
            host: name or address asked for, in lower case.
            port: its port; None (not logged) fits any.
            namespace: the caller's; None sees only what is exported to all.
            traffic: what a proxy could read of it; None fits ports of any protocol.
            ips: addresses it went to.
            labels: the calling workload's, for Sidecars with a selector; None is any workload.
        """
        sidecar = self._scopes.of(namespace, labels)
        missed: list[str] = []
        for candidate in self._named(host, namespace):
            miss = self._miss(candidate, port, namespace, sidecar, traffic)
            if miss is None:
                how = "wildcard" if candidate.host.startswith("*") else "host"
                return Coverage(candidate, f"{how} {candidate.host}")
            missed.append(miss)
        for ip in dict.fromkeys((*ips, *((host,) if host else ()))):
            for candidate in self.at(ip):
                miss = self._miss(candidate, port, namespace, sidecar, "tcp")
                if miss is None:
                    return Coverage(candidate, f"address {ip} is in {candidate.title}'s addresses")
                missed.append(miss)
        for candidate in self.taking(port) if traffic else ():
            if self._miss(candidate, port, namespace, sidecar, "tcp") is None:
                return Coverage(candidate, f"{candidate.title} takes every connection to port {port}")
        return Coverage(None, missed[0] if missed else "no entry for the host")

    def _named(self, host: str | None, namespace: str | None) -> Iterator[Candidate]:
        """Candidates for a host, the most exact first; of one host the caller's own namespace first."""
        if not host:
            return
        for name in self._spellings(host, namespace):
            yield from sorted(self._exact.get(name, ()), key=lambda one: one.namespace != namespace)
        suffix = host.removeprefix("*.") if host.startswith("*.") else host.partition(".")[2]
        while suffix:
            yield from sorted(self._wildcard.get(suffix, ()), key=lambda one: one.namespace != namespace)
            suffix = suffix.partition(".")[2]

    def _spellings(self, host: str, namespace: str | None) -> Iterator[str]:
        """The host, and what a resolver completes it to (`web`, `web.shop`, `web.shop.svc`)."""
        domain = self._registry.cluster_domain
        yield host
        parts = host.split(".")
        if len(parts) == 1 and namespace:
            yield f"{host}.{namespace}.svc.{domain}"
        elif len(parts) == 2:
            yield f"{host}.svc.{domain}"
        elif len(parts) == 3 and parts[2] == "svc":
            yield f"{host}.{domain}"

    def _miss(
        self,
        candidate: Candidate,
        port: int | None,
        namespace: str | None,
        sidecar: Sidecar | None,
        traffic: Traffic | None,
    ) -> str | None:
        """Why a candidate does not count; None if it does."""
        if not self._is_exported(candidate, namespace):
            return f"{candidate.title} is not exported to {namespace or 'an unknown namespace'}"
        if sidecar is not None and not in_scope(sidecar, candidate, port):
            return f"{candidate.title} is outside the egress hosts of Sidecar {sidecar.title}"
        if port is not None and port not in candidate.ports:
            return f"{candidate.title} has no port {port}"
        if port is not None and traffic and not fits(traffic, candidate.ports[port]):
            protocol = candidate.ports[port] or "of a detected protocol"
            return f"port {port} of {candidate.title} is {protocol}, the traffic is {traffic}"
        return None

    def _is_exported(self, candidate: Candidate, namespace: str | None) -> bool:
        export_to = candidate.export_to or self._registry.mesh.spec.default_service_export_to
        if "*" in export_to:
            return True
        return namespace is not None and (
            namespace in export_to or ("." in export_to and namespace == candidate.namespace)
        )


def is_tcp(protocol: str) -> bool:
    """Whether traffic of a port of this protocol is told by its address alone (also if it is detected)."""
    return protocol not in _HTTP and protocol not in _TLS


def in_scope(sidecar: Sidecar, candidate: Candidate, port: int | None) -> bool:
    """Whether a Sidecar's egress hosts let a candidate be seen on a port; without `egress` all are seen.

    A listener with a port counts for that port only, the one without for all others.
    """
    listeners = sidecar.spec.egress
    if not listeners:
        return True
    own = [one for one in listeners if one.port and one.port.number == port]
    rest = [one for one in listeners if one.port is None]
    considered = listeners if port is None else (own or rest)
    return any(_lists(listener, sidecar.namespace, candidate) for listener in considered)


def _lists(listener: EgressListener, namespace: str, candidate: Candidate) -> bool:
    for text in listener.hosts:
        where, _, host = text.partition("/")
        if where == "~":
            continue
        if where not in ("*", candidate.namespace) and not (
            where == "." and candidate.namespace == namespace
        ):
            continue
        if host in ("*", candidate.host) or (host.startswith("*.") and candidate.host.endswith(host[1:])):
            return True
    return False


def fits(traffic: Traffic, protocol: str) -> bool:
    """Whether a port's protocol finds this traffic by its host (`tcp`: by its address)."""
    if traffic == "http":
        return protocol in _HTTP or not protocol
    if traffic == "tls":
        return protocol in _TLS
    if traffic == "opaque":
        return protocol not in _HTTP
    # An HTTP or TLS port with addresses is also told by them.
    return True


def _oldest_first(candidate: Candidate) -> tuple[datetime, str, str, str]:
    # Istio gives a host that several entries claim to the oldest.
    return candidate.created, candidate.namespace, candidate.name, candidate.kind


def _candidates(registry: Registry) -> Iterable[Candidate]:
    for entry in registry.service_entries:
        yield from _of_entry(entry)
    for service in registry.services:
        yield _of_service(service, registry.cluster_domain)


def _of_entry(entry: ServiceEntry) -> Iterator[Candidate]:
    spec = entry.spec
    for host in spec.hosts:
        made_up = tuple(one.value for one in entry.status.addresses if one.host in ("", host))
        addresses = (*spec.addresses, *made_up)
        yield Candidate(
            kind="ServiceEntry",
            namespace=entry.namespace,
            name=entry.name,
            host=host,
            ports={port.number: port.protocol for port in spec.ports},
            export_to=spec.export_to,
            created=entry.metadata.creation_timestamp or _LONG_AGO,
            addresses=tuple(address for address in addresses if is_network(address)),
            takes_all=not addresses,
            port_names={port.number: port.name for port in spec.ports},
        )


def _of_service(service: Service, domain: str) -> Candidate:
    spec = service.spec
    addresses = dict.fromkeys((spec.cluster_ip, *spec.cluster_ips))
    return Candidate(
        kind="Service",
        namespace=service.namespace,
        name=service.name,
        host=f"{service.name}.{service.namespace}.svc.{domain}",
        ports={port.port: _protocol(port.app_protocol or port.name) for port in spec.ports},
        export_to=service.export_to,
        created=service.metadata.creation_timestamp or _LONG_AGO,
        addresses=tuple(address for address in addresses if is_network(address)),
        port_names={port.port: port.name for port in spec.ports},
    )


def _protocol(name: str) -> str:
    """Protocol of a Service's port by `appProtocol` or the beginning of its name; empty is detected."""
    text = name.upper()
    if text.startswith("GRPC-WEB"):
        return "GRPC-WEB"
    known = {*_HTTP, *_TLS, "TCP", "UDP", "MONGO", "MYSQL", "REDIS"}
    return next((part for part in (text, text.partition("-")[0]) if part in known), "")


class _Scopes:
    """Which Sidecar a workload has: one that selects it, its namespace's, or the mesh's (root namespace)."""

    def __init__(self, registry: Registry) -> None:
        self._root = registry.mesh.spec.root_namespace
        self._defaults: dict[str, Sidecar] = {}
        self._selecting: dict[str, list[Sidecar]] = {}
        for sidecar in sorted(
            registry.sidecars, key=lambda one: one.metadata.creation_timestamp or _LONG_AGO
        ):
            selector = sidecar.spec.workload_selector
            if selector and selector.labels:
                self._selecting.setdefault(sidecar.namespace, []).append(sidecar)
            else:
                self._defaults.setdefault(sidecar.namespace, sidecar)

    def of(self, namespace: str | None, labels: Mapping[str, str] | None) -> Sidecar | None:
        for sidecar in self._selecting.get(namespace or "", ()) if labels is not None else ():
            selector = sidecar.spec.workload_selector
            if selector and selector.labels.items() <= (labels or {}).items():
                return sidecar
        return self._defaults.get(namespace or "") or self._defaults.get(self._root)
