"""The objects of a registry: strict about what is used of them, tolerant of the rest.

Each has Kubernetes' own shape, so that a stored object reads like a file. Of Pods, Nodes and Services only
what is used is kept: environments, annotations and the like hold secrets and are dropped on reading.
ServiceEntries and Sidecars are kept whole, because `advise` extends them.

Facts: istio.io/api networking (ServiceEntry, Sidecar), mesh/v1alpha1 (MeshConfig), kubernetes core/v1.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)
from pydantic.alias_generators import to_camel

from egresslens.destination import normal_host

MAX_NAME: Final = 253
# Kubernetes' names, labels' values and namespaces are of these; what has others would not be an object.
_NAME: Final = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9])?$")


def _object_name(text: str) -> str:
    if len(text) > MAX_NAME or not _NAME.match(text):
        raise ValueError("is no name of a Kubernetes object")
    return text


def _host(text: str) -> str:
    host = normal_host(text)
    if not host or not host.isprintable() or " " in host:
        raise ValueError("is no host name")
    return host


def _network(text: str) -> str:
    # A lone address stays one: Istio allows it where it allows no CIDR. A host part in a CIDR is forgiven.
    return str(ipaddress.ip_network(text, strict=False) if "/" in text else ipaddress.ip_address(text))


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _listed(value: object) -> object:
    # YAML's `hosts:` with nothing after it is null.
    return () if value is None else value


Name = Annotated[StrictStr, AfterValidator(_object_name)]
Host = Annotated[StrictStr, AfterValidator(_host)]
Network = Annotated[StrictStr, AfterValidator(_network)]
PortNumber = Annotated[StrictInt, Field(ge=1, le=65_535)]
Strings = Annotated[tuple[StrictStr, ...], BeforeValidator(_listed)]
Hosts = Annotated[tuple[Host, ...], BeforeValidator(_listed)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_listed)]
Labels = Annotated[dict[StrictStr, StrictStr], BeforeValidator(lambda value: value or {})]


class Part(BaseModel):
    """A piece of an object of which only the named fields are kept."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        hide_input_in_errors=True,
    )


class Whole(Part):
    """A piece of an object that is kept with what is not used of it."""

    model_config = ConfigDict(frozen=True, extra="allow", alias_generator=to_camel, populate_by_name=True)


class Given(Part):
    """A piece of a file of ours: an unknown key is a mistake."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        hide_input_in_errors=True,
    )


class Owner(Part):
    """An owner reference."""

    kind: StrictStr
    name: Name


class Metadata(Part):
    """Who an object is."""

    name: Name
    namespace: Name | None = None
    creation_timestamp: datetime | None = None


class LabelledMetadata(Metadata):
    """With its labels."""

    labels: Labels = {}


class PodMetadata(LabelledMetadata):
    """With its owners."""

    owner_references: Annotated[tuple[Owner, ...], BeforeValidator(_listed)] = ()


_EXPORT_TO: Final = "networking.istio.io/exportTo"
_TOPOLOGY: Final = frozenset(
    {
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
    }
)


class ServiceMetadata(Metadata):
    """With the one annotation that Istio reads."""

    annotations: dict[StrictStr, StrictStr] = {}

    @model_validator(mode="before")
    @classmethod
    def _only_export_to(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        annotations = value.get("annotations")
        kept = annotations if isinstance(annotations, dict) else {}
        return {**value, "annotations": {key: kept[key] for key in (_EXPORT_TO,) if key in kept}}


class NodeMetadata(LabelledMetadata):
    """With the labels that say where the node is."""

    @model_validator(mode="before")
    @classmethod
    def _only_topology(cls, value: Any) -> Any:
        labels = value.get("labels") if isinstance(value, dict) else None
        if not isinstance(labels, dict):
            return value
        return {**value, "labels": {key: label for key, label in labels.items() if key in _TOPOLOGY}}


class Object(BaseModel):
    """What all objects have in common."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    kind: str
    metadata: Metadata

    @property
    def name(self) -> str:
        """The object's own name."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """Its namespace; empty where objects of this kind have none."""
        return self.metadata.namespace or ""

    @property
    def title(self) -> str:
        """`namespace/name`, the name alone without a namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace and name: what no two objects of a cluster share."""
        return self.kind, self.namespace, self.name

    def document(self) -> dict[str, Any]:
        """The object in the shape of a file, what is not set left out; `files.read_object` reads it again."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True) | {
            "apiVersion": API_VERSIONS[self.kind],
            "kind": self.kind,
        }


# --- networking.istio.io ------------------------------------------------------------------------------------


class Port(Whole):
    """A port of a ServiceEntry. Without a protocol Istio detects it."""

    number: PortNumber
    name: StrictStr = ""
    protocol: Annotated[StrictStr, AfterValidator(str.upper)] = ""


class Endpoint(Whole):
    """A WorkloadEntry inside a ServiceEntry; locality is `region/zone/subzone`."""

    address: StrictStr = ""
    locality: StrictStr = ""


class ServiceEntrySpec(Whole):
    """What a ServiceEntry says. Defaults are those of istio.io/api."""

    hosts: Annotated[Hosts, Field(min_length=1)]
    addresses: Networks = ()
    ports: Annotated[tuple[Port, ...], BeforeValidator(_listed)] = ()
    location: Annotated[Literal["MESH_EXTERNAL", "MESH_INTERNAL"], BeforeValidator(_upper)] = "MESH_EXTERNAL"
    resolution: Annotated[
        Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"], BeforeValidator(_upper)
    ] = "NONE"
    endpoints: Annotated[tuple[Endpoint, ...], BeforeValidator(_listed)] = ()
    export_to: Strings = ()


class AllocatedAddress(Part):
    """An address that Istio made up for a host of the entry (240.240.0.0/16, 2001:2::/48)."""

    value: StrictStr
    host: StrictStr = ""


class ServiceEntryStatus(Part):
    """The part of the status that says how traffic is captured."""

    addresses: Annotated[tuple[AllocatedAddress, ...], BeforeValidator(_listed)] = ()


class ServiceEntry(Object):
    """A host outside the mesh's own service registry."""

    kind: Literal["ServiceEntry"] = "ServiceEntry"
    metadata: LabelledMetadata
    spec: ServiceEntrySpec
    status: ServiceEntryStatus = ServiceEntryStatus()


_SIDECAR_HOST: Final = re.compile(r"^(\*|\.|~|[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)/([^/\s]+)$")


def _sidecar_host(text: str) -> str:
    match = _SIDECAR_HOST.match(text)
    if not match:
        raise ValueError("is not of the form namespace/host")
    return f"{match[1]}/{'*' if match[3] == '*' else _host(match[3])}"


class SidecarPort(Whole):
    """The port of a listener; 0 is a UNIX socket's."""

    number: Annotated[StrictInt, Field(ge=0, le=65_535)] = 0


class EgressListener(Whole):
    """Which hosts a workload may see, on one port or (without) on all the others."""

    hosts: Annotated[
        tuple[Annotated[StrictStr, AfterValidator(_sidecar_host)], ...], BeforeValidator(_listed)
    ] = ()
    port: SidecarPort | None = None


class WorkloadSelector(Whole):
    """Which pods of the namespace are meant."""

    labels: Labels = {}


class OutboundTrafficPolicy(Whole):
    """What becomes of traffic to unknown hosts. An empty one is REGISTRY_ONLY, the enum's first value."""

    mode: Annotated[StrictStr, AfterValidator(str.upper)] = "REGISTRY_ONLY"


class SidecarSpec(Whole):
    """What a Sidecar says. Without `egress` it inherits the mesh's."""

    workload_selector: WorkloadSelector | None = None
    egress: Annotated[tuple[EgressListener, ...], BeforeValidator(_listed)] = ()
    outbound_traffic_policy: OutboundTrafficPolicy | None = None


class Sidecar(Object):
    """The egress scope of a namespace, or with a selector of some of its workloads."""

    kind: Literal["Sidecar"] = "Sidecar"
    metadata: LabelledMetadata
    spec: SidecarSpec = SidecarSpec()


class MeshConfigSpec(Part):
    """What is used of the mesh config. Istio's default of the outbound policy is ALLOW_ANY."""

    root_namespace: Name = "istio-system"
    outbound_traffic_policy: OutboundTrafficPolicy = OutboundTrafficPolicy(mode="ALLOW_ANY")
    default_service_export_to: Strings = ("*",)


class MeshConfig(Object):
    """The mesh config, wherever it was read from."""

    kind: Literal["MeshConfig"] = "MeshConfig"
    metadata: Metadata = Metadata(name="istio")
    spec: MeshConfigSpec = MeshConfigSpec()


# --- Kubernetes ---------------------------------------------------------------------------------------------


class ServicePort(Part):
    """A port of a Service. Istio takes the protocol from `appProtocol`, else from the name's beginning."""

    port: PortNumber
    name: StrictStr = ""
    app_protocol: StrictStr = ""
    protocol: StrictStr = "TCP"


class ServiceSpec(Part):
    """What is used of a Service."""

    type: StrictStr = "ClusterIP"
    # `None` (the text) is a headless service's.
    cluster_ip: StrictStr = Field("", alias="clusterIP")
    cluster_ips: Strings = Field((), alias="clusterIPs")
    external_name: StrictStr = ""
    ports: Annotated[tuple[ServicePort, ...], BeforeValidator(_listed)] = ()


class Service(Object):
    """A service of the mesh."""

    kind: Literal["Service"] = "Service"
    metadata: ServiceMetadata
    spec: ServiceSpec = Field(default_factory=lambda: ServiceSpec.model_validate({}))

    @property
    def export_to(self) -> tuple[str, ...]:
        """To whom it is visible, by the annotation; empty is the mesh's default."""
        text = self.metadata.annotations.get(_EXPORT_TO, "")
        return tuple(part.strip() for part in text.split(",") if part.strip())


class Container(Part):
    """A container's name."""

    name: StrictStr


class PodSpec(Part):
    """What is used of a Pod."""

    node_name: StrictStr = ""
    host_network: StrictBool = False
    containers: Annotated[tuple[Container, ...], BeforeValidator(_listed)] = ()
    # A native sidecar is an init container.
    init_containers: Annotated[tuple[Container, ...], BeforeValidator(_listed)] = ()


class PodAddress(Part):
    """One of a Pod's addresses."""

    ip: Annotated[StrictStr, AfterValidator(lambda text: str(ipaddress.ip_address(text)))]


class PodStatus(Part):
    """Where and since when a Pod runs."""

    pod_ip: StrictStr = Field("", alias="podIP")
    pod_ips: Annotated[tuple[PodAddress, ...], BeforeValidator(_listed)] = Field((), alias="podIPs")
    phase: StrictStr = ""
    start_time: datetime | None = None


class Pod(Object):
    """A pod: the workload behind an address."""

    kind: Literal["Pod"] = "Pod"
    metadata: PodMetadata
    spec: PodSpec = PodSpec()
    status: PodStatus = Field(default_factory=lambda: PodStatus.model_validate({}))

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its own addresses; none where it uses its node's, or is over."""
        if self.spec.host_network or self.status.phase in ("Succeeded", "Failed"):
            return ()
        several = tuple(address.ip for address in self.status.pod_ips)
        return several or ((self.status.pod_ip,) if self.status.pod_ip else ())

    @property
    def has_proxy(self) -> bool:
        """Whether it has Istio's sidecar."""
        containers = (*self.spec.containers, *self.spec.init_containers)
        return any(container.name == "istio-proxy" for container in containers)


class Node(Object):
    """A node: where its pods are."""

    kind: Literal["Node"] = "Node"
    metadata: NodeMetadata


# --- ours ---------------------------------------------------------------------------------------------------

Scope = Literal["external", "mesh", "private"]


class KnownNetwork(Given):
    """A CIDR of the operator's: what it is, and where."""

    cidr: Network
    name: StrictStr = ""
    scope: Scope | None = None
    region: StrictStr | None = None


class KnownHost(Given):
    """A host (or `*.suffix`) that the operator knows better."""

    host: Host
    scope: Scope | None = None
    region: StrictStr | None = None
    kind: StrictStr | None = None


class Home(Given):
    """Where workloads are at home. Names may hold `*`; what is left out matches all."""

    cluster: StrictStr = "*"
    namespace: StrictStr = "*"
    workload: StrictStr = "*"
    regions: Annotated[tuple[StrictStr, ...], Field(min_length=1)]


class ResidencyPolicy(Given):
    """Where namespaces may send to. Names and regions may hold `*`; the first policy that fits decides."""

    name: StrictStr
    clusters: tuple[StrictStr, ...] = ("*",)
    namespaces: Annotated[tuple[StrictStr, ...], Field(min_length=1)]
    regions: Annotated[tuple[StrictStr, ...], Field(min_length=1)]
    hosts: tuple[Host, ...] = Field((), description="Hosts or `*.suffix` allowed wherever they are.")
    unknown: Literal["allowed", "violation"] = Field(
        "allowed", description="What a destination of unknown region is."
    )


class EgressContextSpec(Given):
    """What only the operator knows."""

    cluster_domain: Host | None = None
    networks: tuple[KnownNetwork, ...] = ()
    hosts: tuple[KnownHost, ...] = ()
    homes: tuple[Home, ...] = ()
    residency: tuple[ResidencyPolicy, ...] = ()


class EgressContext(Object):
    """The file of ours that people write: networks, hosts, homes and residency policies."""

    kind: Literal["EgressContext"] = "EgressContext"
    metadata: Metadata = Metadata(name="default")
    spec: EgressContextSpec = EgressContextSpec()


class AddressRangesSpec(Given):
    """A table of networks and their regions, as a cloud provider publishes it."""

    provider: StrictStr
    ranges: tuple[tuple[Network, StrictStr], ...]


class AddressRanges(Object):
    """Which networks of a provider lie in which of its regions."""

    kind: Literal["AddressRanges"] = "AddressRanges"
    spec: AddressRangesSpec


KINDS: Final[dict[tuple[str, str], type[Object]]] = {
    ("networking.istio.io", "ServiceEntry"): ServiceEntry,
    ("networking.istio.io", "Sidecar"): Sidecar,
    ("", "Service"): Service,
    ("", "Pod"): Pod,
    ("", "Node"): Node,
    ("egresslens", "EgressContext"): EgressContext,
    ("egresslens", "AddressRanges"): AddressRanges,
    ("egresslens", "MeshConfig"): MeshConfig,
}
# Of the version that is written; any version is read.
API_VERSIONS: Final[dict[str, str]] = {kind: f"{group}/v1".lstrip("/") for group, kind in KINDS}
NAMESPACED: Final = frozenset({"ServiceEntry", "Sidecar", "Service", "Pod"})
