"""Who sent the request: cluster, namespace, workload, pod, region and zone, from what shippers know of a pod.

Small scalar functions read one piece of metadata each (a `kubernetes` object, resource attributes, a file's
path, a SPIFFE URI); `resolve` applies one to the distinct values of a column. Shippers repeat a pod's
metadata with every line, so distinct values are few and a bounded cache keeps them between batches.

Order of the facts: the workload is Istio's canonical service first, as in Istio's own telemetry
(`service.istio.io/canonical-name`, `app.kubernetes.io/name`, `app`), then the owner, then the pod's name
without its random parts. Region and zone are those of the node; the pod's `istio-locality` and the cloud's
metadata stand in for them. Nothing here raises: metadata of the wrong type counts as absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson
import polars as pl

from egresslens.parse.jsontext import escape_controls

# Names of Kubernetes objects have at most 253 characters; what is longer is no name.
MAX_NAME: Final = 253

# Pods differ in their metadata, lines of one pod do not. Longer texts are read again each time.
CACHED_TEXTS: Final = 16_384
CACHED_TEXT_CHARS: Final = 4_096

PROXY_CONTAINER: Final = "istio-proxy"


class Source(NamedTuple):
    """What is known of a line's sender; null is unknown."""

    cluster: str | None = None
    namespace: str | None = None
    workload: str | None = None
    pod: str | None = None
    region: str | None = None
    zone: str | None = None
    role: str | None = None
    container: str | None = None
    pod_ip: str | None = None

    def over(self, other: Source) -> Source:
        """These facts, and the other's where this one knows nothing."""
        return Source(
            *(mine if mine is not None else theirs for mine, theirs in zip(self, other, strict=True))
        )


UNKNOWN: Final = Source()

# Columns of `resolve`, in the order of Source.
COLUMNS: Final[tuple[str, ...]] = (
    "source_cluster",
    "source_namespace",
    "source_workload",
    "source_pod",
    "source_region",
    "source_zone",
    "source_role",
    "container",
    "source_pod_ip",
)

Read = Callable[[str], Source]


def resolve(texts: pl.Series, read: Read) -> pl.DataFrame:
    """Apply `read` to the distinct values of a column: one row of COLUMNS per value, in its order."""
    schema = dict.fromkeys(COLUMNS, pl.String())
    texts = texts.alias("text")
    known = texts.drop_nulls().unique()
    # Many texts may say the same (`from_kubernetes`): rows are made of distinct facts.
    facts: dict[Source, int] = {}
    codes = [facts.setdefault(read(text), len(facts)) for text in known]
    table = pl.DataFrame(list(facts), schema=schema, orient="row")[codes].with_columns(known)
    return texts.to_frame().join(table, on="text", how="left", maintain_order="left").drop("text")


def cached(read: Read) -> Read:
    """Remember what `read` made of texts of ordinary length."""
    remembered = lru_cache(CACHED_TEXTS)(read)
    return lambda text: remembered(text) if len(text) <= CACHED_TEXT_CHARS else read(text)


# --- names --------------------------------------------------------------------------------------------------


def name(value: object) -> str | None:
    """A name as it may stand in metadata, or None for anything that is none."""
    if not isinstance(value, str):
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        value = str(value)
    text = value.strip()
    return text if text and text != "-" and len(text) <= MAX_NAME and text.isprintable() else None


# A ReplicaSet's hash, and the five random characters of a pod, which avoid vowels and look-alikes
# (k8s.io/apimachinery/pkg/util/rand).
_HASH = r"[a-f0-9]{8,10}"
_RANDOM = "[bcdfghjklmnpqrstvwxz2456789]{5}"
_DEPLOYMENT_POD = re.compile(rf"^(.+)-{_HASH}-[a-z0-9]{{5}}$")
_STATEFUL_POD = re.compile(r"^(.+)-\d+$")
_OTHER_POD = re.compile(rf"^(.+)-(?:{_RANDOM}|(?=[a-z]*\d)[a-z0-9]{{5}})$")
_REPLICA_SET = re.compile(rf"^(.+)-{_HASH}$")
_CRON_JOB_RUN = re.compile(r"^(.+)-\d{8,10}$")


def strip_pod(pod: str, pod_template_hash: str | None = None) -> str:
    """Name a pod's workload by the pod's own name: without the hash and the random suffix.

    The hash is exact evidence; without it the shapes of Deployment and CronJob pods (hash and suffix),
    StatefulSet pods (ordinal), and DaemonSet and Job pods (suffix) are tried in this order. A suffix without
    a digit must be of Kubernetes' own alphabet, so that `web-proxy` stays itself.
    """
    if pod_template_hash:
        head, _, suffix = pod.rpartition("-")
        if len(suffix) == 5 and head.endswith(f"-{pod_template_hash}"):
            return head[: -len(pod_template_hash) - 1] or pod
    for shape in (_DEPLOYMENT_POD, _STATEFUL_POD, _OTHER_POD):
        if match := shape.match(pod):
            return match[1]
    return pod


def strip_owner(kind: str, owner: str, pod_template_hash: str | None = None) -> str | None:
    """Name a pod's workload by its owner: a ReplicaSet's Deployment, a Job's CronJob, else the owner."""
    if kind == "Node":  # a static pod belongs to its node, which is no workload
        return None
    if kind == "ReplicaSet":
        if pod_template_hash and owner.endswith(f"-{pod_template_hash}"):
            return owner[: -len(pod_template_hash) - 1] or owner
        match = _REPLICA_SET.match(owner)
        return match[1] if match else owner
    if kind == "Job" and (match := _CRON_JOB_RUN.match(owner)):
        return match[1]
    return owner


# --- labels -------------------------------------------------------------------------------------------------

_DEDOT = str.maketrans("./-", "___")


def labels_of(value: object) -> dict[str, str]:
    """Labels under keys in one spelling (`app_kubernetes_io_name`).

    Shippers write `app.kubernetes.io/name`, `app_kubernetes_io/name` (de-dotted), `app_kubernetes_io_name`
    (Loki) or nested objects (`{"app":{"kubernetes":{"io/name":…}}}`).
    """
    found: dict[str, str] = {}
    # Sorted: where one label stands there in two spellings, the keys' order decides nothing.
    for key, text in sorted(
        (key, text) for key, label in _leaves(value) if (text := name(label)) is not None
    ):
        found.setdefault(key.translate(_DEDOT), text)
    return found


def _leaves(value: object, prefix: str = "", depth: int = 8) -> Iterator[tuple[str, object]]:
    if not isinstance(value, dict) or not depth:
        return
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _leaves(item, f"{prefix}{key}.", depth - 1)
        else:
            yield prefix + key, item


def _first(labels: Mapping[str, str], *keys: str) -> str | None:
    return next((labels[key] for key in keys if key in labels), None)


def _workload_label(labels: Mapping[str, str]) -> str | None:
    return _first(labels, "service_istio_io_canonical_name", "app_kubernetes_io_name", "app")


def _hash_label(labels: Mapping[str, str]) -> str | None:
    # Argo Rollouts names its own hash.
    return _first(labels, "pod_template_hash", "rollouts_pod_template_hash")


def _region_label(labels: Mapping[str, str]) -> str | None:
    return _first(labels, "topology_kubernetes_io_region", "failure_domain_beta_kubernetes_io_region")


def _zone_label(labels: Mapping[str, str]) -> str | None:
    return _first(labels, "topology_kubernetes_io_zone", "failure_domain_beta_kubernetes_io_zone")


def _locality(labels: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Region and zone of the label `istio-locality`, `region.zone.subzone` (a label cannot hold `/`)."""
    parts = [*labels.get("istio_locality", "").replace("/", ".").split("."), ""]
    return parts[0] or None, parts[1] or None


# --- role ---------------------------------------------------------------------------------------------------

_GATEWAY_NAME = re.compile(r"^istio-?(?:ingress|egress|eastwest)(?:-?gateway)?(?:-|$)")
_GATEWAY_LABEL = re.compile(r"gateway|^(?:ingress|egress|eastwest)")
_NODE_ROLES: Final = {"sidecar": "sidecar", "router": "gateway", "ingress": "gateway", "waypoint": "waypoint"}


def role_of(labels: Mapping[str, str], workload: str | None) -> str | None:
    """`gateway`, `waypoint` or `sidecar`, where labels or the workload's name tell.

    Istio's gateway chart labels pods `istio: ingressgateway` (or the release's name), its Gateway API
    controller names the Gateway and tells waypoints by `gateway.istio.io/managed`, and injected sidecars
    carry `security.istio.io/tlsMode`.
    """
    managed = labels.get("gateway_istio_io_managed", "")
    if "mesh-controller" in managed or "istio_io_waypoint_for" in labels:
        return "waypoint"
    if (
        managed
        or "gateway_networking_k8s_io_gateway_name" in labels
        or _GATEWAY_LABEL.search(labels.get("istio", ""))
        or labels.get("operator_istio_io_component", "").endswith("Gateways")
        or (workload and _GATEWAY_NAME.match(workload))
    ):
        return "gateway"
    if workload and (workload == "waypoint" or workload.endswith("-waypoint")):
        return "waypoint"
    return "sidecar" if "security_istio_io_tlsMode" in labels else None


# --- scalar readers -----------------------------------------------------------------------------------------


def from_pod(
    pod: str | None,
    namespace: str | None,
    labels: Mapping[str, str],
    owner: str | None = None,
    node_labels: Mapping[str, str] | None = None,
) -> Source:
    """Conclude who a pod is from its names and labels (in the spelling of `labels_of`).

    The owner's name comes without hash. Newer Kubernetes copies the node's topology labels to the pod.
    """
    node = node_labels or {}
    region, zone = _locality(labels)
    workload = _workload_label(labels) or owner
    if workload is None and pod is not None:
        workload = strip_pod(pod, _hash_label(labels))
    return Source(
        cluster=labels.get("topology_istio_io_cluster"),
        namespace=namespace,
        workload=workload,
        pod=pod,
        region=_region_label(node) or _region_label(labels) or region,
        zone=_zone_label(node) or _zone_label(labels) or zone,
        role=role_of(labels, workload),
    )


_OWNER_KINDS: Final = {
    "deployment": "Deployment",
    "statefulset": "StatefulSet",
    "daemonset": "DaemonSet",
    "cronjob": "CronJob",
    "replicaset": "ReplicaSet",
    "job": "Job",
}


class _Pod(NamedTuple):
    """The raw facts of a `kubernetes` object that matter, free of the order of its keys."""

    pod: str | None
    namespace: str | None
    container: str | None
    cluster: str | None
    ip: str | None
    labels: frozenset[tuple[str, str]]
    node_labels: frozenset[tuple[str, str]]
    owners: tuple[tuple[str, str], ...]


def from_kubernetes(text: str) -> Source:
    """Read a `kubernetes` object as JSON text.

    Shapes: Fluent Bit and Fluentd (`pod_name`, `namespace_name`, `labels`), Filebeat and Elastic Agent
    (`pod.name`, `namespace`, `node.labels`, `deployment.name`), Vector (`pod_namespace`, `pod_labels`,
    `pod_owner`, `node_labels`), `egresslens ship` (Fluent Bit's with `node_labels` and `cluster`).
    """
    found = json_object(text)
    if not found:
        return UNKNOWN
    get = found.get
    pod = _Pod(
        _raw(get("pod_name")) or _raw(get("pod")),
        _raw(get("namespace_name")) or _raw(get("pod_namespace")) or _raw(get("namespace")),
        _raw(get("container_name")) or _raw(get("container")),
        _raw(get("cluster")) or _raw(get("cluster_name")),
        _raw(get("pod_ip")) or _raw(_dig(get("pod"), "ip")),
        _frozen(get("labels") or get("pod_labels") or _dig(get("pod"), "labels")),
        _frozen(get("node_labels") or _dig(get("node"), "labels")),
        () if _OWNERS.isdisjoint(found) else tuple(_owners(found)),
    )
    # Filebeat writes the keys of one pod in another order each time (it iterates over Go maps): the texts
    # differ, the facts do not.
    return _known(pod) if len(text) <= CACHED_TEXT_CHARS else _conclude(pod)


def _conclude(pod: _Pod) -> Source:
    labels = labels_of(dict(pod.labels))
    hashed = _hash_label(labels)
    owners = (strip_owner(kind, found, hashed) for kind, owner in pod.owners if (found := name(owner)))
    source = from_pod(
        name(pod.pod), name(pod.namespace), labels, next(owners, None), labels_of(dict(pod.node_labels))
    )
    return source._replace(
        cluster=name(pod.cluster) or source.cluster, pod_ip=name(pod.ip), container=name(pod.container)
    )


_known = lru_cache(CACHED_TEXTS)(_conclude)


def _frozen(labels: object) -> frozenset[tuple[str, str]]:
    if not isinstance(labels, dict):
        return frozenset()
    if all(type(label) is str for label in labels.values()):
        return frozenset(labels.items())
    return frozenset((key, text) for key, label in _leaves(labels) if (text := name(label)) is not None)


_OWNERS: Final[frozenset[str]] = frozenset(
    (*_OWNER_KINDS, "pod_owner", "ownerReferences", "owner_references")
)


def _owners(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(kind, name) of what owns the pod, by whichever field tells, the highest owner first."""
    for key, kind in _OWNER_KINDS.items():
        if key in found and (owner := _raw(found[key])):
            yield kind, owner
    kind, _, owner = (_raw(found.get("pod_owner")) or "").partition("/")
    if owner:
        yield kind, owner
    references = found.get("ownerReferences") or found.get("owner_references")
    if isinstance(references, list):
        for reference in references[:8]:
            if isinstance(reference, dict) and (owner := _raw(reference)):
                yield _raw(reference.get("kind")) or "", owner


def from_orchestrator(text: str) -> Source:
    """Elastic's `orchestrator.cluster.name`."""
    return Source(cluster=name(_dig(json_object(text), "cluster", "name")))


def from_cloud(text: str) -> Source:
    """Elastic's `cloud.region` and `cloud.availability_zone`."""
    cloud = json_object(text)
    return Source(region=name(cloud.get("region")), zone=name(cloud.get("availability_zone")))


def from_cluster(text: str) -> Source:
    """A shipper's own `cluster` field: a name, or an object with one."""
    if text.startswith("{"):
        return Source(cluster=name(json_object(text).get("name")))
    # An operator's format may name Envoy's cluster so.
    envoys = "|" in text or text.endswith((";", "Cluster"))
    return UNKNOWN if envoys else Source(cluster=name(text))


_GCP_ZONE = re.compile(r"^([a-z]+-[a-z]+\d+)-[a-z]$")


def from_resource(text: str) -> Source:
    """Read a `resource` object: Google Cloud's monitored resource, or OpenTelemetry's attributes.

    Google's `location` is the region of a regional cluster, or the zone of a zonal cluster's control plane:
    nodes may be in other zones of that region, so it gives the region alone.
    """
    found = json_object(text)
    labels = found.get("labels")
    if isinstance(labels, dict):
        location = name(labels.get("location"))
        zonal = _GCP_ZONE.match(location or "")
        source = from_pod(name(labels.get("pod_name")), name(labels.get("namespace_name")), {})
        return source._replace(
            cluster=name(labels.get("cluster_name")),
            region=zonal[1] if zonal else location,
            container=name(labels.get("container_name")),
        )
    attributes = found.get("attributes", found)
    return from_attributes(attributes) if isinstance(attributes, dict) else UNKNOWN


def from_gcp_labels(text: str) -> Source:
    """Google Cloud's entry labels, which hold the pod's labels as `k8s-pod/app`."""
    prefix = "k8s-pod/"
    pod = {key[len(prefix) :]: value for key, value in json_object(text).items() if key.startswith(prefix)}
    return from_pod(None, None, labels_of(pod))


def from_attributes(attributes: Mapping[str, object]) -> Source:
    """Read OpenTelemetry resource attributes, flat: the k8sattributes processor's, and Istio's own.

    Istio's access-log provider before 1.19 sends `node_name` (the proxy's node id), `zone_name` and
    `cluster_name`, which is Envoy's cluster `app.namespace` and no Kubernetes cluster.
    """
    labels: dict[str, object] = {}
    node_labels: dict[str, object] = {}
    for key, value in attributes.items():
        for prefix, into in _ATTRIBUTE_LABELS:
            if key.startswith(prefix):
                into_labels = labels if into == "pod" else node_labels
                into_labels[key[len(prefix) :]] = value
    owner = None
    pod_labels = labels_of(labels)
    for key, kind in _OWNER_KINDS.items():
        if found := name(attributes.get(f"k8s.{key}.name")):
            owner = strip_owner(kind, found, _hash_label(pod_labels))
            break
    source = from_pod(
        name(attributes.get("k8s.pod.name")),
        name(attributes.get("k8s.namespace.name")),
        pod_labels,
        owner,
        labels_of(node_labels),
    )
    source = Source(
        cluster=name(attributes.get("k8s.cluster.name")),
        pod_ip=name(attributes.get("k8s.pod.ip")),
        container=name(attributes.get("k8s.container.name")),
    ).over(source)
    source = source.over(
        Source(
            region=name(attributes.get("cloud.region")), zone=name(attributes.get("cloud.availability_zone"))
        )
    )
    source = source.over(from_path(name(attributes.get("log.file.path")) or ""))
    if node := name(attributes.get("node_name")):
        source = source.over(from_node_id(node)).over(Source(zone=name(attributes.get("zone_name"))))
    if source.workload is None and (service := name(attributes.get("service.name"))):
        # OpenTelemetry's own name for an unnamed service.
        return source if service.startswith("unknown_service") else source._replace(workload=service)
    return source


_ATTRIBUTE_LABELS: Final = (
    ("k8s.pod.labels.", "pod"),
    ("k8s.pod.label.", "pod"),
    ("k8s.node.labels.", "node"),
    ("k8s.node.label.", "node"),
)


def from_stream(stream: Mapping[str, object]) -> Source:
    """Read Loki's stream labels, as Promtail and Alloy set them."""
    labels = labels_of(stream)
    source = from_pod(
        _first(labels, "pod", "pod_name"),
        _first(labels, "namespace", "namespace_name"),
        labels,
        _first(labels, "deployment", "workload"),
    )
    source = source._replace(
        cluster=_first(labels, "cluster", "cluster_name") or source.cluster,
        region=source.region or labels.get("region"),
        zone=source.zone or labels.get("zone"),
        container=_first(labels, "container", "container_name"),
    )
    return source.over(from_path(labels.get("filename", "")))


_CONTAINER_LOG = re.compile(r"var[./]log[./]containers[./]([^/_]+)_([^/_]+)_([^/_]+)-[0-9a-f]{8,64}\.log")
_POD_LOG = re.compile(r"var[./]log[./]pods[./]([^/_]+)_([^/_]+)_[^/]+/([^/]+)/")


def from_path(path: str) -> Source:
    """Read a kubelet log file's path, or the Fluentd tag made of it.

    `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`, `/var/log/pods/NAMESPACE_POD_UID/CONTAINER/0.log`.
    """
    if match := _CONTAINER_LOG.search(path[:1024]):
        pod, namespace, container = match.groups()
    elif match := _POD_LOG.search(path[:1024]):
        namespace, pod, container = match.groups()
    else:
        return UNKNOWN
    return from_pod(name(pod), name(namespace), {})._replace(container=name(container))


_DOCKER_NAME = re.compile(r"^/?k8s_([^_]+)_([^_]+)_([^_]+)_")


def from_docker_name(container: str) -> Source:
    """Read the kubelet's name for a Docker container: `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`."""
    match = _DOCKER_NAME.match(container[:1024])
    if not match:
        return UNKNOWN
    return from_pod(name(match[2]), name(match[3]), {})._replace(container=name(match[1]))


_SPIFFE = re.compile(r"spiffe://[^/,;]+/ns/([^/,;]+)/sa/[^/,;]+")


def from_spiffe(uri: str) -> Source:
    """Read `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.

    It gives the namespace alone. Several workloads may share a service account (`default` above all), so
    naming it as the workload would add up what different workloads sent.
    """
    match = _SPIFFE.search(uri[:2048])
    return Source(namespace=name(match[1])) if match else UNKNOWN


def from_node_id(text: str) -> Source:
    """Read an Istio proxy's node id: `sidecar~10.0.0.1~POD.NAMESPACE~NAMESPACE.svc.cluster.local`."""
    parts = text[:1024].split("~")
    if len(parts) != 4 or parts[0] not in _NODE_ROLES:
        return UNKNOWN
    pod, _, namespace = parts[2].rpartition(".")
    source = from_pod(name(pod), name(namespace), {})
    return source._replace(role=_NODE_ROLES[parts[0]], pod_ip=name(parts[1]))


# Keys that operators give in JSON formats and OpenTelemetry labels to what a proxy knows of its own pod
# (%ENVIRONMENT(POD_NAME)%, %CEL(xds.node.metadata['WORKLOAD_NAME'])%, …), and how to read each, in order.
FLAT_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "cluster": ("source_cluster", "cluster_id", "ISTIO_META_CLUSTER_ID"),
    "namespace": ("source_namespace", "namespace", "pod_namespace", "POD_NAMESPACE"),
    "workload": ("source_workload", "workload", "workload_name", "ISTIO_META_WORKLOAD_NAME"),
    "pod": ("source_pod", "pod_name", "pod", "POD_NAME"),
    "pod_ip": ("pod_ip", "POD_IP"),
    "region": ("source_region",),
    "zone": ("source_zone",),
    "spiffe": ("source_principal",),
}
# JSON text with one of FLAT_KEYS holds one of these.
FLAT_MARKS: Final[tuple[str, ...]] = (
    '"pod', '"POD_', '"namespace"', '"workload', '"cluster_id"', '"source_', '"ISTIO_META_',
)  # fmt: skip
FLAT_READERS: Final[dict[str, Read]] = {
    "cluster": lambda text: Source(cluster=name(text)),
    "namespace": lambda text: Source(namespace=name(text)),
    "workload": lambda text: Source(workload=(workload := name(text)), role=role_of({}, workload)),
    "pod": lambda text: from_pod(name(text), None, {}),
    "pod_ip": lambda text: Source(pod_ip=name(text)),
    "region": lambda text: Source(region=name(text)),
    "zone": lambda text: Source(zone=name(text)),
    "spiffe": from_spiffe,
}


def from_flat(values: Mapping[str, object]) -> Source:
    """Read the identity a record's own fields tell, under any of FLAT_KEYS."""
    source = UNKNOWN
    for field, keys in FLAT_KEYS.items():
        found = next((text for key in keys if isinstance(text := values.get(key), str) and name(text)), None)
        if found is not None:
            source = source.over(FLAT_READERS[field](found))
    return source


# --- JSON ---------------------------------------------------------------------------------------------------


def json_object(text: str) -> dict[str, Any]:
    """The object that JSON text holds; an empty one for anything else."""
    if not text.startswith("{"):
        return {}
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            found = orjson.loads(escape_controls(text))
        except orjson.JSONDecodeError:
            return {}
    return found if isinstance(found, dict) else {}


def _dig(value: object, *keys: str) -> object:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _raw(value: object) -> str | None:
    """A text, or that of an object's `name`; `name` must still look at it."""
    if type(value) is dict:
        value = value.get("name")
    if type(value) is str:
        return value
    return str(value) if type(value) is int else None
