"""Advice by example: which entries, what they say, and what is listed apart."""

from datetime import timedelta

import pytest
import yaml

import istio_rules
from egresslens.advise import Advice, Options, advise, plan, render, render_diff
from egresslens.advise.names import generalise, is_host
from egresslens.advise.render import to_yaml
from istio_rules import service_entry_warnings
from registries import entry, registry, service, sidecar
from traffic import SINCE, UNTIL, seen, traffic

SPAN = "2026-01-20 00:00 to 2026-02-28 23:00"


def advice(*rows, existing=(), **options) -> Advice:
    return advise(traffic(*rows), registry(*existing), Options(**options), UNTIL)


def specs(given: Advice) -> dict[str, dict]:
    """Specs of the advised entries, by their names, as kubectl would read them."""
    documents = [one for one in yaml.safe_load_all(render(given)) if one]
    return {one["metadata"]["name"]: one["spec"] for one in documents if one["kind"] == "ServiceEntry"}


def scopes(given: Advice) -> dict[str, list[str]]:
    return {one.object.title: list(one.object.spec.egress[-1].hosts) for one in given.sidecars}


def apart(given: Advice) -> dict[str, list[str]]:
    return {one.reason: [evidence.host for evidence in one.evidence] for one in given.apart}


def test_a_host_becomes_an_entry_for_who_was_seen_calling_it():
    assert specs(advice(seen("api.example.com"), seen("api.example.com", source_namespace="pay"))) == {
        "example.com": {
            "hosts": ["api.example.com"],
            "ports": [{"number": 443, "name": "tls-443", "protocol": "TLS"}],
            "location": "MESH_EXTERNAL",
            "resolution": "DNS",
            "exportTo": ["pay", "shop"],
        }
    }


WHOLE = f"""\
# 1 new and 0 extended ServiceEntries, 1 Sidecars.
# From traffic seen 2026-01-20 00:00 to 2026-03-01 00:00 (UTC).
# What is not allowed by them is listed at the end, with the reasons.
---
# api.example.com:443: 1,204 requests by prod/shop/cart (1,204), {SPAN}, named by the TLS server name
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: example.com
  namespace: istio-system
  labels:
    app.kubernetes.io/managed-by: egresslens
spec:
  hosts:
    - api.example.com
  ports:
    - number: 443
      name: tls-443
      protocol: TLS
  location: MESH_EXTERNAL
  resolution: DNS
  exportTo:
    - shop
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata:
  name: default
  namespace: shop
  labels:
    app.kubernetes.io/managed-by: egresslens
spec:
  egress:
    - hosts:
        - "./*"
        - "istio-system/*.svc.cluster.local"
        - istio-system/api.example.com

# Addresses without a name: never turned into a host name; allow them by CIDR if they are known:
# port 9000: 192.0.2.8/31
# 192.0.2.8:9000: 10 requests by prod/shop/cart (10), {SPAN}, named by the address
# 192.0.2.9:9000: 10 requests by prod/shop/cart (10), {SPAN}, named by the address

# Entries without traffic, to be removed:
# ServiceEntry net/old (old.example.org): not used in the history
"""


def test_the_whole_text_reads_as_it_should():
    given = advice(
        seen("api.example.com", requests=1204),
        seen("192.0.2.8", traffic="tcp", destination_port=9000),
        seen("192.0.2.9", traffic="tcp", destination_port=9000, label="passthrough"),
        existing=[entry("net/old", "old.example.org")],
    )
    assert render(given) == WHOLE


def test_hosts_of_one_owner_share_an_entry_and_others_do_not():
    found = specs(advice(seen("a.example.co.uk"), seen("b.x.example.co.uk"), seen("a.example.com")))
    assert {name: spec["hosts"] for name, spec in found.items()} == {
        "example.co.uk": ["a.example.co.uk", "b.x.example.co.uk"],
        "example.com": ["a.example.com"],
    }


def test_owners_below_a_public_suffix_are_not_one_owner():
    found = specs(advice(*(seen(f"b{n}.s3.amazonaws.com") for n in range(20)), wildcard_hosts=3))
    assert all(spec["hosts"] == [name] for name, spec in found.items())
    assert len(found) == 20


def test_many_hosts_become_a_wildcard_that_nobody_has_to_resolve():
    found = specs(
        advice(*(seen(f"h{n}.cdn.example.com") for n in range(3)), seen("example.com"), wildcard_hosts=3)
    )
    assert found["example.com"]["hosts"] == ["*.cdn.example.com", "example.com"]
    assert found["example.com"]["resolution"] == "NONE"


def test_a_host_that_is_itself_a_public_suffix_gets_an_entry_for_itself_alone():
    found = specs(advice(seen("github.io"), *(seen(f"u{n}.github.io") for n in range(5)), wildcard_hosts=2))
    assert found["github.io"]["hosts"] == ["github.io"]
    assert len(found) == 6


def test_a_wildcard_over_a_public_suffix_is_never_advised():
    given = advice(seen("*.co.uk", traffic="opaque"))
    assert specs(given) == {}
    assert apart(given) == {plan.SUFFIX: ["*.co.uk"]}


@pytest.mark.parametrize(
    ("row", "protocol"),
    [
        ({"traffic": "http"}, "HTTP"),
        ({"traffic": "http", "protocol": "HTTP/2"}, "HTTP2"),
        ({"traffic": "http", "protocol": "HTTP/1.0"}, "HTTP"),
        ({"traffic": "tls"}, "TLS"),
        ({"traffic": "opaque", "destination_port": 443}, "TLS"),
        ({"traffic": "opaque", "destination_port": 5432}, "TCP"),
    ],
)
def test_the_protocol_is_what_was_seen(row, protocol: str):
    [spec] = specs(advice(seen("api.example.com", **row))).values()
    assert [port["protocol"] for port in spec["ports"]] == [protocol]


def test_a_port_that_sees_both_versions_of_http_speaks_the_older():
    rows = [seen(traffic="http", protocol=version) for version in ("HTTP/1.1", "HTTP/2")]
    [spec] = specs(advice(*rows)).values()
    assert [port["protocol"] for port in spec["ports"]] == ["HTTP"]


def test_hosts_that_use_a_port_differently_have_entries_of_their_own():
    rows = [
        seen("a.example.com", traffic="http", destination_port=8443),
        seen("b.example.com", destination_port=8443),
        seen("c.example.com", destination_port=443),
    ]
    found = {name: spec["hosts"] for name, spec in specs(advice(*rows)).items()}
    assert found == {"example.com": ["a.example.com", "c.example.com"], "example.com-2": ["b.example.com"]}


def test_a_port_that_one_host_uses_in_two_ways_is_for_most_of_it_and_the_rest_apart():
    rows = [seen(destination_port=8443, requests=100), seen(traffic="http", destination_port=8443)]
    given = advice(*rows)
    assert [port["protocol"] for spec in specs(given).values() for port in spec["ports"]] == ["TLS"]
    assert apart(given) == {plan.PROTOCOL: ["api.example.com"]}


def test_a_tcp_host_has_an_entry_of_its_own_with_the_addresses_that_were_seen():
    rows = [
        seen(
            "db.example.com",
            traffic="opaque",
            destination_port=5432,
            destination_ips=["192.0.2.2", "192.0.2.1"],
        ),
        seen("www.example.com"),
    ]
    given = advice(*rows)
    found = specs(given)["db.example.com-tcp"]
    assert (found["addresses"], found["resolution"]) == (["192.0.2.1", "192.0.2.2"], "DNS")
    assert service_entry_warnings({"spec": found}) == []
    assert specs(given)["example.com"]["hosts"] == ["www.example.com"]


def test_a_tcp_host_without_a_known_address_says_what_that_means():
    given = advice(seen("db.example.com", traffic="opaque", destination_port=5432, destination_ips=[]))
    assert "takes every TCP connection to that port" in render(given)
    [spec] = specs(given).values()
    assert service_entry_warnings({"spec": spec}) == [
        "addresses are required for ports serving TCP (or unset) protocol"
    ]


def test_addresses_are_listed_as_few_networks():
    rows = [seen(f"192.0.2.{n}", traffic="tcp", destination_port=9000) for n in range(4, 8)]
    rows += [seen("2001:db8::1", traffic="tcp", destination_port=9000), seen("10.0.0.1", traffic="http")]
    text = render(advice(*rows))
    assert "# port 9000: 192.0.2.4/30, 2001:db8::1/128" in text
    assert "# port 80: 10.0.0.1/32" in text


def test_blocked_attempts_are_not_advised_unless_asked_for():
    row = seen("paste.example.com", label="blackhole")
    assert apart(advice(row)) == {plan.BLOCKED: ["paste.example.com"]}
    assert list(specs(advice(row, include_blocked=True))) == ["example.com"]


def test_destinations_seen_rarely_or_lately_are_listed_apart():
    rows = [
        seen("rare.example.com", requests=2),
        seen("new.example.com", first_event=UNTIL - timedelta(hours=2)),
        seen("api.example.com"),
    ]
    given = advice(*rows, min_requests=5, min_age=timedelta(days=1))
    assert specs(given)["example.com"]["hosts"] == ["api.example.com"]
    assert apart(given) == {plan.RARE: ["rare.example.com"], plan.NEW: ["new.example.com"]}


def test_requests_of_all_callers_count_together():
    rows = [seen(requests=3, source_namespace=namespace) for namespace in ("shop", "pay")]
    assert apart(advice(*rows, min_requests=5)) == {}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (seen("under_score.example.com"), plan.NO_HOST),
        (seen("printer"), plan.NO_HOST),
        (seen("1.2.3"), plan.NO_HOST),
        (seen("a" * 64 + ".example.com"), plan.NO_HOST),
        (seen("*.example.com"), plan.NO_HOST),
        (seen("x.example.com", destination_port=None), plan.NO_PORT),
        (seen("x.example.com", source_namespace="Shop!"), plan.NAMESPACE),
        (seen("gone.shop.svc.cluster.local", traffic="http"), plan.MESH_NAME),
        (seen("(other)"), plan.CAP),
    ],
)
def test_what_no_entry_can_allow_is_listed_with_the_reason(row, reason: str):
    given = advice(row)
    assert specs(given) == {}
    assert apart(given) == {reason: [row["destination_host"]]}


def test_a_caller_of_no_known_namespace_needs_an_entry_for_all():
    given = advice(seen(source_namespace=None))
    assert specs(given)["example.com"]["exportTo"] == ["*"]
    assert "exported to all namespaces" in render(given)


# --- beside an existing registry ----------------------------------------------------------------------------


def test_what_the_registry_allows_needs_no_entry():
    assert specs(advice(seen(), existing=[entry("net/api", "*.example.com")])) == {}


def test_an_entry_that_lacks_a_port_is_extended_and_keeps_the_rest():
    existing = entry(
        "net/api", "api.example.com", ports="80/HTTP", subject_alt_names=["spiffe://a"], export_to=["*"]
    )
    given = advice(seen(), existing=[existing])
    [spec] = specs(given).values()
    assert [port["number"] for port in spec["ports"]] == [80, 443]
    assert spec["subjectAltNames"] == ["spiffe://a"]
    assert "# Extends the existing ServiceEntry net/api." in render(given)


def test_an_entry_that_is_not_exported_is():
    given = advice(seen(), existing=[entry("net/api", "api.example.com", export_to=["pay"])])
    assert specs(given)["api"]["exportTo"] == ["pay", "shop"]


def test_an_entry_that_says_another_protocol_is_left_alone():
    given = advice(seen(traffic="http", destination_port=443), existing=[entry("net/api", "api.example.com")])
    assert specs(given) == {}
    assert apart(given) == {plan.PROTOCOL: ["api.example.com"]}


def test_an_entry_of_the_domains_name_is_taken_up_if_it_can_hold_more_hosts():
    given = advice(
        seen("b.example.com"),
        existing=[entry("istio-system/example.com", "a.example.com", export_to=["pay"])],
    )
    assert specs(given)["example.com"]["hosts"] == ["a.example.com", "b.example.com"]
    assert specs(given)["example.com"]["exportTo"] == ["pay", "shop"]


@pytest.mark.parametrize(
    "spec",
    [
        {"addresses": ["203.0.113.9"]},
        {"endpoints": [{"address": "192.0.2.1"}], "resolution": "STATIC"},
        {"location": "MESH_INTERNAL"},
        {"workload_selector": {"labels": {"app": "a"}}},
        {"ports": "5432/TCP"},
    ],
)
def test_an_entry_of_the_domains_name_that_is_for_one_host_alone_is_left_alone(spec):
    existing = entry("istio-system/example.com", "a.example.com", **spec)
    assert list(specs(advice(seen("b.example.com"), existing=[existing]))) == ["example.com-2"]


def test_a_diff_says_what_would_change():
    given = advice(
        seen(),
        existing=[entry("net/api", "api.example.com", ports="80/HTTP", export_to=["shop"])],
        sidecars=False,
    )
    assert render_diff(given).splitlines() == [
        "--- a/ServiceEntry/net/api",
        "+++ b/ServiceEntry/net/api",
        "@@ -10,6 +10,9 @@",
        "     - number: 80",
        "       name: p80",
        "       protocol: HTTP",
        "+    - number: 443",
        "+      name: tls-443",
        "+      protocol: TLS",
        "   resolution: DNS",
        "   exportTo:",
        "     - shop",
    ]


def test_without_a_change_there_is_no_diff():
    assert render_diff(advice(seen(), existing=[entry("net/api", "api.example.com")], sidecars=False)) == ""


# --- scopes -------------------------------------------------------------------------------------------------


def test_a_namespace_gets_a_scope_of_what_it_was_seen_to_use():
    rows = [
        seen("api.example.com"),
        seen("web.front.svc.cluster.local", traffic="opaque", destination_port=80),
        seen("own.shop.svc.cluster.local", traffic="opaque", destination_port=80),
    ]
    existing = [service("front/web", "80/tcp"), service("shop/own", "80/tcp"), service("other/x", "80/tcp")]
    assert scopes(advice(*rows, existing=existing)) == {
        "shop/default": [
            "./*",
            "front/web.front.svc.cluster.local",
            "istio-system/*.svc.cluster.local",
            "istio-system/api.example.com",
        ]
    }


def test_a_service_that_only_the_mesh_named_is_kept_in_scope():
    given = advice(seen("web.front.svc.cluster.local", traffic="opaque", destination_port=80))
    assert "front/web.front.svc.cluster.local" in scopes(given)["shop/default"]
    assert specs(given) == {}


def test_an_existing_scope_is_extended_and_keeps_the_rest():
    existing = [
        entry("net/api", "api.example.com"),
        sidecar("shop/own", "./*", ingress=[{"port": {"number": 1}}]),
    ]
    given = advice(seen(), existing=existing)
    assert scopes(given) == {"shop/own": ["./*", "net/api.example.com"]}
    assert (given.sidecars[0].object.spec.model_extra or {})["ingress"] == [{"port": {"number": 1}}]


def test_an_existing_scope_that_lacks_nothing_is_left_alone():
    existing = [entry("net/api", "api.example.com"), sidecar("shop/own", "net/*")]
    assert scopes(advice(seen(), existing=existing)) == {}


def test_scopes_are_not_advised_where_they_are_not_wanted():
    assert scopes(advice(seen(), sidecars=False)) == {}


def test_the_root_namespace_gets_none_for_it_would_be_every_namespaces():
    assert scopes(advice(seen(source_namespace="istio-system"))) == {}


def test_new_scopes_may_block_the_rest():
    given = advice(seen(), registry_only=True)
    assert given.sidecars[0].object.spec.outbound_traffic_policy.mode == "REGISTRY_ONLY"


# --- unused -------------------------------------------------------------------------------------------------


def unused(*rows, existing, **options) -> list[str] | None:
    found = advice(*rows, existing=existing, **options).unused
    return None if found is None else [one.entry.title for one in found]


OLD = entry("net/old", "old.example.org", created="2025-01-01T00:00:00Z")


def test_an_entry_that_nobody_used_is_listed_for_removal():
    assert unused(seen(), existing=[OLD]) == ["net/old"]


def test_an_entry_that_was_used_lately_is_not():
    assert unused(seen("old.example.org"), existing=[OLD]) == []
    assert unused(seen("old.example.org", destination_port=8443), existing=[OLD]) == []


def test_an_entry_that_was_used_long_ago_says_when():
    given = advice(seen(), seen("old.example.org", last_event=SINCE + timedelta(days=1)), existing=[OLD])
    assert "ServiceEntry net/old (old.example.org): last used 2026-01-21 00:00" in render(given)


def test_a_blocked_attempt_is_use():
    assert unused(seen(), seen("old.example.org", label="blackhole"), existing=[OLD]) == []


def test_a_new_entry_is_not_unused():
    assert (
        unused(seen(), existing=[entry("net/new", "new.example.org", created="2026-02-20T00:00:00Z")]) == []
    )


def test_a_short_history_cannot_tell():
    given = advice(seen(first_event=UNTIL - timedelta(days=3)), existing=[OLD])
    assert given.unused is None
    assert "cannot be told: the history is too short" in render(given)


# --- text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trick",
    [
        "x\n---\nkind: Evil",
        "x\r\nkind: Evil",
        "x\x85kind: Evil",
        "x\u2028kind: Evil",
        "x\u2029kind: Evil",
        "x\x1b[2J\x1b]0;owned\x07",
        "x\u202egnp.exe",
        "x\x00y",
    ],
)
def test_no_text_ends_a_comment_or_steers_a_terminal(trick: str):
    rows = [
        seen(trick),
        seen("api.example.com", source_workload=trick),
        seen("b.example.com", source_cluster=trick),
    ]
    text = render(advice(*rows))
    assert {one["kind"] for one in yaml.safe_load_all(text) if one} <= {"ServiceEntry", "Sidecar"}
    assert all(char.isprintable() or char == "\n" for char in text)


@pytest.mark.parametrize(
    "namespace", ["no", "1e3", "0x1f", "007", "1-2-3", "null", "y", "12", "1_000".replace("_", "-")]
)
def test_a_name_that_looks_like_something_else_stays_a_text(namespace: str):
    given = advice(seen(source_namespace=namespace))
    assert specs(given)["example.com"]["exportTo"] == [namespace]
    line = next(one for one in to_yaml(given.entries[0].object).splitlines() if f'- "{namespace}' in one)
    assert line.strip() == f'- "{namespace}"'


@pytest.mark.parametrize(
    ("host", "fits"),
    [
        ("api.example.com", True),
        ("*.example.com", True),
        ("xn--bcher-kva.example", True),
        ("a.b", True),
        ("api", False),
        ("api.example.com.", False),
        ("api..example.com", False),
        ("-a.example.com", False),
        ("a-.example.com", False),
        ("a*.example.com", False),
        ("*.*.example.com", False),
        ("api.example.123", False),
        ("a_b.example.com", False),
        ("API.example.com", False),
        ("x" * 64 + ".com", False),
        (".".join(["x" * 60] * 5), False),
        ("", False),
        ("a.example.com/path", False),
        ("$(reboot).example.com", False),
        ("a b.example.com", False),
    ],
)
def test_hosts_are_those_that_istio_takes(host: str, fits: bool):
    assert is_host(host) == fits


@pytest.mark.parametrize(
    ("hosts", "threshold", "expected"),
    [
        ({"a.x.com", "b.x.com"}, 3, {"a.x.com", "b.x.com"}),
        ({"a.x.com", "b.x.com", "c.x.com"}, 3, {"*.x.com"}),
        ({"a.c.x.com", "b.c.x.com", "d.x.com"}, 2, {"*.c.x.com", "d.x.com"}),
        ({"x.com", "a.x.com", "b.x.com"}, 2, {"x.com", "*.x.com"}),
        ({"a.1.x.com", "b.2.x.com", "c.3.x.com"}, 3, {"*.x.com"}),
        ({"*.c.x.com", "a.c.x.com"}, 5, {"*.c.x.com"}),
        ({"*.c.x.com", "*.x.com"}, 5, {"*.x.com"}),
    ],
)
def test_wildcards_are_as_narrow_as_they_can_be(hosts, threshold: int, expected):
    assert generalise(hosts, "x.com", threshold) == expected


# --- Istio's rules, as restated for the properties ----------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"hosts": []}, "at least one host"),
        ({"hosts": ["*"]}, "invalid host"),
        ({"hosts": ["a_b.example.com"]}, "invalid"),
        ({"hosts": ["a*.example.com"]}, "invalid"),
        ({"hosts": ["api.example.123"]}, "all-numeric"),
        ({"hosts": ["*.example.com"], "resolution": "DNS"}, "must be FQDN"),
        ({"addresses": ["192.0.2.0/24"], "resolution": "DNS"}, "CIDR addresses are allowed only for"),
        ({"addresses": ["here"]}, "is invalid"),
        ({"ports": [{"number": 1, "name": "a"}, {"number": 1, "name": "b"}]}, "number already defined"),
        ({"ports": [{"number": 1, "name": "a"}, {"number": 2, "name": "a"}]}, "name already defined"),
        ({"ports": [{"number": 1, "name": "a", "protocol": "FTP"}]}, "unsupported protocol"),
        ({"ports": [{"number": 70000, "name": "a"}]}, "range"),
        ({"ports": [{"number": 1, "name": "A_b"}]}, "invalid port name"),
        (
            {"hosts": ["a.b", "c.d"], "resolution": "DNS", "ports": [{"number": 1, "name": "a"}]},
            "multiple hosts",
        ),
        ({"endpoints": [{"address": "192.0.2.1"}]}, "no endpoints"),
        ({"resolution": "DNS", "endpoints": [{"address": "a_b"}]}, "not a valid FQDN or IP address"),
        ({"resolution": "STATIC", "endpoints": [{"address": "a.example.com"}]}, "not a valid IP address"),
        ({"workloadSelector": {"labels": {"app": "*"}}}, "wildcard is not supported"),
        ({"exportTo": ["*", "shop"]}, "non-public visibility"),
        ({"exportTo": [".", "net"]}, "duplicate"),
        ({"exportTo": ["Shop!"]}, "invalid"),
    ],
)
def test_istios_rules_refuse_what_istio_refuses(spec, why: str):
    document = {"metadata": {"name": "a", "namespace": "net"}, "spec": {"hosts": ["a.example.com"], **spec}}
    assert any(why in one for one in istio_rules.service_entry(document))


@pytest.mark.parametrize(
    "spec",
    [
        {"egress": []},
        {"egress": [{"hosts": []}]},
        {"egress": [{"hosts": ["example.com"]}]},
        {"egress": [{"hosts": ["net/short"]}]},
        {"egress": [{"hosts": ["N!/*"]}]},
        {"egress": [{"hosts": ["*/*"]}, {"hosts": ["*/*"], "port": {"number": 1}}]},
        {"egress": [{"hosts": ["*/*"], "port": {"number": 1}}] * 2},
        {"egress": [{"hosts": ["*/*"], "port": {"number": 0}}]},
        {"egress": [{"hosts": ["*/*"], "port": {"number": 1, "protocol": "FTP"}}]},
        {"egress": [{"hosts": ["*/*"]}], "workloadSelector": {"labels": {"app": "a*"}}},
        {"egress": [{"hosts": ["*/*"]}], "outboundTrafficPolicy": {"mode": "SOME"}},
    ],
)
def test_istios_rules_refuse_sidecars_that_istio_refuses(spec):
    assert istio_rules.sidecar({"metadata": {"name": "a", "namespace": "net"}, "spec": spec})
