"""Files to a registry: what kubectl prints, what people write, and what is wrong with it."""

import json
from pathlib import Path

import pytest

from egresslens.registry.documents import DocumentError, documents
from egresslens.registry.files import Loader, RegistryError, read_object, read_registry
from egresslens.registry.models import EgressContext, MeshConfig, Pod, ServiceEntry, Sidecar

ENTRY = """\
apiVersion: networking.istio.io/{version}
kind: ServiceEntry
metadata: {{name: httpbin, namespace: shop, creationTimestamp: "2026-01-02T03:04:05Z"}}
spec:
  hosts: [HTTPBIN.org., "*.example.com"]
  ports:
  - {{number: 443, name: tls, protocol: tls, targetPort: 8443}}
  location: MESH_EXTERNAL
  resolution: NONE
  subjectAltNames: [spiffe://a]
"""


def entry(version: str = "v1") -> str:
    return ENTRY.format(version=version)


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def problems(folder: Path) -> list[str]:
    with pytest.raises(RegistryError) as raised:
        read_registry((folder,))
    return [str(problem).replace(f"{folder}/", "") for problem in raised.value.problems]


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_every_api_version_of_a_service_entry_is_read(tmp_path: Path, version: str):
    [found] = read_registry((write(tmp_path, a=entry(version)),)).service_entries
    assert found.title == "shop/httpbin"
    assert found.spec.hosts == ("httpbin.org", "*.example.com")
    assert [(port.number, port.protocol) for port in found.spec.ports] == [(443, "TLS")]


def test_several_documents_and_lists_in_one_file_are_read(tmp_path: Path):
    listed = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "List",
            "items": [{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a", "namespace": "b"}}],
        }
    )
    registry = read_registry((write(tmp_path, a=f"---\n{entry()}---\n---\n{listed}\n"),))
    assert [one.kind for one in registry.objects] == ["Pod", "ServiceEntry"]


def test_items_of_a_typed_list_have_its_kind(tmp_path: Path):
    text = json.dumps(
        {"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "a", "namespace": "b"}}]}
    )
    (tmp_path / "pods.json").write_text(text)
    assert [pod.title for pod in read_registry((tmp_path,)).pods] == ["b/a"]


def test_kinds_that_are_not_used_are_left_out(tmp_path: Path):
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {a: Yg==}\n"
    assert [one.kind for one in read_registry((write(tmp_path, a=entry(), b=secret),)).objects] == [
        "ServiceEntry"
    ]


def test_what_is_not_used_of_a_pod_is_not_kept():
    [pod] = read_object(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "a", "namespace": "b", "annotations": {"k": "s3cr3t"}},
            "spec": {"containers": [{"name": "app", "env": [{"name": "P", "value": "s3cr3t"}]}]},
        }
    )
    assert "s3cr3t" not in json.dumps(pod.document())


def test_a_service_entry_is_kept_whole(tmp_path: Path):
    [found] = read_registry((write(tmp_path, a=entry()),)).service_entries
    spec = found.document()["spec"]
    assert spec["subjectAltNames"] == ["spiffe://a"]
    assert spec["ports"][0]["targetPort"] == 8443


def test_an_object_reads_as_it_was_written(tmp_path: Path):
    for one in read_registry((write(tmp_path, a=entry()),)).objects:
        assert read_object(one.document()) == (one,)


@pytest.mark.parametrize("name", ["istio", "istio-1-24"])
def test_the_mesh_config_is_read_from_istios_config_map(name: str):
    mesh = "rootNamespace: istio-config\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\nnewField: [1]\n"
    [found] = read_object(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"mesh": mesh}}
    )
    assert isinstance(found, MeshConfig)
    assert (found.spec.root_namespace, found.spec.outbound_traffic_policy.mode) == (
        "istio-config",
        "REGISTRY_ONLY",
    )


def test_without_a_policy_the_mesh_allows_any_and_an_empty_policy_is_registry_only():
    assert MeshConfig().spec.outbound_traffic_policy.mode == "ALLOW_ANY"
    [found] = read_object({"meshConfig": {"outboundTrafficPolicy": {}}})
    assert found.spec.outbound_traffic_policy.mode == "REGISTRY_ONLY"


def test_other_config_maps_are_left_alone():
    assert (
        read_object(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"}, "data": {"mesh": "a"}}
        )
        == ()
    )


def test_an_invalid_field_is_named_with_file_document_and_path(tmp_path: Path):
    bad = entry().replace("number: 443", "number: 70000")
    [found] = problems(write(tmp_path, a=f"{entry()}---\n{bad}"))
    assert found.startswith("a.yaml: document 2: ServiceEntry shop/httpbin: spec.ports.0.number: ")
    assert found.endswith("less than or equal to 65535")


def test_all_mistakes_are_named_at_once(tmp_path: Path):
    write(
        tmp_path,
        a=entry().replace("NONE", "SOMETIMES"),
        b="a: [",
        c="apiVersion: egresslens/v1\nkind: EgressContext\nspec: {hmoes: []}\n",
    )
    found = problems(tmp_path)
    assert [one.split(":")[0] for one in found] == ["a.yaml", "b.yaml", "c.yaml"]
    assert "spec.resolution" in found[0]
    assert "line 2" in found[1]
    assert found[2].endswith("spec.hmoes: Extra inputs are not permitted")


def test_an_item_of_a_list_is_named_by_its_place(tmp_path: Path):
    text = json.dumps(
        {
            "kind": "List",
            "apiVersion": "v1",
            "items": [
                {
                    "apiVersion": "networking.istio.io/v1",
                    "kind": "Sidecar",
                    "metadata": {"name": "a", "namespace": "b"},
                    "spec": {"egress": [{"hosts": ["nowhere"]}]},
                }
            ],
        }
    )
    assert problems(write(tmp_path, a=text)) == [
        "a.yaml: document 1: Sidecar b/a: items.0.spec.egress.0.hosts.0: is not of the form namespace/host"
    ]


def test_two_different_objects_of_one_name_are_a_mistake(tmp_path: Path):
    write(tmp_path, a=entry(), b=entry().replace("443", "444"))
    assert problems(tmp_path) == ["b.yaml: ServiceEntry shop/httpbin: is another one in a.yaml"]


def test_the_same_object_twice_is_none(tmp_path: Path):
    assert len(read_registry((write(tmp_path, a=entry(), b=entry()),)).objects) == 1


def test_an_object_without_its_namespace_is_a_mistake(tmp_path: Path):
    assert problems(write(tmp_path, a=entry().replace(", namespace: shop", ""))) == [
        "a.yaml: document 1: ServiceEntry httpbin: metadata.namespace: is missing"
    ]


def test_an_empty_folder_is_no_registry(tmp_path: Path):
    with pytest.raises(RegistryError, match="no ServiceEntry"):
        read_registry((tmp_path,))


def test_a_path_that_is_missing_is_named(tmp_path: Path):
    with pytest.raises(RegistryError, match="no such file or folder"):
        read_registry((tmp_path / "nothing",))


def test_the_last_good_registry_stays(tmp_path: Path):
    loader = Loader((write(tmp_path, a=entry()),))
    assert loader.reload()
    good = loader.registry
    write(tmp_path, a="kind: [")
    with pytest.raises(RegistryError):
        loader.reload()
    assert loader.registry is good
    assert not loader.reload(), "a mistake is said once"
    write(tmp_path, a=entry().replace("443", "8443"))
    assert loader.reload()
    assert loader.registry != good


def test_a_reload_without_a_change_reads_nothing(tmp_path: Path):
    loader = Loader((write(tmp_path, a=entry()),))
    loader.reload()
    assert not loader.reload()
    write(tmp_path, a=f"# said otherwise\n{entry()}")
    assert not loader.reload(), "the objects are the same"


def test_kubernetes_own_mounts_are_read_once(tmp_path: Path):
    data = tmp_path / "..2026_01_01"
    data.mkdir()
    write(data, a=entry())
    (tmp_path / "..data").symlink_to(data)
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert len(read_registry((tmp_path,)).objects) == 1


# --- hostile text -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"[" * 200_000, "nested deeper than 100 levels"),
        (b"- " * 20_000 + b"a", "nested deeper than 100 levels"),
        (b"a: &a [*a]", "contains itself"),
        (b"a: 1\na: 2\n", "line 2: the key 'a' is given twice"),
        (b"a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        (b"? [a]\n: b", "unhashable key"),
        (b"x: \x07", "no valid YAML"),
        (b'{"a": ' * 2_000, "nested deeper"),
        (b"\x80", "no valid YAML"),
    ],
)
def test_text_that_cannot_be_read_says_why(text: bytes, why: str):
    with pytest.raises(DocumentError, match=why):
        documents(text)


def test_a_billion_laughs_are_refused_before_they_are_built():
    lines = [b"a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for code in range(ord("b"), ord("l")):
        name, before = bytes([code]), bytes([code - 1])
        lines.append(name + b": &" + name + b" [" + b", ".join([b"*" + before] * 10) + b"]")
    with pytest.raises(DocumentError, match="stands for more than"):
        documents(b"\n".join(lines))


def test_ordinary_anchors_and_merges_are_read():
    text = b"a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n"
    assert documents(text) == [{"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}]


def test_a_time_stays_the_text_it_is():
    assert documents(b"t: 2026-01-02T03:04:05Z") == [{"t": "2026-01-02T03:04:05Z"}]


@pytest.mark.parametrize("host", ["a b.com", "a\u202eb.com", "a\nb.com", ""])
def test_a_host_that_is_none_is_refused(host: str):
    with pytest.raises(RegistryError, match="is no host name"):
        read_object(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "ServiceEntry",
                "metadata": {"name": "a", "namespace": "b"},
                "spec": {"hosts": [host]},
            }
        )


# --- range files --------------------------------------------------------------------------------------------


def ranges(document: dict) -> dict[str, str]:
    [found] = read_object(document)
    return dict(found.spec.ranges)


def test_amazons_range_file_is_read():
    assert ranges(
        {
            "syncToken": "1",
            "prefixes": [
                {"ip_prefix": "3.5.140.0/22", "region": "ap-northeast-2", "service": "AMAZON"},
                {"ip_prefix": "15.230.0.0/16", "region": "GLOBAL", "service": "AMAZON"},
            ],
            "ipv6_prefixes": [{"ipv6_prefix": "2a05:d018::/36", "region": "eu-west-1"}],
        }
    ) == {"3.5.140.0/22": "ap-northeast-2", "2a05:d018::/36": "eu-west-1"}


def test_googles_range_file_is_read():
    assert ranges(
        {
            "prefixes": [
                {"ipv4Prefix": "34.1.208.0/20", "service": "Google Cloud", "scope": "africa-south1"},
                {"ipv6Prefix": "2600:1900:4010::/44", "scope": "europe-west1"},
                {"ipv4Prefix": "34.0.0.0/20", "scope": "global"},
            ]
        }
    ) == {"34.1.208.0/20": "africa-south1", "2600:1900:4010::/44": "europe-west1"}


def test_azures_range_file_is_read():
    assert ranges(
        {
            "changeNumber": 1,
            "cloud": "Public",
            "values": [
                {"name": "AzureCloud", "properties": {"region": "", "addressPrefixes": ["13.64.0.0/11"]}},
                {
                    "name": "AzureCloud.westeurope",
                    "properties": {"region": "westeurope", "addressPrefixes": ["13.69.0.0/17"]},
                },
            ],
        }
    ) == {"13.69.0.0/17": "westeurope"}


def test_a_range_that_is_no_network_is_named():
    with pytest.raises(RegistryError, match=r"prefixes\.0: is no network"):
        read_object({"prefixes": [{"ip_prefix": "all of it", "region": "eu-west-1"}]})


def test_our_own_file_is_read(tmp_path: Path):
    text = """\
apiVersion: egresslens/v1
kind: EgressContext
spec:
  clusterDomain: mesh.internal
  networks: [{cidr: 203.0.113.0/24, name: office, scope: private, region: eu-west-1}]
  hosts: [{host: "*.partner.example", kind: postgres}]
  homes: [{namespace: shop, regions: [eu-west-1]}]
  residency: [{name: europe, namespaces: [shop], regions: ["eu-*"]}]
"""
    registry = read_registry((write(tmp_path, a=text),))
    assert isinstance(registry.objects[0], EgressContext)
    assert registry.cluster_domain == "mesh.internal"
    assert (registry.networks[0].cidr, registry.homes[0].regions) == ("203.0.113.0/24", ("eu-west-1",))


def test_pods_without_an_address_of_their_own_have_none():
    base = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a", "namespace": "b"},
        "status": {"podIP": "10.0.0.1"},
    }
    [own], [shared], [over] = (
        read_object({**base, **more})
        for more in (
            {},
            {"spec": {"hostNetwork": True}},
            {"status": {"podIP": "10.0.0.1", "phase": "Succeeded"}},
        )
    )
    assert isinstance(own, Pod)
    assert (own.addresses, shared.addresses, over.addresses) == (("10.0.0.1",), (), ())


def test_service_entries_and_sidecars_are_told_apart(tmp_path: Path):
    sidecar = (
        entry().replace("ServiceEntry", "Sidecar").partition("spec:")[0]
        + "spec: {egress: [{hosts: ['./*']}]}\n"
    )
    registry = read_registry((write(tmp_path, a=entry(), b=sidecar),))
    assert isinstance(registry.sidecars[0], Sidecar)
    assert isinstance(registry.service_entries[0], ServiceEntry)


def test_the_example_of_our_own_file_is_read():
    example = Path(__file__).parents[1] / "examples" / "egress-context.yaml"
    registry = read_registry((example,))
    assert [policy.name for policy in registry.residency] == ["shop stays in Europe"]
