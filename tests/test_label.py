"""Labels: the decision procedure, rule by rule, and what must never decide."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from egresslens.label import classify_cluster, label
from egresslens.parse.stage import RECORDS
from egresslens.record import LABELS, STORED_LABELS
from egresslens.rules import Rules

CALLER = {"downstream_remote_address": "10.1.0.9:40000", "upstream_local_address": "10.1.0.9:50000"}


def labelled(rules: Rules | None = None, **fields: Any) -> dict[str, Any]:
    """One record with these fields, labelled; by default a sidecar's outbound HTTP call."""
    record = {
        "message": 0,
        "seq": 0,
        "method": "GET",
        "path": "/",
        "protocol": "HTTP/1.1",
        "response_code": 200,
        "bytes_sent": 0,
        "bytes_received": 0,
        "downstream_local_address": "93.184.216.34:80",
        **CALLER,
        **fields,
    }
    frame = pl.DataFrame([record], schema=RECORDS)
    return label(frame, rules or Rules()).to_dicts()[0]


def tcp(**fields: Any) -> dict[str, Any]:
    nothing = {"method": None, "path": None, "protocol": None, "response_code": 0}
    return labelled(**{**nothing, **fields})


@pytest.mark.parametrize(
    ("name", "kind", "port", "subset", "host"),
    [
        ("outbound|80||httpbin.org", "outbound", 80, None, "httpbin.org"),
        ("outbound|443|v1|h.ns.svc.cluster.local", "outbound", 443, "v1", "h.ns.svc.cluster.local"),
        ("outbound|443||*.wikipedia.org", "outbound", 443, None, "*.wikipedia.org"),
        ("outbound_.443_._.api.example.com", "outbound", 443, None, "api.example.com"),
        ("outbound_.80_.v1_.web.shop.svc.cluster.local", "outbound", 80, "v1", "web.shop.svc.cluster.local"),
        ("outbound6|80||httpbin.org", "outbound", 80, None, "httpbin.org"),
        ("inbound|8080||", "inbound", 8080, None, None),
        ("inbound|8080|http|a.b.svc.cluster.local", "inbound", 8080, "http", "a.b.svc.cluster.local"),
        ("inbound|8081|mgmt-8081|mgmtCluster", "inbound", 8081, "mgmt-8081", "mgmtCluster"),
        ("inbound-vip|80|http/v2|a.b.svc.cluster.local", "waypoint", 80, "http/v2", "a.b.svc.cluster.local"),
        ("PassthroughCluster", "passthrough", None, None, None),
        ("AllowAnyDynamicDNSCluster", "passthrough", None, None, None),
        ("BlackHoleCluster", "blackhole", None, None, None),
        ("InboundPassthroughClusterIpv4", "inbound_passthrough", None, None, None),
        ("InboundPassthroughClusterIpv6", "inbound_passthrough", None, None, None),
        ("InboundPassthroughCluster", "inbound_passthrough", None, None, None),
        ("inbound-pod|9080||10.1.1.1", "internal", 9080, None, None),
        ("prometheus_stats", "internal", None, None, None),
        ("connect_originate", "internal", None, None, None),
        ("spiffe://a/ns/b/sa/c_to_d", "internal", None, None, None),
        ("httpbin.foo", "custom", None, None, None),
        ("httpbin.org_443", "custom", None, None, None),
        ("outbound|http||a|b", "custom", None, None, None),
        ("shop-BlackHoleCluster", "custom", None, None, None),
        ("", "none", None, None, None),
        (None, "none", None, None, None),
    ],
)
def test_a_cluster_name_is_read(name, kind, port, subset, host):
    assert classify_cluster(name) == (kind, port, subset, host)


@pytest.mark.parametrize(
    "name",
    ["outbound|80||httpbin.org", "PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster"],
)
def test_a_trailing_semicolon_is_no_part_of_a_cluster_name(name):
    assert classify_cluster(name + ";") == classify_cluster(name)


@pytest.mark.parametrize("name", ["outbound|99999||h", "outbound|||h"])
def test_a_cluster_port_that_is_no_port_is_absent(name):
    assert classify_cluster(name).port is None


def verdict(found: dict[str, Any]) -> tuple[Any, ...]:
    return found["label"], found["label_evidence"], found["confidence"]


def test_passthrough_by_its_cluster():
    found = labelled(upstream_cluster="PassthroughCluster", route_name="allow_any", authority="example.com")
    assert verdict(found) == (
        "passthrough",
        "cluster",
        "high",
    )


def test_passthrough_by_the_route_where_the_cluster_has_a_stat_name():
    found = labelled(upstream_cluster="my-pattern", route_name="allow_any_dynamic_dns")
    assert (found["label"], found["label_evidence"]) == ("passthrough", "route")


def test_an_egress_proxys_named_cluster_is_outbound_though_the_route_is_allow_any():
    found = labelled(upstream_cluster="outbound|3128||proxy.corp.example", route_name="allow_any")
    assert found["label"] == "outbound"


def test_blackhole_by_its_cluster():
    found = tcp(upstream_cluster="BlackHoleCluster", response_flags=["UH"])
    assert verdict(found) == ("blackhole", "cluster", "high")


MARKED = {
    "**BlackHoleCluster**": "BlackHoleCluster",
    "*BlackHoleCluster*": "BlackHoleCluster",
    "__PassthroughCluster__": "PassthroughCluster",
    "`BlackHoleCluster`": "BlackHoleCluster",
    "**`PassthroughCluster`**": "PassthroughCluster",
    "~~BlackHoleCluster~~": "BlackHoleCluster",
    "<b>PassthroughCluster</b>": "PassthroughCluster",
    '<span class="x">BlackHoleCluster</span>': "BlackHoleCluster",
    "**BlackHoleCluster;**": "BlackHoleCluster;",
    "**outbound|80||httpbin.org**": "outbound|80||httpbin.org",
    r"outbound\|80\|\|httpbin.org": "outbound|80||httpbin.org",
    r"outbound|443||\*.example.org": "outbound|443||*.example.org",
    "outbound&#124;80&#124;&#124;httpbin.org": "outbound|80||httpbin.org",
}


@pytest.mark.parametrize("name", MARKED)
def test_a_web_pages_marks_around_a_clusters_name_are_no_part_of_it(name):
    found, plain = labelled(upstream_cluster=name), labelled(upstream_cluster=MARKED[name])
    assert found == {**plain, "damage": "markup"}


@pytest.mark.parametrize(
    "name",
    [
        "my-BlackHoleCluster",
        "BlackHoleCluster-2",
        "**BlackHoleCluster",
        "*BlackHoleCluster`",
        "x**BlackHoleCluster**",
        "**not BlackHoleCluster**",
        "<script>BlackHoleCluster</script>",
        "**httpbin.foo**",
        "httpbin_BlackHoleCluster_80",
    ],
)
def test_a_custom_name_stays_itself_whatever_it_holds(name):
    found = labelled(upstream_cluster=name)
    assert (found["label"], found["upstream_cluster"], found["damage"]) == ("unknown", name, None)


@pytest.mark.parametrize("route", ["**block_all**", "`block_all`", r"block\_all"])
def test_a_web_pages_marks_around_block_all_are_no_part_of_it(route):
    found = labelled(route_name=route)
    assert (found["label"], found["route_name"], found["damage"]) == ("blackhole", "block_all", "markup")


def test_marks_in_one_record_change_nothing_in_another():
    marked = {"message": 0, "seq": 0, "route_name": "**allow_any**"}
    plain = {"message": 1, "seq": 0, "route_name": "**allow_any**", "upstream_cluster": "PassthroughCluster"}
    found = label(pl.DataFrame([marked, plain], schema=RECORDS), Rules())
    assert found["route_name"].to_list() == ["allow_any", "**allow_any**"]


def test_marks_are_named_beside_other_damage():
    found = labelled(upstream_cluster="**BlackHoleCluster**", damage="no_timestamp")
    assert found["damage"] == "no_timestamp,markup"


def test_marks_are_named_once():
    found = labelled(upstream_cluster="**BlackHoleCluster**", damage="markup,odd_spaces")
    assert found["damage"] == "markup,odd_spaces"


@pytest.mark.parametrize("code", [502, 200, 503])
def test_blackhole_by_the_route_block_all_whatever_the_code(code):
    found = labelled(route_name="block_all", response_code=code, authority="evil.example")
    assert (found["label"], found["label_evidence"]) == ("blackhole", "route")


def test_an_old_proxys_block_is_inferred_with_medium_confidence():
    found = tcp(response_flags=["UH"], downstream_local_address="203.0.113.7:443")
    assert verdict(found) == ("blackhole", "flags", "medium")


@pytest.mark.parametrize(
    "fields",
    [
        {"response_flags": ["NR"]},
        {"response_flags": ["UF"]},
        {"response_flags": None},
        {"response_flags": ["UH"], "bytes_sent": 1},
        {"response_flags": ["UH"], "downstream_local_address": "10.1.0.9:8080"},
        {"response_flags": ["UH"], "source_pod_ip": "203.0.113.7"},
    ],
)
def test_no_old_block_without_every_sign_of_it(fields):
    assert tcp(**{"downstream_local_address": "203.0.113.7:443", **fields})["label"] == "unknown"


@pytest.mark.parametrize("details", ["direct_response", "via_upstream", None])
@pytest.mark.parametrize("route", [None, "default", "option-call"])
def test_a_502_alone_is_never_a_block(details, route):
    found = labelled(response_code=502, response_code_details=details, route_name=route)
    assert found["label"] == "unknown"


def test_no_healthy_endpoint_of_a_named_cluster_is_no_block():
    found = labelled(upstream_cluster="outbound|80||a.example", response_flags=["UH"], response_code=503)
    assert found["label"] == "outbound"


def test_every_label_given_is_a_label():
    clusters = ["PassthroughCluster", "BlackHoleCluster", "outbound|1||a", "inbound|1||", "agent", "x", None]
    found = {labelled(upstream_cluster=name)["label"] for name in clusters}
    assert found <= set(LABELS)
    assert found & set(STORED_LABELS) == {"passthrough", "blackhole", "outbound", "unknown"}


def destination(found: dict[str, Any]) -> tuple[Any, ...]:
    return found["destination_host"], found["destination_host_source"], found["destination_port"]


def test_a_named_cluster_names_the_destination():
    found = labelled(upstream_cluster="outbound|443||api.example.com", authority="other.example")
    assert destination(found) == ("api.example.com", "registry", 443)


def test_passthrough_goes_to_the_host_asked_for_at_the_port_connected_to():
    found = labelled(upstream_cluster="PassthroughCluster", authority="Example.COM.:8080")
    assert destination(found) == ("example.com", "authority", 80)


def test_a_blocked_tls_connection_goes_to_its_server_name():
    found = tcp(
        upstream_cluster="BlackHoleCluster",
        requested_server_name="evil.example",
        downstream_local_address="203.0.113.7:443",
    )
    assert destination(found) == ("evil.example", "sni", 443)


def test_without_a_name_the_address_stands_in():
    found = tcp(upstream_cluster="BlackHoleCluster", downstream_local_address="[2001:db8::1]:443")
    assert destination(found) == ("2001:db8::1", "address", 443)


def test_a_wildcard_cluster_goes_to_the_host_asked_for():
    found = labelled(upstream_cluster="outbound|443||*.wikipedia.org", authority="de.wikipedia.org")
    assert destination(found) == ("de.wikipedia.org", "authority", 443)


def test_a_wildcard_cluster_alone_goes_by_its_own_name():
    found = tcp(upstream_cluster="outbound|443||*.wikipedia.org")
    assert destination(found)[:2] == ("*.wikipedia.org", "registry")


GATEWAY = "outbound|443|external|istio-egressgateway.istio-system.svc.cluster.local"


def test_a_hop_to_an_egress_gateway_goes_to_the_real_host():
    found = tcp(
        upstream_cluster=GATEWAY,
        requested_server_name="api.example.com",
        downstream_local_address="93.184.216.34:443",
        upstream_host="10.1.9.9:8443",
    )
    assert destination(found) == ("api.example.com", "sni", 443)
    assert not found["mismatch"]


def test_an_egress_gateway_without_a_host_asked_for_is_the_destination_itself():
    found = tcp(upstream_cluster=GATEWAY)
    assert destination(found)[1] == "registry"


def test_an_address_istio_made_up_is_no_endpoint():
    found = tcp(upstream_cluster="outbound|27017||db.example", downstream_local_address="240.240.40.99:27017")
    assert found["destination_ip"] is None


def test_an_unicode_host_is_spelt_in_ascii():
    found = labelled(upstream_cluster="PassthroughCluster", authority="bücher.example")
    assert found["destination_host"] == "xn--bcher-kva.example"


def test_a_cluster_that_swallows_another_hosts_traffic_is_a_mismatch():
    found = tcp(upstream_cluster="outbound|443||wiki.example", requested_server_name="evil.example")
    assert found["mismatch"]


@pytest.mark.parametrize(
    "asked", ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local", "WEB:8080"]
)
def test_any_short_name_of_a_service_agrees_with_it(asked):
    found = labelled(upstream_cluster="outbound|80||web.shop.svc.cluster.local", authority=asked)
    assert not found["mismatch"]


@pytest.mark.parametrize("asked", ["10.0.0.1", "10.0.0.1:80", "[::1]:80", None])
def test_an_address_asked_for_disagrees_with_no_name(asked):
    found = labelled(upstream_cluster="outbound|80||a.example", authority=asked)
    assert not found["mismatch"]


def test_a_wildcard_agrees_with_the_hosts_it_covers():
    assert not labelled(upstream_cluster="outbound|443||*.a.example", authority="x.a.example")["mismatch"]
    assert labelled(upstream_cluster="outbound|443||*.a.example", authority="x.b.example")["mismatch"]


def test_an_outbound_listener_on_the_pods_own_address_is_a_gateways():
    found = labelled(upstream_cluster="outbound|80||a.example", downstream_local_address="10.1.0.9:8080")
    assert found["hop"] == "gateway"


def test_a_gateways_failed_tcp_call_is_known_by_the_pods_address():
    found = tcp(
        upstream_cluster="outbound|443||a.example",
        upstream_local_address=None,
        downstream_local_address="10.1.0.30:8443",
        source_pod_ip="10.1.0.30",
    )
    assert found["hop"] == "gateway"


def test_a_server_name_in_istios_own_form_was_read_by_a_gateway():
    found = tcp(
        upstream_cluster="outbound|443||a.example",
        upstream_local_address=None,
        downstream_local_address="10.1.0.30:8443",
        requested_server_name="outbound_.443_._.a.example",
    )
    assert (found["hop"], found["destination_host"]) == ("gateway", "a.example")


def test_through_an_egress_proxy_the_host_asked_for_is_the_destination():
    found = labelled(
        upstream_cluster="outbound|3128||proxy.infra.svc.cluster.local",
        route_name="allow_any",
        authority="a.example",
    )
    assert verdict(found) == ("outbound", "cluster", "high")
    assert (found["destination_host"], found["mismatch"]) == ("a.example", False)


def test_the_envelopes_word_on_the_hop_wins():
    found = labelled(upstream_cluster="outbound|80||a.example", source_role="waypoint")
    assert found["hop"] == "waypoint"


def test_a_sidecars_outbound_call_is_a_sidecars():
    assert labelled(upstream_cluster="outbound|80||a.example")["hop"] == "sidecar"


def test_a_waypoint_is_known_by_its_cluster():
    assert labelled(upstream_cluster="inbound-vip|80|http|a.b.svc.cluster.local")["hop"] == "waypoint"


def test_operators_name_their_own_egress_gateways():
    rules = Rules(egress_gateways=(r"^way-out\.infra\.svc",))
    found = labelled(
        rules, upstream_cluster="outbound|80||way-out.infra.svc.cluster.local", authority="a.example"
    )
    assert found["destination_host"] == "a.example"


def test_ztunnels_outbound_to_a_service_is_outbound_by_its_registry():
    found = tcp(direction="outbound", authority="web.shop.svc.cluster.local")
    assert verdict(found) == ("outbound", "direction", "high")
    assert destination(found)[:2] == ("web.shop.svc.cluster.local", "registry")


def test_ztunnels_outbound_to_no_service_is_passthrough():
    found = tcp(direction="outbound", downstream_local_address="203.0.113.7:443")
    assert (found["label"], found["destination_host"]) == ("passthrough", "203.0.113.7")


def test_ztunnels_inbound_is_inbound():
    assert tcp(direction="inbound")["label"] == "inbound"
