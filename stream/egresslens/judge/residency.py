"""Residency policies: which namespaces may send where."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from egresslens.judge.hosts import Hosts
from egresslens.registry.models import ResidencyPolicy
from egresslens.registry.value import Registry

Outcome = Literal["allowed", "violation", "unknown"]


class Residency(NamedTuple):
    """What a policy says of a destination; no policy, no outcome."""

    policy: str | None = None
    outcome: Outcome | None = None
    reason: str | None = None


def residency(
    registry: Registry,
    cluster: str | None,
    namespace: str | None,
    host: str | None,
    region: str | None,
) -> Residency:
    """Judge one destination by the first policy for the namespace. Regions are compared in lower case."""
    policy = next((one for one in registry.residency if _is_for(one, cluster, namespace)), None)
    if policy is None:
        return Residency()
    allowed = ", ".join(policy.regions)
    if host and (found := Hosts((one, None) for one in policy.hosts).find(host)):
        return Residency(policy.name, "allowed", f"host {found[0]} is allowed wherever it is")
    if region is None:
        if policy.unknown == "violation":
            return Residency(policy.name, "violation", f"unknown region, and only {allowed} is allowed")
        return Residency(policy.name, "unknown", "unknown region")
    if any(fnmatchcase(region.lower(), pattern.lower()) for pattern in policy.regions):
        return Residency(policy.name, "allowed", f"{region} is allowed")
    return Residency(policy.name, "violation", f"{region} is not among {allowed}")


def _is_for(policy: ResidencyPolicy, cluster: str | None, namespace: str | None) -> bool:
    return any(fnmatchcase(cluster or "", pattern) for pattern in policy.clusters) and any(
        fnmatchcase(namespace or "", pattern) for pattern in policy.namespaces
    )
