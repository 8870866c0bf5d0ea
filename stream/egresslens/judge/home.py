"""Where workloads are at home: declared, by their pods' nodes, or by what shippers said of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from egresslens.judge.verdict import Confidence
from egresslens.parse.source import Source, from_pod, labels_of, strip_owner
from egresslens.registry.models import Pod
from egresslens.registry.value import Registry

Where = Literal["in", "out", "unknown"]


class Workload(NamedTuple):
    """Who: as records name a source."""

    namespace: str | None
    workload: str | None


class Home(NamedTuple):
    """Regions in which a workload runs, how sure that is, and who says so; none is unknown."""

    regions: tuple[str, ...] = ()
    confidence: Confidence | None = None
    reason: str | None = None


class Homes:
    """Homes of one cluster's workloads."""

    def __init__(self, registry: Registry, observed: Mapping[Workload, Iterable[str]] | None = None) -> None:
        """Observed: the regions that records' envelopes named (`source_region`)."""
        self._cluster = registry.cluster
        self._declared = registry.homes
        self._observed = observed or {}
        self._nodes: dict[Workload, set[str]] = defaultdict(set)
        for pod in registry.pods:
            region = pod_region(registry, pod)
            if region:
                self._nodes[Workload(pod.namespace, pod_source(registry, pod).workload)].add(region)

    def of(self, cluster: str | None, who: Workload) -> Home:
        """Say where a workload is at home: declared, by its pods' nodes, or by its records' envelopes."""
        for home in self._declared:
            named = (cluster or "", who.namespace or "", who.workload or "")
            if all(map(fnmatchcase, named, (home.cluster, home.namespace, home.workload))):
                return Home(tuple(region.lower() for region in home.regions), "high", "declared")
        nodes = self._nodes.get(who)
        if nodes:
            return Home(tuple(sorted(nodes)), "high", "labels of its pods' nodes")
        seen = sorted({region.lower() for region in self._observed.get(who, ())})
        return Home(tuple(seen), "medium", "region in its records' envelopes") if seen else Home()


def pod_source(registry: Registry, pod: Pod) -> Source:
    """Who a pod is, by the same rules as a record's metadata (parse.source)."""
    labels = labels_of(pod.metadata.labels)
    template_hash = pod.metadata.labels.get("pod-template-hash")
    owner = next(
        (strip_owner(one.kind, one.name, template_hash) for one in pod.metadata.owner_references), None
    )
    node = registry.nodes.get(pod.spec.node_name)
    return from_pod(pod.name, pod.namespace, labels, owner, labels_of(node.metadata.labels) if node else None)


def pod_region(registry: Registry, pod: Pod) -> str | None:
    """Region of a pod's node."""
    region = pod_source(registry, pod).region
    return region.lower() if region else None


# Countries, as geographic databases have them.
_COUNTRY_LETTERS: Final = 2


@lru_cache(maxsize=65_536)
def where(home: tuple[str, ...], region: str | None) -> Where:
    """Whether a region is one of the home's. Countries and clouds' regions cannot be compared."""
    if region is None or not home:
        return "unknown"
    if region in home:
        return "in"
    comparable = any((len(one) == _COUNTRY_LETTERS) == (len(region) == _COUNTRY_LETTERS) for one in home)
    return "out" if comparable else "unknown"
