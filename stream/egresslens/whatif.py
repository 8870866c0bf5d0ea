"""What if the mesh let only registered hosts out: history against a registry.

Every destination that was seen is looked up as the proxy of its caller would: by host, port and what it can
read of the traffic, among what is exported to the caller's namespace and in its Sidecar's scope.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import polars as pl

from egresslens.judge.cover import Catalog, Coverage
from egresslens.judge.home import Workload, pod_source
from egresslens.observed import OBSERVED
from egresslens.record import OTHER
from egresslens.registry.models import Object
from egresslens.registry.value import Registries, Registry

Policy = Literal["registry-only", "declared"]
"""`registry-only`: every proxy blocks what it does not know. `declared`: as mesh config and Sidecars say."""

# `blocked` was let out and would not be; `still blocked` and `no longer blocked` were blocked attempts.
VERDICTS: Final = ("allowed", "blocked", "still blocked", "no longer blocked", "not judged")

RESULT: Final[dict[str, pl.DataType]] = {
    **OBSERVED,
    "verdict": pl.String(),
    "service_entry": pl.String(),
    "reason": pl.String(),
}
_LET_OUT: Final = ("passthrough", "outbound")


class Mesh:
    """One registry, asked as its proxies ask it."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.catalog = Catalog(registry)
        self.labels = _labels(registry)
        self._any = registry.mesh.spec.outbound_traffic_policy.mode != "REGISTRY_ONLY"

    def cover(self, row: Mapping[str, Any]) -> Coverage:
        """Say what covers a row of OBSERVED for its caller."""
        who = Workload(row["source_namespace"], row["source_workload"])
        found = self.catalog.cover(
            row["destination_host"],
            row["destination_port"],
            row["source_namespace"],
            traffic=row["traffic"],
            ips=row["destination_ips"] or (),
            labels=self.labels.get(who),
        )
        if found.found is None and self._named_by_the_mesh(row):
            return Coverage(None, NAMED_BY_THE_MESH)
        return found

    def lets_any_out(self, row: Mapping[str, Any]) -> bool:
        """Whether the declared policy of a row's caller lets unknown hosts out."""
        who = Workload(row["source_namespace"], row["source_workload"])
        sidecar = self.catalog.sidecar(row["source_namespace"], self.labels.get(who))
        policy = sidecar.spec.outbound_traffic_policy if sidecar else None
        return policy.mode != "REGISTRY_ONLY" if policy else self._any

    def _named_by_the_mesh(self, row: Mapping[str, Any]) -> bool:
        """Without any Service in the registry, a cluster of the mesh's own is proof enough of its service."""
        host = row["destination_host"] or ""
        return (
            not self.registry.services
            and row["destination_host_source"] == "registry"
            and host.endswith(f".svc.{self.registry.cluster_domain}")
        )


NAMED_BY_THE_MESH: Final = "the mesh named it, and the registry holds no Services to look it up in"


def whatif(observed: pl.DataFrame, registries: Registries, policy: Policy = "registry-only") -> pl.DataFrame:
    """Look up everything that was seen.

    Args:
        observed: OBSERVED.
        registries: the entries that would be in force.
        policy: what becomes of unknown hosts.

    Returns:
        RESULT: the rows and what would have become of them, the most requests first.
    """
    meshes: dict[str, Mesh] = {}
    rows: list[tuple[str, str | None, str]] = []
    for row in observed.iter_rows(named=True):
        registry = registries.of(row["source_cluster"])
        if registry.cluster not in meshes:
            meshes[registry.cluster] = Mesh(registry)
        rows.append(_verdict(row, meshes[registry.cluster], policy))
    schema = {name: RESULT[name] for name in ("verdict", "service_entry", "reason")}
    return (
        observed.hstack(pl.DataFrame(rows, schema=schema, orient="row"))
        .select(*RESULT)
        .sort("requests", "destination_host", descending=[True, False], nulls_last=True, maintain_order=True)
    )


def by_verdict(found: pl.DataFrame) -> dict[str, int]:
    """Requests of RESULT by verdict, of every verdict that there is."""
    return {
        verdict: int(found.filter(pl.col("verdict") == verdict)["requests"].sum()) for verdict in VERDICTS
    }


def applied(registries: Registries, objects: Sequence[Object]) -> Registries:
    """Every cluster's registry with the objects over it; also the one for any cluster, if there is none."""
    if not len(registries):
        return Registries([Registry.of(objects)])
    return Registries(registry.over(objects) for registry in registries)


def _verdict(row: Mapping[str, Any], mesh: Mesh, policy: Policy) -> tuple[str, str | None, str]:
    if row["destination_host"] in (None, OTHER) or row["label"] not in (*_LET_OUT, "blackhole"):
        return "not judged", None, "the records do not say where it went"
    coverage = mesh.cover(row)
    blocked = row["label"] == "blackhole"
    if coverage.found or coverage.reason == NAMED_BY_THE_MESH:
        return ("no longer blocked" if blocked else "allowed"), coverage.service_entry, coverage.reason
    if policy == "declared" and mesh.lets_any_out(row):
        return (
            ("no longer blocked" if blocked else "allowed"),
            None,
            f"ALLOW_ANY lets it out: {coverage.reason}",
        )
    return ("still blocked" if blocked else "blocked"), None, coverage.reason


def _labels(registry: Registry) -> dict[Workload, dict[str, str]]:
    """The labels of each workload's pods: what Sidecars select by."""
    return {
        Workload(pod.namespace, pod_source(registry, pod).workload): pod.metadata.labels
        for pod in registry.pods
    }
