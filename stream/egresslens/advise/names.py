"""Names that may go into an entry: callers choose hosts, shippers namespaces; what Istio takes passes.

Istio's own rules (istio.io/istio pkg/config/validation): labels of letters, digits and hyphens, 63 at most,
255 in all, a last label that is no number, wildcards only as `*.` in front.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from egresslens.judge.domains import owner_domain

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# A Kubernetes name has 253 characters at most, and the entry is named after its domain.
_MAX: Final = 240


def is_label(text: str | None) -> bool:
    """Whether a text is a DNS label: a namespace's name, for one."""
    return bool(text and _LABEL.fullmatch(text))


def is_host(text: str) -> bool:
    """Whether Istio takes a text as a ServiceEntry's host: a full name, or one with `*.` in front."""
    labels = text.removeprefix("*.").split(".")
    return (
        len(text) <= _MAX and len(labels) >= 2 and all(map(is_label, labels)) and not labels[-1].isdecimal()
    )


def generalise(hosts: Iterable[str], domain: str, threshold: int) -> frozenset[str]:
    """Replace many hosts of one domain by wildcards, the narrowest that hold `threshold` hosts.

    Args:
        hosts: hosts of the domain, wildcards among them.
        domain: the registrable domain: no wildcard is wider than `*.domain`.
        threshold: so many hosts below one name become `*.name`; so many hosts that are left, or such
            wildcards, become `*.domain`.
    """
    found = set(hosts)
    parents: dict[str, set[str]] = {}
    for host in found:
        if host != domain and not host.startswith("*."):
            parents.setdefault(host.partition(".")[2], set()).add(host)
    for parent, children in parents.items():
        if len(children) >= threshold:
            found = (found - children) | {f"*.{parent}"}
    wildcards = {host for host in found if host.startswith("*.")}
    if max(len(wildcards), len(found - wildcards - {domain})) >= threshold:
        found = (found & {domain}) | {f"*.{domain}"}
    return frozenset(host for host in found if not _is_held(host, found))


def _is_held(host: str, hosts: set[str]) -> bool:
    """Whether a wildcard among the hosts holds a host (itself aside)."""
    suffix = host.removeprefix("*.").partition(".")[2] if not host.startswith("*.") else host[2:]
    if host.startswith("*."):
        suffix = suffix.partition(".")[2]
    while suffix:
        if f"*.{suffix}" in hosts:
            return True
        suffix = suffix.partition(".")[2]
    return False


def domain_of(host: str) -> str | None:
    """Whose a host or wildcard is: its registrable domain, or a host itself that is a public suffix.

    None for a wildcard over a public suffix: it would hold many owners' names.
    """
    return owner_domain(host[2:]) if host.startswith("*.") else owner_domain(host) or host
