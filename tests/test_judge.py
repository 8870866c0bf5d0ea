"""Scope, region, kind, home and residency of destinations."""

import ipaddress
from pathlib import Path

import polars as pl
import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from egresslens.judge import JUDGED, Judge, Judgement, Judges, judge
from egresslens.judge.domains import owner_domain
from egresslens.judge.home import Homes, Workload, where
from egresslens.judge.residency import residency
from egresslens.registry.files import read_object
from egresslens.registry.geo import open_geo
from egresslens.registry.value import Networks, Registries
from registries import context, entry, mesh, node, pod, registry, service


def judged(
    *documents, host="api.example.com", port=443, namespace="shop", ips=(), registered=False, geo=None
) -> Judgement:
    return Judge(registry(*documents), geo).judge(host, port, namespace, ips, registered=registered)


# --- scope --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ip", "scope"),
    [
        ("93.184.216.34", "external"),
        ("192.0.2.1", "external"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("172.32.0.1", "external"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("100.128.0.1", "external"),
        ("169.254.169.254", "private"),
        ("127.0.0.1", "private"),
        ("240.240.0.7", "unknown"),
        ("0.0.0.0", "unknown"),
        ("fd00::1", "private"),
        ("fe80::1", "private"),
        ("::1", "private"),
        ("2001:2::5", "unknown"),
        ("2606:4700::1", "external"),
        ("::ffff:10.1.2.3", "private"),
        ("64:ff9b::5db8:d822", "external"),
    ],
)
def test_an_address_has_a_scope(ip: str, scope: str):
    assert judged(host=ip).scope.value == scope
    assert judged(host="db.internal", ips=[ip]).scope.value == scope


@pytest.mark.parametrize("host", ["web.shop.svc.cluster.local", "web.shop.svc", "x.pod.cluster.local"])
def test_a_name_in_the_clusters_domain_is_in_the_mesh(host: str):
    assert judged(host=host).scope.value == "mesh"


def test_a_cluster_may_have_a_domain_of_its_own():
    assert (
        judged(context(cluster_domain="mesh.internal"), host="web.shop.svc.mesh.internal").scope.value
        == "mesh"
    )


def test_a_known_service_is_in_the_mesh_by_its_short_name():
    assert judged(service("shop/web", "80/http"), host="web", port=80).scope.reason == "Service shop/web"


def test_a_service_that_stands_for_an_outside_name_is_external():
    found = judged(
        service("shop/ext", "443/tls", type="ExternalName", external_name="api.example.com"),
        host="ext.shop.svc.cluster.local",
    )
    assert (found.scope.value, found.scope.reason) == (
        "external",
        "Service shop/ext stands for api.example.com",
    )


def test_pods_and_services_are_known_by_their_addresses():
    known = [pod("shop/web-1", "10.0.0.7", app="web"), service("shop/db", "5432/tcp", ip="10.96.0.7")]
    assert judged(*known, host="10.0.0.7").scope == ("mesh", "high", "pod shop/web-1")
    assert judged(*known, host="10.96.0.7").scope == ("mesh", "high", "service shop/db")
    assert judged(*known, host="10.0.0.8").scope.value == "private"


def test_a_name_of_the_mesh_asked_of_an_outside_address_is_external():
    assert judged(host="web.shop.svc.cluster.local", ips=["93.184.216.34"]).scope.value == "external"


def test_a_name_that_the_mesh_itself_gave_is_in_the_mesh_behind_any_gateway():
    found = judged(host="web.shop.svc.cluster.local", ips=["93.184.216.34"], registered=True)
    assert found.scope.value == "mesh"


def test_one_outside_address_makes_a_destination_external():
    assert judged(host="a.corp", ips=["10.0.0.1", "93.184.216.34"]).scope.value == "external"


def test_a_service_entrys_location_places_what_no_address_does():
    external = entry("net/api", "api.example.com", made_up=["240.240.0.1"])
    assert judged(external, ips=["240.240.0.1"]).scope.value == "external"
    assert judged(external, ips=["10.0.0.1"]).scope.value == "private"
    internal = entry("net/api", "api.example.com", location="MESH_INTERNAL")
    assert judged(internal).scope.value == "mesh"


def test_a_name_in_the_public_dns_is_external_though_unsurely():
    assert judged(host="api.example.com").scope == ("external", "low", "name in the public DNS")
    assert judged(host="printer").scope.value == "unknown"
    assert judged(host="db.corp").scope.value == "unknown"
    assert judged(host="com").scope.value == "unknown"


def test_the_operators_word_comes_first():
    known = context(
        networks=[{"cidr": "93.184.0.0/16", "name": "partner", "scope": "private"}],
        hosts=[{"host": "*.corp.example.com", "scope": "private"}],
    )
    assert judged(known, host="93.184.216.34").scope == ("private", "high", "declared network partner")
    assert judged(known, host="a.corp.example.com", ips=["198.51.100.1"]).scope.value == "private"


def test_what_is_beyond_the_cap_has_no_scope():
    assert judged(host="(other)", port=None).scope.value == "unknown"


# --- region -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("db.ab12.eu-west-1.rds.amazonaws.com", "eu-west-1"),
        ("s3.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("s3-eu-central-1.amazonaws.com", "eu-central-1"),
        ("demo.ab12cd.ng.0001.euw1.cache.amazonaws.com", "eu-west-1"),
        ("demo.ab12cd.0001.apse2.cache.amazonaws.com", "ap-southeast-2"),
        ("europe-west1-docker.pkg.dev", "europe-west1"),
        ("us-central1-aiplatform.googleapis.com", "us-central1"),
        ("northamerica-northeast1-run.googleapis.com", "northamerica-northeast1"),
        ("demo.westeurope.cloudapp.azure.com", "westeurope"),
        ("germanywestcentral.api.cognitive.microsoft.com", "germanywestcentral"),
        ("replica-us-east-1.eu-west-1.rds.amazonaws.com", "eu-west-1"),
        ("s3.amazonaws.com", None),
        ("api.example.com", None),
        ("us-east.example.com", None),
        ("west.example.com", None),
    ],
)
def test_a_region_in_a_host_name_is_found(host: str, region: str | None):
    assert judged(host=host).region.value == region


def test_a_providers_own_name_is_surer_than_anybodys():
    assert judged(host="s3.eu-west-1.amazonaws.com").region.confidence == "high"
    assert judged(host="eu-west-1.example.com").region == (
        "eu-west-1",
        "medium",
        "eu-west-1 in the host's name",
    )


def test_the_locality_of_endpoints_is_the_region():
    one = entry("net/api", "api.example.com", endpoints=[{"address": "192.0.2.1", "locality": "eu-west-1/a"}])
    assert judged(one).region == ("eu-west-1", "high", "locality of ServiceEntry net/api's endpoints")


def test_endpoints_in_several_regions_are_in_none():
    several = entry(
        "net/api",
        "api.example.com",
        endpoints=[
            {"address": "a.example", "locality": "eu-west-1"},
            {"address": "b.example", "locality": "us-east-1"},
        ],
    )
    assert judged(several).region == (None, None, "endpoints of ServiceEntry net/api in eu-west-1, us-east-1")


AWS = {
    "prefixes": [
        {"ip_prefix": "3.248.0.0/13", "region": "eu-west-1"},
        {"ip_prefix": "3.250.0.0/16", "region": "eu-west-9"},
        {"ip_prefix": "52.0.0.0/11", "region": "us-east-1"},
    ]
}


def test_the_smallest_range_that_holds_an_address_is_its_region():
    assert judged(AWS, ips=["3.249.1.1"]).region == (
        "eu-west-1",
        "high",
        "address in the ranges of aws",
    )
    assert judged(AWS, ips=["3.250.1.1"]).region.value == "eu-west-9"


def test_addresses_in_several_regions_are_in_none_and_named():
    assert judged(AWS, ips=["3.249.1.1", "52.1.1.1"]).region == (
        None,
        None,
        "addresses in eu-west-1, us-east-1",
    )


def test_where_an_address_lies_beats_what_a_host_is_called():
    assert judged(AWS, host="s3.eu-west-1.amazonaws.com", ips=["52.1.1.1"]).region.value == "us-east-1"


def test_a_declared_network_and_host_come_first():
    known = context(
        networks=[{"cidr": "3.248.0.0/13", "region": "dublin"}],
        hosts=[{"host": "api.example.com", "region": "moon-1"}],
    )
    assert judged(AWS, known, host="x.example.com", ips=["3.249.1.1"]).region.value == "dublin"
    assert judged(AWS, known, ips=["3.249.1.1"]).region.value == "moon-1"


def test_a_pods_region_is_its_nodes():
    known = [pod("shop/web-1", "10.0.0.7", app="web"), node("n1", "eu-west-1")]
    assert judged(*known, host="10.0.0.7").region == ("eu-west-1", "high", "node of pod shop/web-1")


@pytest.fixture
def geo(tmp_path: Path):
    writer = MMDBWriter(4, "GeoLite2-Country")
    writer.insert_network(IPSet(["93.184.0.0/16"]), {"country": {"iso_code": "US"}})
    writer.insert_network(IPSet(["198.51.100.0/24"]), {"region": "EU-West-1"})
    path = tmp_path / "geo.mmdb"
    writer.to_db_file(str(path))
    return open_geo(path)


def test_a_geographic_database_tells_the_country_unsurely(geo):
    assert judged(ips=["93.184.216.34"], geo=geo).region == ("US", "low", "geographic database: country US")


def test_a_geographic_database_of_ones_own_tells_regions(geo):
    assert judged(ips=["198.51.100.1"], geo=geo).region.value == "eu-west-1"


def test_a_geographic_database_is_asked_last(geo):
    assert (
        judged(host="s3.eu-west-1.amazonaws.com", ips=["93.184.216.34"], geo=geo).region.value == "eu-west-1"
    )


def test_a_geographic_database_may_not_know(geo):
    assert judged(ips=["203.0.113.1", "2606:4700::1"], geo=geo).region.value is None


def test_a_file_that_is_no_geographic_database_is_named(tmp_path: Path):
    (tmp_path / "a.mmdb").write_text("no")
    with pytest.raises(ValueError, match=r"a\.mmdb cannot be used"):
        open_geo(tmp_path / "a.mmdb")


# --- kind ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "port", "kind"),
    [
        ("db.ab12.eu-west-1.rds.amazonaws.com", 5432, "postgres"),
        ("db.ab12.eu-west-1.rds.amazonaws.com", 3306, "mysql"),
        ("db.ab12.eu-west-1.rds.amazonaws.com", 9999, "sql"),
        ("c.ab12.euw1.cache.amazonaws.com", 6379, "redis"),
        ("c.ab12.euw1.cache.amazonaws.com", 11211, "memcached"),
        ("dynamodb.eu-west-1.amazonaws.com", 443, "dynamodb"),
        ("b-1.demo.ab12cd.c2.kafka.eu-west-1.amazonaws.com", 9098, "kafka"),
        ("b-1234.mq.eu-west-1.amazonaws.com", 5671, "rabbitmq"),
        ("demo.database.windows.net", 1433, "sqlserver"),
        ("demo.postgres.database.azure.com", 5432, "postgres"),
        ("demo.redis.cache.windows.net", 6380, "redis"),
        ("hub.servicebus.windows.net", 9093, "kafka"),
        ("cluster0.ab1cd.mongodb.net", 27017, "mongodb"),
        ("pkc-1.eu-west-1.aws.confluent.cloud", 9092, "kafka"),
        ("spanner.googleapis.com", 443, "spanner"),
        ("192.0.2.1", 5432, "postgres"),
        ("anything.example.com", 27017, "mongodb"),
        ("redis-cart.shop.svc.cluster.local", 443, "redis"),
        ("s3.eu-west-1.amazonaws.com", 443, None),
        ("api.example.com", 443, None),
        ("www.kafkaesque.example", 443, None),
    ],
)
def test_a_database_is_known_by_its_host_or_port(host: str, port: int, kind: str | None):
    assert judged(host=host, port=port).kind.value == kind


def test_the_protocol_of_a_service_entrys_port_is_surest():
    found = judged(entry("net/db", "db.example.com", ports="5000/MONGO"), host="db.example.com", port=5000)
    assert found.kind == ("mongodb", "high", "ServiceEntry net/db: port 5000 is MONGO")


def test_the_protocol_of_a_services_port_counts_as_well():
    found = judged(service("shop/cart", "7000/redis-main"), host="cart", port=7000)
    assert found.kind.value == "redis"


def test_the_operator_may_name_the_kind():
    assert judged(context(hosts=[{"host": "api.example.com", "kind": "ledger"}])).kind == (
        "ledger",
        "high",
        "declared host api.example.com",
    )


# --- frames -------------------------------------------------------------------------------------------------


def frame(**columns) -> pl.DataFrame:
    return pl.DataFrame(columns)


def judges(*registries) -> Judges:
    return Judges(Registries(registries))


def test_a_frame_gets_the_judgement_columns_in_its_own_order():
    rows = frame(
        destination_host=["b.example.com", "10.0.0.1", None, "b.example.com"],
        destination_port=pl.Series([443, 5432, None, 443], dtype=pl.Int32),
        source_namespace=["shop", None, None, "shop"],
        n=[1, 2, 3, 4],
    )
    found = judge(rows, judges(registry(entry("net/b", "b.example.com"))))
    assert found.columns == [*rows.columns, *JUDGED]
    assert found["n"].to_list() == [1, 2, 3, 4]
    assert found["destination_scope"].to_list() == ["external", "private", "unknown", "external"]
    assert found["service_entry"].to_list() == ["net/b", None, None, "net/b"]
    assert found["destination_kind"].to_list() == [None, "postgres", None, None]


def test_a_frame_without_rows_gets_the_columns_too():
    assert judge(frame(destination_host=pl.Series([], dtype=pl.String)), judges()).schema == {
        "destination_host": pl.String(),
        **JUDGED,
    }


def test_judging_again_replaces_the_columns():
    rows = judge(frame(destination_host=["b.example.com"]), judges())
    assert judge(rows, judges(registry(entry("net/b", "b.example.com"))))["service_entry"].to_list() == [
        "net/b"
    ]


def test_addresses_of_a_window_or_of_an_event_count():
    known = judges(registry(AWS))
    window = frame(destination_host=["a.example.com"], destination_ips=[["3.249.1.1"]])
    event = frame(destination_host=["a.example.com"], destination_ip=["3.249.1.1"])
    assert [judge(one, known)["destination_region"][0] for one in (window, event)] == ["eu-west-1"] * 2


def test_each_cluster_is_judged_by_its_own_registry_and_the_rest_by_the_one_without_a_name():
    known = judges(
        registry(entry("net/one", "a.example.com"), cluster="prod"),
        registry(entry("net/any", "a.example.com")),
    )
    rows = frame(destination_host=["a.example.com"] * 3, source_cluster=["prod", "test", None])
    assert judge(rows, known)["service_entry"].to_list() == ["net/one", "net/any", "net/any"]


def test_a_host_that_only_the_registry_can_name_is_told_from_one_that_was_asked_for():
    rows = frame(
        destination_host=["web.shop.svc.cluster.local"] * 2,
        destination_host_source=["registry", "authority"],
        destination_ips=[["93.184.216.34"]] * 2,
    )
    assert judge(rows, judges())["destination_scope"].to_list() == ["mesh", "external"]


# --- home and residency -------------------------------------------------------------------------------------

SHOP = Workload("shop", "web")
PODS = [
    pod("shop/web-1", "10.0.0.7", app="web"),
    node("n1", "EU-West-1"),
    pod("shop/web-2", "10.0.0.8", app="web", node="n2"),
    node("n2", "eu-west-2"),
]


def test_a_workloads_home_is_where_its_pods_nodes_are():
    assert Homes(registry(*PODS)).of("prod", SHOP) == (
        ("eu-west-1", "eu-west-2"),
        "high",
        "labels of its pods' nodes",
    )


def test_a_declared_home_comes_first():
    declared = context(homes=[{"namespace": "sh*", "regions": ["Dublin"]}, {"regions": ["elsewhere"]}])
    assert Homes(registry(*PODS, declared)).of("prod", SHOP) == (("dublin",), "high", "declared")
    assert Homes(registry(*PODS, declared)).of("prod", Workload("pay", "api")).regions == ("elsewhere",)


def test_without_pods_the_records_envelopes_tell():
    homes = Homes(registry(), {SHOP: ["eu-west-1"]})
    assert homes.of(None, SHOP) == (("eu-west-1",), "medium", "region in its records' envelopes")
    assert homes.of(None, Workload("shop", "other")).regions == ()


@pytest.mark.parametrize(
    ("home", "region", "expected"),
    [
        (("eu-west-1",), "eu-west-1", "in"),
        (("eu-west-1", "eu-west-2"), "eu-west-2", "in"),
        (("eu-west-1",), "us-east-1", "out"),
        (("eu-west-1",), None, "unknown"),
        ((), "eu-west-1", "unknown"),
        (("eu-west-1",), "IE", "unknown"),
        (("eu-west-1", "IE"), "US", "out"),
        (("IE",), "IE", "in"),
    ],
)
def test_traffic_is_in_its_home_region_or_out_of_it(home, region, expected: str):
    assert where(home, region) == expected


POLICY = context(
    residency=[
        {"name": "strict", "namespaces": ["pay"], "regions": ["eu-*"], "unknown": "violation"},
        {
            "name": "europe",
            "namespaces": ["shop", "web-*"],
            "regions": ["eu-*", "europe-*", "westeurope"],
            "hosts": ["*.cdn.example"],
        },
    ]
)


@pytest.mark.parametrize(
    ("namespace", "host", "region", "outcome"),
    [
        ("shop", "a.com", "eu-west-1", "allowed"),
        ("shop", "a.com", "EuropE-west1", "allowed"),
        ("web-1", "a.com", "us-east-1", "violation"),
        ("shop", "a.com", None, "unknown"),
        ("shop", "x.cdn.example", "us-east-1", "allowed"),
        ("pay", "a.com", None, "violation"),
        ("other", "a.com", "us-east-1", None),
    ],
)
def test_a_policy_says_where_a_namespace_may_send(namespace, host, region, outcome):
    assert residency(registry(POLICY), "prod", namespace, host, region).outcome == outcome


# --- small parts --------------------------------------------------------------------------------------------


def test_networks_are_found_as_a_linear_search_would():
    cidrs = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "0.0.0.0/0", "fd00::/8"]
    networks = Networks((cidr, cidr) for cidr in cidrs)
    for ip in ("10.1.2.3", "10.1.2.4", "10.1.3.1", "10.9.9.9", "9.9.9.9", "fd12::1", "2001:db8::1"):
        address = ipaddress.ip_address(ip)
        holding = [c for c in cidrs if address in ipaddress.ip_network(c)]
        expected = max(holding, key=lambda c: ipaddress.ip_network(c).prefixlen, default=None)
        assert (networks.find(ip) or (None,))[0] == expected


@pytest.mark.parametrize(
    ("host", "owner"),
    [
        ("api.shop.example.co.uk", "example.co.uk"),
        ("example.com", "example.com"),
        ("a.b.s3.amazonaws.com", "b.s3.amazonaws.com"),
        ("someone.github.io", "someone.github.io"),
        ("github.io", None),
        ("com", None),
        ("db.corp", "db.corp"),
        ("printer", None),
    ],
)
def test_an_owners_domain_ends_below_the_public_suffix(host: str, owner: str | None):
    assert owner_domain(host) == owner


def test_the_mesh_config_of_a_registry_has_istios_defaults():
    assert registry().mesh.spec.root_namespace == "istio-system"
    assert registry(mesh(root_namespace="istio-config")).mesh.spec.root_namespace == "istio-config"


def test_of_an_object_applied_again_the_last_counts():
    base = registry(entry("net/a", "a.example.com"))
    again = base.over(read_object(entry("net/a", "b.example.com")))
    assert [one.spec.hosts for one in again.service_entries] == [("b.example.com",)]
