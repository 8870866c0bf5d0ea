"""Which ServiceEntry or Service covers a destination."""

import pytest

from egresslens.judge.cover import Catalog, Coverage
from registries import entry, mesh, registry, service, sidecar


def cover(*documents, host="api.example.com", port=443, namespace="shop", **rest) -> Coverage:
    return Catalog(registry(*documents)).cover(host, port, namespace, **rest)


def test_an_exact_host_is_covered():
    found = cover(entry("net/api", "api.example.com"))
    assert (found.service_entry, found.reason) == ("net/api", "host api.example.com")


def test_a_wildcard_covers_every_name_below_it_but_not_itself():
    documents = entry("net/api", "*.example.com")
    assert cover(documents).service_entry == "net/api"
    assert cover(documents, host="a.b.example.com").service_entry == "net/api"
    assert cover(documents, host="example.com").service_entry is None
    assert cover(documents, host="badexample.com").service_entry is None


def test_the_longest_match_wins():
    documents = [
        entry("net/all", "*.com"),
        entry("net/domain", "*.example.com"),
        entry("net/exact", "api.example.com"),
    ]
    assert cover(*documents).service_entry == "net/exact"
    assert cover(*documents, host="b.example.com").service_entry == "net/domain"
    assert cover(*documents, host="b.com").service_entry == "net/all"


def test_a_port_that_the_entry_lacks_is_not_covered_and_said():
    found = cover(entry("net/api", "api.example.com", ports="80/HTTP"))
    assert (found.service_entry, found.reason) == (None, "net/api has no port 443")


def test_a_shorter_match_counts_where_the_longer_lacks_the_port():
    found = cover(entry("net/exact", "api.example.com", ports="80/HTTP"), entry("net/all", "*.example.com"))
    assert found.service_entry == "net/all"


@pytest.mark.parametrize(
    ("export_to", "namespace", "is_seen"),
    [
        ([], "shop", True),
        (["*"], "shop", True),
        (["."], "shop", False),
        (["."], "net", True),
        (["shop"], "shop", True),
        (["shop"], "pay", False),
        (["shop"], None, False),
        (["*"], None, True),
        (["~"], "net", False),
    ],
)
def test_an_entry_exists_where_it_is_exported_to(export_to, namespace, is_seen: bool):
    found = cover(entry("net/api", "api.example.com", export_to=export_to), namespace=namespace)
    assert (found.service_entry is not None) == is_seen
    if not is_seen:
        assert found.reason == f"net/api is not exported to {namespace or 'an unknown namespace'}"


def test_the_mesh_says_what_no_export_to_means():
    documents = [entry("net/api", "api.example.com"), mesh(default_service_export_to=["."])]
    assert cover(*documents).service_entry is None
    assert cover(*documents, namespace="net").service_entry == "net/api"


@pytest.mark.parametrize(
    ("host", "is_seen"),
    [
        ("net/*", True),
        ("*/*", True),
        ("*/api.example.com", True),
        ("net/api.example.com", True),
        ("net/*.example.com", True),
        ("net/*.com", True),
        ("./*", False),
        ("~/*", False),
        ("net/www.example.com", False),
        ("shop/*", False),
    ],
)
def test_a_sidecar_limits_what_its_namespace_sees(host: str, is_seen: bool):
    documents = [entry("net/api", "api.example.com"), sidecar("shop/default", host)]
    found = cover(*documents)
    assert (found.service_entry is not None) == is_seen
    if not is_seen:
        assert found.reason == "net/api is outside the egress hosts of Sidecar shop/default"
    assert cover(*documents, namespace="pay").service_entry == "net/api"


def test_the_root_namespaces_sidecar_is_the_meshs_default_and_a_namespaces_own_replaces_it():
    documents = [entry("net/api", "api.example.com"), sidecar("istio-system/default", "./*")]
    assert cover(*documents).service_entry is None
    assert cover(*documents, sidecar("shop/default", "net/*")).service_entry == "net/api"


def test_a_sidecar_with_a_selector_counts_for_the_workloads_it_selects():
    documents = [entry("net/api", "api.example.com"), sidecar("shop/cart", "./*", selector={"app": "cart"})]
    assert cover(*documents, labels={"app": "cart", "v": "1"}).service_entry is None
    assert cover(*documents, labels={"app": "web"}).service_entry == "net/api"
    assert cover(*documents).service_entry == "net/api"


def test_a_listener_with_a_port_counts_for_that_port_and_the_one_without_for_the_others():
    documents = [
        entry("net/api", "api.example.com", ports="443/TLS 80/HTTP"),
        sidecar("shop/default", egress=[{"port": {"number": 443}, "hosts": ["net/*"]}, {"hosts": ["./*"]}]),
    ]
    assert cover(*documents, port=443).service_entry == "net/api"
    assert cover(*documents, port=80).service_entry is None


def test_a_sidecar_without_egress_sees_everything():
    assert (
        cover(entry("net/api", "api.example.com"), sidecar("shop/default", egress=None)).service_entry
        == "net/api"
    )


def test_of_two_entries_for_a_host_the_callers_own_namespace_wins_then_the_oldest():
    documents = [
        entry("net/new", "api.example.com", created="2026-02-01T00:00:00Z"),
        entry("web/old", "api.example.com", created="2026-01-01T00:00:00Z"),
        entry("shop/own", "api.example.com", created="2026-03-01T00:00:00Z"),
    ]
    assert cover(*documents).service_entry == "shop/own"
    assert cover(*documents, namespace="pay").service_entry == "web/old"


@pytest.mark.parametrize(
    ("traffic", "protocol", "is_covered"),
    [
        ("http", "HTTP", True),
        ("http", "HTTP2", True),
        ("http", "GRPC", True),
        ("http", "", True),
        ("http", "TLS", False),
        ("tls", "TLS", True),
        ("tls", "HTTPS", True),
        ("tls", "HTTP", False),
        ("opaque", "TLS", True),
        ("opaque", "MONGO", True),
        ("opaque", "HTTP", False),
        (None, "HTTP", True),
    ],
)
def test_traffic_is_found_by_ports_of_its_protocol(traffic, protocol: str, is_covered: bool):
    found = cover(
        entry("net/api", "api.example.com", ports=f"443/{protocol}", addresses=["192.0.2.1"]), traffic=traffic
    )
    assert (found.service_entry is not None) == is_covered


def test_a_protocol_that_does_not_fit_is_said():
    found = cover(entry("net/api", "api.example.com"), traffic="http")
    assert found.reason == "port 443 of net/api is TLS, the traffic is http"


def test_tcp_is_found_by_its_address():
    documents = entry(
        "net/db", "db.example.com", ports="5432/TCP", addresses=["192.0.2.0/24", "198.51.100.7"]
    )
    found = cover(documents, host="192.0.2.9", port=5432, traffic="tcp")
    assert (found.service_entry, found.reason) == ("net/db", "address 192.0.2.9 is in net/db's addresses")
    assert cover(documents, host="198.51.100.7", port=5432, traffic="tcp").service_entry == "net/db"
    assert cover(documents, host="203.0.113.1", port=5432, traffic="tcp").service_entry is None
    assert (
        cover(documents, host="x.example.com", port=5432, ips=["192.0.2.9"], traffic="tls").service_entry
        == "net/db"
    )


def test_every_network_that_holds_an_address_is_asked():
    documents = [
        entry("net/small", "a.example.com", ports="80/TCP", addresses=["192.0.2.0/28"]),
        entry("net/large", "b.example.com", ports="5432/TCP", addresses=["192.0.2.0/24"]),
    ]
    assert cover(*documents, host="192.0.2.1", port=5432, traffic="tcp").service_entry == "net/large"


def test_a_tcp_port_without_addresses_takes_everything_sent_to_its_number():
    documents = entry("net/db", "db.example.com", ports="5432/TCP")
    found = cover(documents, host="203.0.113.1", port=5432, traffic="tcp")
    assert found.reason == "net/db takes every connection to port 5432"
    assert cover(documents, host="web.example.com", port=5432, traffic="http").service_entry == "net/db"
    assert cover(documents, host="203.0.113.1", port=5433, traffic="tcp").service_entry is None


def test_an_address_that_istio_made_up_keeps_a_tcp_port_to_itself():
    documents = entry("net/db", "db.example.com", ports="5432/TCP", made_up=["240.240.0.5"])
    assert cover(documents, host="203.0.113.1", port=5432, traffic="tcp").service_entry is None
    assert cover(documents, host="240.240.0.5", port=5432, traffic="tcp").service_entry == "net/db"


def test_a_port_that_takes_everything_does_not_name_what_was_asked_for():
    assert (
        cover(entry("net/db", "db.example.com", ports="5432/TCP"), host="203.0.113.1", port=5432).found
        is None
    )


@pytest.mark.parametrize("host", ["web.shop.svc.cluster.local", "web.shop.svc", "web.shop", "web"])
def test_a_service_is_known_by_all_its_names(host: str):
    found = cover(service("shop/web", "80/http"), host=host, port=80)
    assert (found.service_entry, found.found.kind, found.found.title) == (None, "Service", "shop/web")


def test_a_short_name_is_one_of_the_callers_namespace():
    assert cover(service("shop/web", "80/http"), host="web", port=80, namespace="pay").found is None


def test_a_service_is_found_by_its_address():
    found = cover(
        service("shop/db", "5432/tcp-pg", ip="10.96.0.7"), host="10.96.0.7", port=5432, traffic="tcp"
    )
    assert found.found.title == "shop/db"


def test_a_services_export_annotation_counts():
    private = service("shop/web", "80/http", annotations={"networking.istio.io/exportTo": "."})
    assert cover(private, host="web.shop", port=80, namespace="pay").found is None
    assert cover(private, host="web.shop", port=80).found is not None


def test_a_port_that_was_not_logged_fits_any():
    assert cover(entry("net/api", "api.example.com"), port=None).service_entry == "net/api"


def test_nothing_known_says_so():
    assert cover() == Coverage(None, "no entry for the host")
    assert cover(host=None).found is None
