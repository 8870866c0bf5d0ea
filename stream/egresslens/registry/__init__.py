"""The registry: what people declare about the mesh and its surroundings, read from files, kept with history.

`files` reads ServiceEntries, Sidecars, Services, Pods, Nodes, the mesh config, an `EgressContext` of ours
and the cloud providers' range files into a `Registry`, a frozen value. `store` keeps its objects in
ClickHouse with their history. What a registry says of traffic is concluded in `egresslens.judge`, at read
time.
"""

from egresslens.registry.value import Registries, Registry

__all__ = ["Registries", "Registry"]
