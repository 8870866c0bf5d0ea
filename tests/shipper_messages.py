"""Messages as the shippers of examples/shippers/ put them on the topic, around any line.

Shapes: Fluent Bit's and Vector's documentation of tail with the kubernetes filter and of kubernetes_logs,
Elastic's ECS fields of add_kubernetes_metadata, OpenTelemetry's resource attributes as the container operator
and k8sattributes set them.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

POD = "checkout-5f6d8c7b9-k4w2z"
NODE_LABELS = {"topology.kubernetes.io/region": "eu-west-1", "topology.kubernetes.io/zone": "eu-west-1b"}
LABELS = {
    "app": "checkout-app",
    "pod-template-hash": "5f6d8c7b9",
    "security.istio.io/tlsMode": "istio",
    "service.istio.io/canonical-name": "checkout",
    "service.istio.io/canonical-revision": "v1",
}
TIME = "2026-01-02T03:04:05.690123456Z"
UID = "0d9f8e4e-3c1b-4a53-9f0e-6f6f0a1b2c3d"


def fluent_bit(line: str, container: str = "istio-proxy") -> bytes:
    return _json(
        {
            "@timestamp": "2026-01-02T03:04:05.690123Z",
            "time": TIME,
            "stream": "stdout",
            "_p": "F",
            "log": line,
            "kubernetes": {
                "pod_name": POD,
                "namespace_name": "shop",
                "pod_id": UID,
                "labels": LABELS,
                "host": "node-1",
                "pod_ip": "10.0.1.7",
                "container_name": container,
                "docker_id": "4f0e" * 16,
                "container_image": "proxyv2:1.30.0",
            },
            "kafka_key": f"shop/{POD}",
        }
    )


def vector(line: str, container: str = "istio-proxy") -> bytes:
    return _json(
        {
            "file": f"/var/log/pods/shop_{POD}_{UID}/{container}/0.log",
            "kubernetes": {
                "container_id": "containerd://" + "4f0e" * 16,
                "container_image": "proxyv2:1.30.0",
                "container_name": container,
                "namespace_labels": {"kubernetes.io/metadata.name": "shop"},
                "node_labels": NODE_LABELS,
                "pod_ip": "10.0.1.7",
                "pod_ips": ["10.0.1.7"],
                "pod_labels": LABELS,
                "pod_name": POD,
                "pod_namespace": "shop",
                "pod_node_name": "node-1",
                "pod_owner": "ReplicaSet/checkout-5f6d8c7b9",
                "pod_uid": UID,
            },
            "message": line,
            "source_type": "kubernetes_logs",
            "stream": "stdout",
            "timestamp": TIME,
        }
    )


def filebeat(line: str, container: str = "istio-proxy") -> bytes:
    return _json({
        "@timestamp": "2026-01-02T03:04:05.690Z",
        "@metadata": {"beat": "filebeat", "type": "_doc", "version": "9.2.0"},
        "input": {"type": "filestream"},
        "log": {
            "offset": 4711,
            "file": {"path": f"/var/log/containers/{POD}_shop_{container}-{'4f0e' * 16}.log"},
        },
        "stream": "stdout",
        "message": line,
        "kubernetes": {
            "pod": {"name": POD, "uid": UID, "ip": "10.0.1.7"},
            "namespace": "shop",
            "labels": {key.replace(".", "_"): value for key, value in LABELS.items()},
            "replicaset": {"name": "checkout-5f6d8c7b9"},
            "deployment": {"name": "checkout"},
            "node": {
                "name": "node-1",
                "labels": {key.replace(".", "_"): value for key, value in NODE_LABELS.items()},
            },
            "container": {"name": container},
        },
        "container": {"id": "4f0e" * 16, "image": {"name": "proxyv2:1.30.0"}, "runtime": "containerd"},
        "host": {"name": "node-1"},
        "agent": {"type": "filebeat", "name": "filebeat-x", "version": "9.2.0"},
        "ecs": {"version": "8.0.0"},
    })  # fmt: skip


def otel_files(line: str, container: str = "istio-proxy") -> bytes:
    request = ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    _set(
        resource_logs.resource.attributes,
        {
            "k8s.namespace.name": "shop",
            "k8s.pod.name": POD,
            "k8s.pod.uid": UID,
            "k8s.container.name": container,
            "k8s.container.restart_count": "0",
            "k8s.deployment.name": "checkout",
            "k8s.node.name": "node-1",
            "k8s.pod.labels.service.istio.io/canonical-name": "checkout",
            "k8s.pod.labels.app": "checkout-app",
            "cloud.region": "eu-west-1",
            "cloud.availability_zone": "eu-west-1b",
        },
    )
    record = resource_logs.scope_logs.add().log_records.add()
    record.time_unix_nano = 1_767_323_045_690_123_456
    record.body.string_value = line
    _set(
        record.attributes,
        {
            "log.file.path": f"/var/log/pods/shop_{POD}_{UID}/{container}/0.log",
            "log.iostream": "stdout",
            "logtag": "F",
        },
    )
    found: bytes = request.SerializeToString()
    return found


SHIPPERS: dict[str, Callable[..., bytes]] = {
    "fluent-bit": fluent_bit,
    "vector": vector,
    "filebeat": filebeat,
    "otel-collector-files": otel_files,
}


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _set(attributes: object, values: dict[str, str]) -> None:
    for key, value in values.items():
        attribute = attributes.add()  # type: ignore[attr-defined]  # a repeated field of protobuf
        attribute.key = key
        attribute.value.string_value = value
