"""The range files that cloud providers publish: which of their networks lie in which region.

AWS ip-ranges.json: `prefixes[].{ip_prefix, region}`, `ipv6_prefixes[].{ipv6_prefix, region}`; region GLOBAL
is anywhere. Google cloud.json: `prefixes[].{ipv4Prefix | ipv6Prefix, scope}`; scope global is anywhere,
goog.json has none. Azure ServiceTags_Public.json: `values[].properties.{region, addressPrefixes}`; an empty
region is anywhere. The operator supplies the files; nothing is fetched.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Final

from egresslens.registry.models import AddressRanges, AddressRangesSpec, Metadata
from egresslens.registry.problems import Problem, RegistryError

_ANYWHERE: Final = frozenset({"", "global"})

_Row = tuple[str, object, object]
"""Where in the file, the network, its region."""


def provider_of(document: object) -> str | None:
    """Recognise a provider's range file by its shape."""
    if not isinstance(document, dict) or "kind" in document:
        return None
    prefixes = document.get("prefixes")
    if isinstance(prefixes, list) and (first := next(iter(prefixes), None)) and isinstance(first, dict):
        if "ip_prefix" in first:
            return "aws"
        if "ipv4Prefix" in first or "ipv6Prefix" in first:
            return "gcp"
    values = document.get("values")
    if isinstance(values, list) and any(isinstance(v, dict) and "properties" in v for v in values[:1]):
        return "azure"
    return None


def read_ranges(provider: str, document: Mapping[str, Any]) -> AddressRanges:
    """Read a provider's range file. Networks without a region are left out.

    Raises:
        RegistryError: an entry is not as the provider documents it.
    """
    rows = {"aws": _aws, "gcp": _gcp, "azure": _azure}[provider]
    ranges: dict[str, str] = {}
    problems: list[Problem] = []
    for field, network, region in rows(document):
        try:
            cidr = str(ipaddress.ip_network(network))  # type: ignore[arg-type]
        except (ValueError, TypeError):
            problems.append(Problem("", "is no network (CIDR)", field=field))
            continue
        if not isinstance(region, str):
            problems.append(Problem("", "has no region", field=field))
        elif region.lower() not in _ANYWHERE:
            ranges.setdefault(cidr, region.lower())
    if problems:
        raise RegistryError(tuple(problems[:20]))
    return AddressRanges(
        metadata=Metadata(name=provider),
        spec=AddressRangesSpec(provider=provider, ranges=tuple(sorted(ranges.items()))),
    )


def _aws(document: Mapping[str, Any]) -> Iterator[_Row]:
    for key, field in (("prefixes", "ip_prefix"), ("ipv6_prefixes", "ipv6_prefix")):
        for at, entry in enumerate(_entries(document, key)):
            yield f"{key}.{at}", entry.get(field), entry.get("region")


def _gcp(document: Mapping[str, Any]) -> Iterator[_Row]:
    for at, entry in enumerate(_entries(document, "prefixes")):
        yield (
            f"prefixes.{at}",
            entry.get("ipv4Prefix") or entry.get("ipv6Prefix"),
            entry.get("scope", "global"),
        )


def _azure(document: Mapping[str, Any]) -> Iterator[_Row]:
    for at, entry in enumerate(_entries(document, "values")):
        properties = entry.get("properties")
        if not isinstance(properties, dict):
            yield f"values.{at}.properties", None, None
            continue
        for prefix in properties.get("addressPrefixes") or ():
            yield f"values.{at}.properties.addressPrefixes", prefix, properties.get("region", "")


def _entries(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = document.get(key) or []
    return [entry if isinstance(entry, dict) else {} for entry in entries]
