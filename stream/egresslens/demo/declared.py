"""What is declared about the demo: ServiceEntries as in its last phase, and what only the owner knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

import yaml

from egresslens.demo.config import Json
from egresslens.demo.plan import (
    CHECKOUT_REGISTERED,
    HTTPBIN,
    NAMESPACE,
    PHASES,
    TELEMETRY,
    External,
    World,
)

# Where the shippers say that the pods run.
HOME_REGION: Final = "local"
HOME_ZONE: Final = "local-1"
ABROAD_REGION: Final = "us-east-1"


def objects(world: World) -> list[Json]:
    """Istio's objects as `kubectl get` gives them, and the operator's EgressContext."""
    registered = (*CHECKOUT_REGISTERED, *PHASES[-1].registered)
    return [*_service_entries(registered, world), _context(world)]


def as_yaml(world: World) -> str:
    """The objects as a file that `egresslens registry` loads."""
    return "---\n".join(yaml.safe_dump(one, sort_keys=False) for one in objects(world))


def _service_entries(registered: Iterable[External], world: World) -> Iterator[Json]:
    named = sorted((one for one in registered if one.host), key=lambda one: (one.host or "", one.last))
    for host, group in groupby(named, key=lambda one: one.host):
        parties = list(group)
        region = ABROAD_REGION if host == HTTPBIN.host else HOME_REGION
        vips = [one.vip for one in parties if one.vip]
        yield {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": host, "namespace": NAMESPACE},
            "spec": {
                "hosts": [host],
                **({"addresses": vips} if vips else {}),
                "ports": [
                    {
                        "number": one.port,
                        "name": f"{one.protocol.lower()}-{one.port}",
                        "protocol": one.protocol,
                    }
                    for one in parties
                ],
                "location": "MESH_EXTERNAL",
                "resolution": "STATIC",
                "endpoints": [
                    {"address": f"{world.block}.{one.last}", "locality": region} for one in parties
                ],
                "exportTo": ["."],
            },
        }


def _context(world: World) -> Json:
    return {
        "apiVersion": "egresslens/v1",
        "kind": "EgressContext",
        "metadata": {"name": "demo"},
        "spec": {
            "networks": [{"cidr": f"{world.block}.0/24", "name": "the demo's internet", "scope": "external"}],
            "hosts": [{"host": TELEMETRY.host, "region": ABROAD_REGION}],
            "residency": [
                {"name": "shop stays at home", "namespaces": [NAMESPACE], "regions": [HOME_REGION]}
            ],
        },
    }
