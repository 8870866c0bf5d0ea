"""What an address alone says: its scope, and its region by tables.

Tables in this order: the operator's networks, the mesh's own pods and services, the cloud providers' range
files, and last a MaxMind-format database, which tells countries rather than clouds' regions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from egresslens.judge.home import pod_region
from egresslens.judge.verdict import NOTHING, Verdict
from egresslens.registry.value import Networks, Registry, parse_ip

Lookup = Callable[[str], Mapping[str, Any] | None]
"""A geographic database: what it holds for an address, None for nothing."""

# RFC 1918, RFC 6598 (carrier-grade NAT, used for pods), RFC 4193, RFC 3927, RFC 4291, RFC 1122, RFC 5771.
_RESERVED: Final = Networks(
    {
        "10.0.0.0/8": "private address (RFC 1918)",
        "172.16.0.0/12": "private address (RFC 1918)",
        "192.168.0.0/16": "private address (RFC 1918)",
        "100.64.0.0/10": "shared address (CGNAT, RFC 6598)",
        "fc00::/7": "unique local address (RFC 4193)",
        "169.254.0.0/16": "link-local address (169.254.169.254 is the clouds' metadata service)",
        "fe80::/10": "link-local address",
        "127.0.0.0/8": "loopback address",
        "::1/128": "loopback address",
        "224.0.0.0/4": "multicast address",
        "ff00::/8": "multicast address",
        "255.255.255.255/32": "broadcast address",
    }.items()
)
# Istio makes up 240.240.0.0/16 and 2001:2::/48 for ServiceEntries, and 0.0.0.0 is nobody's: no traffic ever
# goes there.
_NOBODY: Final = Networks(
    {"240.240.0.0/16": None, "2001:2::/48": None, "0.0.0.0/8": None, "::/128": None}.items()
)


@dataclass(frozen=True)
class AddressVerdicts:
    """Scope, region by tables, and region by the geographic database."""

    scope: Verdict = NOTHING
    region: Verdict = NOTHING
    geo: Verdict = NOTHING


class Addresses:
    """A registry's knowledge of addresses."""

    def __init__(self, registry: Registry, geo: Lookup | None = None) -> None:
        self._declared = Networks((network.cidr, network) for network in registry.networks)
        self._own = Networks(_own(registry))
        self._ranges = Networks(
            (cidr, (table.spec.provider, region))
            for table in registry.ranges
            for cidr, region in table.spec.ranges
        )
        self._geo = geo

    def judge(self, ip: str) -> AddressVerdicts:
        """Judge one address; what is no address, or nobody's, says nothing."""
        address = parse_ip(ip)
        if address is None or _NOBODY.find(ip):
            return AddressVerdicts()
        return AddressVerdicts(self._scope(ip), self._region(ip), self._geography(ip))

    def _scope(self, ip: str) -> Verdict:
        for cidr, network in self._declared.holding(ip):
            if network.scope:
                return Verdict(network.scope, "high", f"declared network {network.name or cidr}")
        own = self._own.find(ip)
        if own:
            return Verdict("mesh", "high", own[1][0])
        reserved = _RESERVED.find(ip)
        if reserved:
            return Verdict("private", "high", reserved[1])
        return Verdict("external", "high", "public address")

    def _region(self, ip: str) -> Verdict:
        for cidr, network in self._declared.holding(ip):
            if network.region:
                return Verdict(network.region, "high", f"declared network {network.name or cidr}")
        own = self._own.find(ip)
        if own and own[1][1]:
            return Verdict(own[1][1], "high", f"node of {own[1][0]}")
        found = self._ranges.find(ip)
        if found:
            provider, region = found[1]
            return Verdict(region, "high", f"address in the ranges of {provider}")
        return NOTHING

    def _geography(self, ip: str) -> Verdict:
        found = self._geo(ip) if self._geo else None
        if not found:
            return NOTHING
        region = found.get("region")
        if isinstance(region, str) and region:
            return Verdict(region.lower(), "medium", "geographic database: region")
        country = found.get("country")
        code = country.get("iso_code") if isinstance(country, Mapping) else country
        if isinstance(code, str) and len(code) == 2:
            return Verdict(code.upper(), "low", f"geographic database: country {code.upper()}")
        return NOTHING


def _own(registry: Registry) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Addresses of the mesh: what has them, and in which region (a service's address is no place)."""
    for pod in registry.pods:
        region = pod_region(registry, pod)
        for ip in pod.addresses:
            yield ip, (f"pod {pod.title}", region)
    for service in registry.services:
        for ip in (service.spec.cluster_ip, *service.spec.cluster_ips):
            if parse_ip(ip):
                yield ip, (f"service {service.title}", None)
