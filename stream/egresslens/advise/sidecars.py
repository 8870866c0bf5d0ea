"""Egress scopes: which hosts each namespace was seen to use, as Sidecars.

A namespace without a Sidecar of its own gets one; an existing one (also one with a selector) gets what it
lacks and keeps the rest. Beside what was seen, a namespace
keeps its own services and those of the root namespace.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from egresslens.advise.names import is_host, is_label
from egresslens.advise.values import Advised, Options, Row
from egresslens.judge.cover import Candidate
from egresslens.judge.home import Workload
from egresslens.registry.models import Sidecar
from egresslens.registry.value import Registry
from egresslens.whatif import NAMED_BY_THE_MESH, Mesh

Needs = dict[int | None, set[str]]
"""Port (None: not logged) -> hosts, as a Sidecar names them."""


def scopes(rows: Iterable[Row], registry: Registry, options: Options) -> tuple[Advised, ...]:
    """Make the Sidecars that let everything be seen that the registry has an entry or Service for.

    Args:
        rows: observed traffic that was let out.
        registry: with the advised entries.
        options: whether the Sidecars block the rest.
    """
    mesh, seen = Mesh(registry), Mesh(registry.without(Sidecar))
    needs: dict[tuple[str, str | None], Needs] = {}
    existing: dict[str, Sidecar] = {}
    # An existing scope that hides what is needed is extended in any case, and the mesh's own replaced.
    wanted: set[tuple[str, str | None]] = set()
    for row in rows:
        namespace = row["source_namespace"]
        if not is_label(namespace):
            continue
        host = _host(row, seen)
        if host is None:
            continue
        labels = mesh.labels.get(Workload(namespace, row["source_workload"]))
        sidecar = mesh.catalog.sidecar(namespace, labels)
        own = sidecar if sidecar and sidecar.namespace == namespace else None
        if own is None and namespace == registry.mesh.spec.root_namespace:
            continue  # a new one there would be every namespace's
        if own:
            existing[own.title] = own
        place = (namespace, own.title if own else None)
        needs.setdefault(place, {}).setdefault(row["destination_port"], set()).add(host)
        if options.sidecars or mesh.cover(row).found is None:
            wanted.add(place)
    advised = []
    for namespace, title in sorted(wanted, key=lambda place: (place[0], place[1] or "")):
        by_port = needs[namespace, title]
        made = _extended(existing[title], by_port) if title else _new(namespace, by_port, registry, options)
        if made:
            advised.append(made)
    return tuple(advised)


def _host(row: Row, seen: Mesh) -> str | None:
    """What covers a row, as its namespace's Sidecar names it; None for what nothing covers."""
    coverage = seen.cover(row)
    if coverage.found:
        return _named(coverage.found, row["source_namespace"])
    host = row["destination_host"] or ""
    if coverage.reason != NAMED_BY_THE_MESH or not is_host(host):
        return None
    # `web.shop.svc.cluster.local` is a service of the namespace shop.
    namespace = host.split(".")[1]
    return f"./{host}" if namespace == row["source_namespace"] else f"{namespace}/{host}"


def _named(found: Candidate, namespace: str) -> str:
    return f"{'.' if found.namespace == namespace else found.namespace}/{found.host}"


def _new(namespace: str, needs: Needs, registry: Registry, options: Options) -> Advised:
    root = registry.mesh.spec.root_namespace
    hosts = {host for several in needs.values() for host in several if not host.startswith("./")}
    services = f"{root}/*.svc.{registry.cluster_domain}"
    spec: dict[str, Any] = {"egress": [{"hosts": ["./*", *sorted(hosts | {services} - {"./*"})]}]}
    if options.registry_only:
        spec["outboundTrafficPolicy"] = {"mode": "REGISTRY_ONLY"}
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {
            "name": "default",
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "egresslens"},
        },
        "spec": spec,
    }
    return Advised(Sidecar.model_validate(document))


def _extended(before: Sidecar, needs: Needs) -> Advised | None:
    """Add to each listener what its port lacks; None where nothing lacks."""
    document = before.document()
    listeners: list[dict[str, Any]] = document.get("spec", {}).get("egress", [])
    if not listeners:
        return None
    ported = {listener["port"]["number"]: listener for listener in listeners if listener.get("port")}
    rest = next((listener for listener in listeners if not listener.get("port")), None)
    changed = False
    for port, hosts in sorted(needs.items(), key=lambda item: item[0] or 0):
        listener = ported.get(port or 0, rest)
        if listener is None:
            rest = listener = {"hosts": []}
            listeners.append(rest)  # the one without a port must be the last
        missing = sorted(host for host in hosts if not _is_listed(host, listener["hosts"], before.namespace))
        listener["hosts"] = [*listener["hosts"], *missing]
        changed = changed or bool(missing)
    return Advised(Sidecar.model_validate(document), before) if changed else None


def _is_listed(host: str, hosts: Iterable[str], namespace: str) -> bool:
    wanted, _, name = host.partition("/")
    wanted = namespace if wanted == "." else wanted
    for text in hosts:
        where, _, listed = text.partition("/")
        if where != "*" and (namespace if where == "." else where) != wanted:
            continue
        if listed in ("*", name) or (listed.startswith("*.") and name.endswith(listed[1:])):
            return True
    return False
