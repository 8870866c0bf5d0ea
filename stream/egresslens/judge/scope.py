"""Where a name places a destination: in the mesh, in private networks, or outside.

A name is what the caller asked for, and may lie: addresses are asked first (see `judge.combine`), unless the
operator declared the host or the mesh's own registry named it.
"""

from __future__ import annotations

from egresslens.judge.cover import Candidate
from egresslens.judge.domains import in_public_dns
from egresslens.judge.verdict import NOTHING, Verdict
from egresslens.record import OTHER
from egresslens.registry.value import CLUSTER_DOMAIN, parse_ip


def by_name(
    host: str | None, covered_by: Candidate | None, *, location: str | None, external_name: str, domain: str
) -> Verdict:
    """Judge by the name and what covers it.

    Args:
        host: name asked for.
        covered_by: the ServiceEntry or Service that covers it.
        location: of that ServiceEntry.
        external_name: of that Service: the outside name it stands for, else empty.
        domain: the cluster's domain.
    """
    if not host or host == OTHER or parse_ip(host):
        return NOTHING
    if covered_by and (known := _covered(covered_by, location, external_name)):
        return known
    if host.endswith((f".{domain}", f".{CLUSTER_DOMAIN}", ".svc")):
        return Verdict("mesh", "medium", "name in the cluster's domain")
    if covered_by:
        return Verdict("external", "medium", f"ServiceEntry {covered_by.title} is MESH_EXTERNAL")
    return Verdict("external", "low", "name in the public DNS") if in_public_dns(host) else NOTHING


def _covered(covered_by: Candidate, location: str | None, external_name: str) -> Verdict:
    if external_name:
        return Verdict("external", "high", f"Service {covered_by.title} stands for {external_name}")
    if covered_by.kind == "Service":
        return Verdict("mesh", "high", f"Service {covered_by.title}")
    if location == "MESH_INTERNAL":
        return Verdict("mesh", "high", f"ServiceEntry {covered_by.title} is MESH_INTERNAL")
    return NOTHING
