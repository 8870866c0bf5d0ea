"""A registry as a value: the objects of one cluster, and a lookup of networks."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, Generic, TypeVar

from egresslens.registry.models import (
    AddressRanges,
    EgressContext,
    Home,
    KnownHost,
    KnownNetwork,
    MeshConfig,
    Node,
    Object,
    Pod,
    ResidencyPolicy,
    Service,
    ServiceEntry,
    Sidecar,
)

Value = TypeVar("Value")
Kind = TypeVar("Kind", bound=Object)

CLUSTER_DOMAIN: Final = "cluster.local"


@dataclass(frozen=True)
class Registry:
    """What is declared for one cluster. `cluster` is what records call it; empty is any cluster.

    Equal registries judge alike; objects are in the order of their keys.
    """

    objects: tuple[Object, ...] = ()
    cluster: str = ""

    @classmethod
    def of(cls, objects: Iterable[Object], cluster: str = "") -> Registry:
        """Make a registry; of objects with one key the last counts."""
        known = {one.key: one for one in objects}
        return cls(tuple(known[key] for key in sorted(known)), cluster)

    def over(self, objects: Iterable[Object]) -> Registry:
        """This registry with some objects added or replaced, as `kubectl apply` would."""
        return Registry.of((*self.objects, *objects), self.cluster)

    def without(self, kind: type[Object]) -> Registry:
        """This registry without the objects of a kind."""
        return Registry(tuple(one for one in self.objects if not isinstance(one, kind)), self.cluster)

    def _of_kind(self, kind: type[Kind]) -> tuple[Kind, ...]:
        return tuple(one for one in self.objects if isinstance(one, kind))

    @cached_property
    def service_entries(self) -> tuple[ServiceEntry, ...]:
        """All ServiceEntries."""
        return self._of_kind(ServiceEntry)

    @cached_property
    def sidecars(self) -> tuple[Sidecar, ...]:
        """All Sidecars."""
        return self._of_kind(Sidecar)

    @cached_property
    def services(self) -> tuple[Service, ...]:
        """All Services."""
        return self._of_kind(Service)

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        """All Pods."""
        return self._of_kind(Pod)

    @cached_property
    def nodes(self) -> Mapping[str, Node]:
        """All Nodes, by name."""
        return {node.name: node for node in self._of_kind(Node)}

    @cached_property
    def mesh(self) -> MeshConfig:
        """The mesh config, Istio's defaults if none was read."""
        return next(iter(self._of_kind(MeshConfig)), MeshConfig())

    @cached_property
    def ranges(self) -> tuple[AddressRanges, ...]:
        """The cloud providers' tables."""
        return self._of_kind(AddressRanges)

    @cached_property
    def _contexts(self) -> tuple[EgressContext, ...]:
        return self._of_kind(EgressContext)

    @cached_property
    def cluster_domain(self) -> str:
        """The domain of the mesh's own services."""
        declared = (context.spec.cluster_domain for context in self._contexts)
        return next((domain for domain in declared if domain), CLUSTER_DOMAIN)

    @cached_property
    def networks(self) -> tuple[KnownNetwork, ...]:
        """The operator's networks."""
        return tuple(network for context in self._contexts for network in context.spec.networks)

    @cached_property
    def hosts(self) -> tuple[KnownHost, ...]:
        """The operator's hosts."""
        return tuple(host for context in self._contexts for host in context.spec.hosts)

    @cached_property
    def homes(self) -> tuple[Home, ...]:
        """Where workloads are declared to be at home."""
        return tuple(home for context in self._contexts for home in context.spec.homes)

    @cached_property
    def residency(self) -> tuple[ResidencyPolicy, ...]:
        """Where namespaces may send to."""
        return tuple(policy for context in self._contexts for policy in context.spec.residency)


class Registries:
    """The registries of several clusters. A cluster without one of its own has the one without a name."""

    def __init__(self, registries: Iterable[Registry] = ()) -> None:
        self._by_cluster = {registry.cluster: registry for registry in registries}
        self._none = Registry()

    def __iter__(self) -> Iterator[Registry]:
        return iter(self._by_cluster.values())

    def __len__(self) -> int:
        return len(self._by_cluster)

    def of(self, cluster: str | None) -> Registry:
        """The registry that speaks for a cluster; an empty one if none does."""
        return self._by_cluster.get(cluster or "") or self._by_cluster.get("", self._none)


class Networks(Generic[Value]):
    """Networks and what is known of each; the smallest that holds an address tells."""

    def __init__(self, entries: Iterable[tuple[str, Value]] = ()) -> None:
        # Of one network the first entry counts.
        self._tables: dict[tuple[int, int], dict[int, tuple[str, Value]]] = {}
        for cidr, value in entries:
            network = ipaddress.ip_network(cidr)
            key = (network.version, network.prefixlen)
            table = self._tables.setdefault(key, {})
            table.setdefault(int(network.network_address), (cidr, value))
        self._lengths = {
            version: sorted((length for v, length in self._tables if v == version), reverse=True)
            for version in (4, 6)
        }

    def __bool__(self) -> bool:
        return bool(self._tables)

    def find(self, ip: str) -> tuple[str, Value] | None:
        """The smallest network that holds the address, and its value; None also for what is no address."""
        return next(self.holding(ip), None)

    def holding(self, ip: str) -> Iterator[tuple[str, Value]]:
        """All networks that hold the address, the smallest first; none for what is no address."""
        address = parse_ip(ip)
        if address is None:
            return
        number, bits = int(address), address.max_prefixlen
        for length in self._lengths[address.version]:
            shift = bits - length
            found = self._tables[address.version, length].get(number >> shift << shift)
            if found is not None:
                yield found


def is_network(text: str) -> bool:
    """Whether a text is an address or a CIDR."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


@lru_cache(maxsize=65_536)
def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address; an IPv4 address inside an IPv6 one (mapped, NAT64's well-known prefix) is itself."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
