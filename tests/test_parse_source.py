"""Who sent a line, by what shippers know of its pod."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egresslens.parse import source
from egresslens.parse.source import UNKNOWN, Source

POD = "web-7c9f8d6b5-x2x7q"


def kubernetes(**found):
    return source.from_kubernetes(json.dumps(found))


# --- the pod's name -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pod", "workload"),
    [
        ("web-7c9f8d6b5-x2x7q", "web"),
        ("istio-ingressgateway-5d8f9b7c4d-abcde", "istio-ingressgateway"),
        ("mysql-0", "mysql"),
        ("mysql-12", "mysql"),
        ("backup-28394721-x2x7q", "backup"),
        ("node-agent-x2x7q", "node-agent"),
        ("import-abc12", "import"),
        ("web-proxy", "web-proxy"),
        ("web", "web"),
        ("-", "-"),
    ],
)
def test_a_pods_name_without_its_random_parts_is_its_workload(pod, workload):
    assert source.strip_pod(pod) == workload


def test_the_pod_template_hash_tells_what_belongs_to_the_workloads_name():
    assert source.strip_pod("web-abc-x2x7q", "abc") == "web"
    assert source.strip_pod("web-7c9f8d6b5-x2x7q", "other") == "web"


# --- kubernetes objects -------------------------------------------------------------------------------------


def test_fluent_bits_object_tells_the_pod():
    found = kubernetes(
        pod_name=POD,
        namespace_name="shop",
        labels={"app": "web", "pod-template-hash": "7c9f8d6b5", "security.istio.io/tlsMode": "istio"},
        host="node-1",
        container_name="istio-proxy",
    )
    assert found == Source(namespace="shop", workload="web", pod=POD, role="sidecar", container="istio-proxy")


def test_filebeats_object_tells_the_node_and_the_owner_too():
    found = kubernetes(
        pod={"name": POD, "uid": "1", "ip": "10.0.0.1"},
        namespace="shop",
        node={
            "name": "node-1",
            "labels": {"topology_kubernetes_io/zone": "z1", "topology_kubernetes_io/region": "r1"},
        },
        deployment={"name": "front"},
        replicaset={"name": "web-7c9f8d6b5"},
        container={"name": "istio-proxy"},
    )
    assert found == Source(
        namespace="shop",
        workload="front",
        pod=POD,
        region="r1",
        zone="z1",
        pod_ip="10.0.0.1",
        container="istio-proxy",
    )


def test_vectors_object_tells_the_owner_by_kind_and_name():
    found = kubernetes(
        pod_name=POD,
        pod_namespace="shop",
        pod_labels={"x": "y"},
        pod_owner="ReplicaSet/front-7c9f8d6b5",
        node_labels={"topology.kubernetes.io/region": "r1", "topology.kubernetes.io/zone": "z1"},
    )
    assert found == Source(namespace="shop", workload="front", pod=POD, region="r1", zone="z1")


def test_the_shippers_cluster_is_the_cluster():
    assert kubernetes(pod_name=POD, cluster="c1").cluster == "c1"
    assert kubernetes(pod_name=POD, labels={"topology.istio.io/cluster": "c2"}).cluster == "c2"


@pytest.mark.parametrize(
    ("labels", "workload"),
    [
        (
            {"app": "c", "app.kubernetes.io/name": "b", "service.istio.io/canonical-name": "a"},
            "a",
        ),
        ({"app": "c", "app.kubernetes.io/name": "b"}, "b"),
        ({"app": "c", "app_kubernetes_io/name": "b"}, "b"),
        ({"app_kubernetes_io_name": "b"}, "b"),
        ({"service_istio_io/canonical-name": "a", "app": "c"}, "a"),
        ({"app": {"kubernetes": {"io/name": "b"}}}, "b"),
        ({"app": 7}, "7"),
        ({"app": "c"}, "c"),
        ({"app": "-"}, "web"),
        ({}, "web"),
    ],
)
def test_labels_name_the_workload_in_istios_order_however_they_are_spelt(labels, workload):
    assert kubernetes(pod_name=POD, labels=labels).workload == workload


@pytest.mark.parametrize(
    ("owner", "workload"),
    [
        ({"deployment": {"name": "front"}}, "front"),
        ({"replicaset": {"name": "front-7c9f8d6b5"}}, "front"),
        ({"statefulset": {"name": "db-1"}}, "db-1"),
        ({"job": {"name": "nightly-28394721"}}, "nightly"),
        ({"cronjob": {"name": "nightly"}, "job": {"name": "nightly-28394721"}}, "nightly"),
        ({"pod_owner": "Job/nightly-28394721"}, "nightly"),
        ({"pod_owner": "Node/node-1"}, "web"),
        ({"pod_owner": "nonsense"}, "web"),
        ({"ownerReferences": [{"kind": "ReplicaSet", "name": "front-7c9f8d6b5"}]}, "front"),
    ],
)
def test_the_owner_names_the_workload_before_the_pods_name_does(owner, workload):
    assert kubernetes(pod_name=POD, **owner).workload == workload


def test_the_locality_label_stands_in_for_the_nodes_labels():
    labels = {"istio-locality": "r1.z1.rack"}
    assert kubernetes(pod_name=POD, labels=labels)[4:6] == ("r1", "z1")
    node = {"failure-domain.beta.kubernetes.io/region": "r2", "failure-domain.beta.kubernetes.io/zone": "z2"}
    assert kubernetes(pod_name=POD, labels=labels, node_labels=node)[4:6] == ("r2", "z2")


def test_the_order_of_keys_decides_nothing():
    pairs = [("app_kubernetes_io/name", "x"), ("app.kubernetes.io/name", "y"), ("app", "z")]
    assert kubernetes(labels=dict(pairs)) == kubernetes(labels=dict(reversed(pairs)))


@pytest.mark.parametrize(
    ("labels", "workload", "role"),
    [
        ({"istio": "ingressgateway"}, "x", "gateway"),
        ({"istio": "egressgateway"}, "x", "gateway"),
        ({"istio": "egress"}, "x", "gateway"),
        ({"istio": "pilot"}, "x", None),
        ({"gateway.networking.k8s.io/gateway-name": "g"}, "x", "gateway"),
        (
            {
                "gateway.networking.k8s.io/gateway-name": "g",
                "gateway.istio.io/managed": "istio.io-mesh-controller",
            },
            "x",
            "waypoint",
        ),
        ({"gateway.istio.io/managed": "istio.io-gateway-controller"}, "x", "gateway"),
        ({"gateway_istio_io/managed": "istio.io-mesh-controller"}, "x", "waypoint"),
        ({"istio.io/waypoint-for": "service"}, "x", "waypoint"),
        ({"operator.istio.io/component": "EgressGateways"}, "x", "gateway"),
        ({}, "istio-egressgateway", "gateway"),
        ({}, "istio-ingress", "gateway"),
        ({}, "waypoint", "waypoint"),
        ({}, "shop-waypoint", "waypoint"),
        ({"security.istio.io/tlsMode": "istio"}, "x", "sidecar"),
        ({"security.istio.io/tlsMode": "istio", "istio": "ingressgateway"}, "x", "gateway"),
        ({}, "x", None),
    ],
)
def test_labels_and_names_tell_gateways_waypoints_and_sidecars(labels, workload, role):
    assert source.role_of(source.labels_of(labels), workload) == role


# --- other metadata -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        f"/var/log/containers/{POD}_shop_istio-proxy-{'0a' * 32}.log",
        f"kube.var.log.containers.{POD}_shop_istio-proxy-{'0a' * 32}.log",
        f"/var/log/pods/shop_{POD}_5d1f0a8a-2b8f-4c52/istio-proxy/0.log",
    ],
)
def test_a_log_files_path_tells_pod_namespace_and_container(path):
    assert source.from_path(path) == Source(
        namespace="shop", workload="web", pod=POD, container="istio-proxy"
    )


def test_other_paths_tell_nothing():
    assert source.from_path("/var/log/syslog") == UNKNOWN


def test_a_docker_containers_name_tells_the_pod():
    assert source.from_docker_name(f"/k8s_istio-proxy_{POD}_shop_uid_0") == Source(
        namespace="shop", workload="web", pod=POD, container="istio-proxy"
    )


def test_a_spiffe_uri_gives_the_namespace_and_no_workload():
    assert source.from_spiffe("spiffe://cluster.local/ns/shop/sa/default") == Source(namespace="shop")
    assert source.from_spiffe("By=spiffe://td/ns/shop/sa/web;Hash=1") == Source(namespace="shop")
    assert source.from_spiffe("https://example.org") == UNKNOWN


@pytest.mark.parametrize(
    ("kind", "role"), [("sidecar", "sidecar"), ("router", "gateway"), ("waypoint", "waypoint")]
)
def test_a_node_id_tells_pod_namespace_and_role(kind, role):
    found = source.from_node_id(f"{kind}~10.0.0.1~{POD}.shop~shop.svc.cluster.local")
    assert found == Source(namespace="shop", workload="web", pod=POD, role=role, pod_ip="10.0.0.1")
    assert source.from_node_id("nonsense") == UNKNOWN


def test_resource_attributes_tell_the_pod():
    found = source.from_attributes(
        {
            "k8s.pod.name": POD,
            "k8s.namespace.name": "shop",
            "k8s.deployment.name": "front",
            "k8s.cluster.name": "c1",
            "k8s.container.name": "istio-proxy",
            "cloud.region": "r1",
            "cloud.availability_zone": "z1",
        }
    )
    assert found == Source("c1", "shop", "front", POD, "r1", "z1", None, "istio-proxy")


def test_labels_among_resource_attributes_count_as_labels():
    for prefix in ("k8s.pod.labels.", "k8s.pod.label."):
        found = source.from_attributes({"k8s.pod.name": POD, f"{prefix}app.kubernetes.io/name": "front"})
        assert found.workload == "front"
    found = source.from_attributes({"k8s.node.labels.topology.kubernetes.io/region": "r1"})
    assert found.region == "r1"


def test_older_access_log_services_tell_the_pod_by_node_name():
    found = source.from_attributes(
        {
            "log_name": "otel_envoy_accesslog",
            "zone_name": "z1",
            "cluster_name": "web.shop",
            "node_name": f"sidecar~10.0.0.1~{POD}.shop~shop.svc.cluster.local",
        }
    )
    assert found == Source(
        namespace="shop", workload="web", pod=POD, zone="z1", role="sidecar", pod_ip="10.0.0.1"
    )


def test_the_service_name_is_the_last_resort():
    assert source.from_attributes({"service.name": "front"}).workload == "front"
    assert source.from_attributes({"service.name": "front", "k8s.pod.name": POD}).workload == "web"
    assert source.from_attributes({"service.name": "unknown_service"}) == UNKNOWN


def test_googles_resource_tells_cluster_and_region():
    labels = {
        "cluster_name": "c1",
        "location": "europe-west1-b",
        "namespace_name": "shop",
        "pod_name": POD,
        "container_name": "istio-proxy",
    }
    found = source.from_resource(json.dumps({"type": "k8s_container", "labels": labels}))
    assert found == Source("c1", "shop", "web", POD, "europe-west1", None, None, "istio-proxy")
    assert source.from_gcp_labels('{"k8s-pod/app":"front","other":"x"}').workload == "front"


def test_lokis_stream_tells_the_pod():
    stream = {"namespace": "shop", "pod": POD, "container": "istio-proxy", "app": "front", "cluster": "c1"}
    assert source.from_stream(stream) == Source("c1", "shop", "front", POD, container="istio-proxy")


def test_elastics_cluster_and_cloud():
    assert source.from_orchestrator('{"cluster":{"name":"c1"}}') == Source(cluster="c1")
    assert source.from_cloud('{"region":"r1","availability_zone":"z1"}') == Source(region="r1", zone="z1")


def test_envoys_cluster_is_not_taken_for_the_senders():
    assert source.from_cluster("c1") == Source(cluster="c1")
    assert source.from_cluster('{"name":"c1"}') == Source(cluster="c1")
    for envoys in ("outbound|80||httpbin.org", "PassthroughCluster", "BlackHoleCluster;"):
        assert source.from_cluster(envoys) == UNKNOWN


def test_a_records_own_fields_tell_its_pod():
    found = source.from_flat({"POD_NAME": POD, "POD_NAMESPACE": "shop", "cluster_id": "c1"})
    assert found == Source("c1", "shop", "web", POD)
    assert source.from_flat({"workload": "istio-egressgateway"}).role == "gateway"
    assert source.from_flat({"source_principal": "spiffe://td/ns/shop/sa/x"}) == Source(namespace="shop")


# --- hostile metadata ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[1]",
        '"x"',
        '{"labels":[1],"pod":[],"namespace":{"name":{}},"container":7}',
        '{"pod_name":null,"labels":null,"node":{"labels":"x"},"ownerReferences":[1,{"name":[]}]}',
        '{"labels":' + '{"a":' * 500 + "1" + "}" * 501,
        '{"pod_name":"' + "x" * 300 + '","labels":{"app":"' + "y" * 300 + '"}}',
        '{"pod_name":"a\\u0000b","labels":{"app":"\\u0007"}}',
    ],
)
def test_metadata_of_the_wrong_shape_tells_nothing_and_raises_nothing(text):
    found = source.from_kubernetes(text)
    assert found._replace(container=None) == UNKNOWN


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["pod_name", "pod", "namespace", "labels", "node", "name", "app", "container", "pod_owner",
             "ownerReferences", "cluster", "kind", "k8s.pod.name", "stream", "location"]
        ) | st.text(max_size=8),
        inner,
        max_size=6,
    ),
    max_leaves=20,
)  # fmt: skip
READERS = (
    source.from_kubernetes,
    source.from_orchestrator,
    source.from_cloud,
    source.from_cluster,
    source.from_resource,
    source.from_gcp_labels,
    source.from_path,
    source.from_docker_name,
    source.from_spiffe,
    source.from_node_id,
)


@given(JSON)
def test_no_metadata_makes_a_reader_raise(value):
    text = json.dumps(value)
    facts = [read(text) for read in READERS]
    if isinstance(value, dict):
        facts += [source.from_attributes(value), source.from_stream(value), source.from_flat(value)]
    for found in facts:
        assert all(item is None or (isinstance(item, str) and 0 < len(item) <= 253) for item in found)
