"""Builders of registries for tests: ordinary objects, but for what is given."""

from typing import Any

from egresslens.registry.files import read_object
from egresslens.registry.models import Object
from egresslens.registry.value import Registry


def registry(*documents: dict[str, Any], cluster: str = "") -> Registry:
    objects: list[Object] = []
    for document in documents:
        objects.extend(read_object(document))
    return Registry.of(objects, cluster)


def named(name: str) -> dict[str, str]:
    """Metadata of `namespace/name`."""
    namespace, _, own = name.partition("/")
    return {"namespace": namespace, "name": own}


def entry(
    name: str, *hosts: str, ports: str = "443/TLS", created: str | None = None, **spec: Any
) -> dict[str, Any]:
    """A ServiceEntry; ports are `number/PROTOCOL`, separated by blanks; Istio's own addresses `made_up`."""
    made_up = spec.pop("made_up", ())
    metadata = named(name) | ({"creationTimestamp": created} if created else {})
    numbers = [port.partition("/") for port in ports.split()]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": metadata,
        "spec": {
            "hosts": list(hosts),
            "ports": [{"number": int(n), "name": f"p{n}", "protocol": p} for n, _, p in numbers],
            "resolution": "NONE" if any(host.startswith("*") for host in hosts) else "DNS",
            **{_camel(key): value for key, value in spec.items()},
        },
        "status": {"addresses": [{"value": one} for one in made_up]},
    }


def sidecar(name: str, *hosts: str, selector: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A Sidecar with one listener for all ports."""
    chosen = {"workloadSelector": {"labels": selector}} if selector else {}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": named(name),
        "spec": {**chosen, "egress": [{"hosts": list(hosts)}], **{_camel(k): v for k, v in spec.items()}},
    }


def service(
    name: str, *ports: str, ip: str = "", annotations: dict[str, str] | None = None, **spec: Any
) -> dict[str, Any]:
    """A Service; ports are `number/name`."""
    numbers = [port.partition("/") for port in ports]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": named(name) | {"annotations": annotations or {}},
        "spec": {
            "clusterIP": ip,
            "ports": [{"port": int(n), "name": p} for n, _, p in numbers],
            **{_camel(key): value for key, value in spec.items()},
        },
    }


def pod(
    name: str, ip: str, *, node: str = "n1", started: str = "2026-01-01T00:00:00Z", **labels: str
) -> dict[str, Any]:
    """A running pod with a sidecar; its labels are given, `app` at least to name its workload."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": named(name) | {"labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "app"}, {"name": "istio-proxy"}]},
        "status": {"podIP": ip, "podIPs": [{"ip": ip}], "phase": "Running", "startTime": started},
    }


def node(name: str, region: str) -> dict[str, Any]:
    """A node in a region."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/region": region, "beta": "no"}},
    }


def mesh(**spec: Any) -> dict[str, Any]:
    """A mesh config."""
    return {
        "meshConfig": {_camel(key): value for key, value in spec.items()} or {"trustDomain": "cluster.local"}
    }


def context(**spec: Any) -> dict[str, Any]:
    """What the operator knows."""
    return {
        "apiVersion": "egresslens/v1",
        "kind": "EgressContext",
        "spec": {_camel(k): v for k, v in spec.items()},
    }


def _camel(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(part.capitalize() for part in rest)
