"""Residency policies: which namespaces may send where."""

from __future__ import annotations

import re
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


def policy_for(registry: Registry, cluster: str | None, namespace: str | None) -> ResidencyPolicy | None:
    """The first policy that speaks for the callers of a namespace."""
    return next((one for one in registry.residency if _is_for(one, cluster, namespace)), None)


def residency(
    registry: Registry,
    cluster: str | None,
    namespace: str | None,
    host: str | None,
    region: str | None,
) -> Residency:
    """Judge one destination by the policy for the namespace. Regions are compared in lower case.

    `schemas/clickhouse/report.sql` has the same rule for rows of the views, which a test compares.
    """
    policy = policy_for(registry, cluster, namespace)
    if policy is None:
        return Residency()
    allowed = ", ".join(policy.regions)
    if host and (found := Hosts((one, None) for one in policy.hosts).find(host)):
        return Residency(policy.name, "allowed", f"host {found[0]} is allowed wherever it is")
    if region is None:
        if policy.unknown == "violation":
            return Residency(policy.name, "violation", f"unknown region, and only {allowed} is allowed")
        return Residency(policy.name, "unknown", "unknown region")
    if any(_fits(pattern.lower(), region.lower()) for pattern in policy.regions):
        return Residency(policy.name, "allowed", f"{region} is allowed")
    return Residency(policy.name, "violation", f"{region} is not among {allowed}")


def _is_for(policy: ResidencyPolicy, cluster: str | None, namespace: str | None) -> bool:
    return any(_fits(pattern, cluster or "") for pattern in policy.clusters) and any(
        _fits(pattern, namespace or "") for pattern in policy.namespaces
    )


def _fits(pattern: str, name: str) -> bool:
    """Whether a name fits a pattern, in which `*` stands for any text."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None
