"""What advice promises of any history: valid objects, and nothing blocked but what it lists apart."""

from datetime import timedelta

import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egresslens.advise import Options, advise, render
from egresslens.advise.plan import ADDRESS
from egresslens.registry.files import read_object
from egresslens.registry.value import Registries, Registry
from egresslens.whatif import whatif
from istio_rules import service_entry, sidecar
from registries import entry, pod, registry, service
from registries import sidecar as sidecar_object
from traffic import SINCE, UNTIL, seen, traffic

HOSTS = [
    *(f"{name}.example.com" for name in "abcde"),
    *(f"h{number}.cdn.example.com" for number in range(6)),
    "example.com",
    "a.b.c.example.co.uk",
    "one.s3.amazonaws.com",
    "someone.github.io",
    "github.io",
    "com",
    "db.corp",
    "printer",
    "under_score.example.com",
    "web.shop.svc.cluster.local",
    "gone.shop.svc.cluster.local",
    "192.0.2.7",
    "2001:db8::1",
    "*.wild.example.net",
    "evil\n  hosts: ['*']",
    "\u202eevil.example.com",
    "(other)",
    None,
]
NAMESPACES = ["shop", "pay", "istio-system", None, "Not A Name"]
WORKLOADS = ["cart", "web", None]
LABELS = ["passthrough", "passthrough", "outbound", "blackhole"]

ADDRESSES = ["192.0.2.7", "2001:db8::1"]


@st.composite
def rows(draw: st.DrawFn):
    """A row as `observed` makes them: names from HTTP, TLS or the registry, addresses from the rest."""
    kind = draw(st.sampled_from(["http", "tls", "tcp", "opaque"]))
    return seen(
        draw(st.sampled_from(ADDRESSES if kind == "tcp" else HOSTS)),
        traffic=kind,
        source_namespace=draw(st.sampled_from(NAMESPACES)),
        source_workload=draw(st.sampled_from(WORKLOADS)),
        label="outbound" if kind == "opaque" else draw(st.sampled_from(LABELS)),
        destination_port=draw(st.sampled_from([80, 443, 5432, 8443, None])),
        protocol=draw(st.sampled_from(["HTTP/1.1", "HTTP/2"])) if kind == "http" else None,
        requests=draw(st.integers(1, 1000)),
        first_event=SINCE + timedelta(days=draw(st.integers(0, 39))),
    )


objects = st.lists(
    st.sampled_from(
        [
            entry("net/a", "a.example.com"),
            entry("net/b", "b.example.com", ports="80/HTTP", export_to=["net"]),
            entry("shop/c", "c.example.com", "d.example.com", ports="443/TLS 8443/HTTP", export_to=["."]),
            entry("net/wild", "*.cdn.example.com", ports="443/TLS"),
            entry("istio-system/example.com", "e.example.com", ports="443/HTTP"),
            entry("istio-system/example.co.uk", "x.example.co.uk", ports="80/HTTP", addresses=["192.0.2.9"]),
            entry("net/db", "db.corp", ports="5432/TCP", made_up=["240.240.0.9"]),
            service("shop/web", "80/http", ip="10.96.0.1"),
            sidecar_object("shop/default", "net/*"),
            sidecar_object("pay/cart", "./*", selector={"app": "cart"}),
            sidecar_object("istio-system/default", "./*"),
            sidecar_object(
                "pay/ported", egress=[{"port": {"number": 443}, "hosts": ["./*"]}, {"hosts": ["net/*"]}]
            ),
            pod("pay/cart-1", "10.0.0.1", app="cart"),
            pod("shop/web-1", "10.0.0.2", app="web"),
        ]
    ),
    max_size=8,
    unique_by=lambda one: (one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]),
)
options = st.builds(
    Options,
    min_requests=st.sampled_from([1, 1, 5]),
    min_age=st.sampled_from([timedelta(0), timedelta(days=3)]),
    wildcard_hosts=st.integers(1, 6),
    include_blocked=st.booleans(),
    sidecars=st.booleans(),
    registry_only=st.booleans(),
)
histories = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@histories
@given(st.lists(rows(), min_size=1, max_size=25), objects, options)
def test_what_was_let_out_is_blocked_only_if_it_is_listed_apart(history, existing, chosen: Options):
    observed = traffic(*history)
    before = registry(*existing)
    advice = advise(observed, before, chosen, UNTIL)
    applied = [
        one for document in yaml.safe_load_all(render(advice)) if document for one in read_object(document)
    ]
    found = whatif(observed, Registries([before.over(applied)]))
    apart = [row for one in advice.apart for row in one.rows]
    blocked = found.filter(pl.col("verdict") == "blocked").drop("verdict", "service_entry", "reason")
    assert [row for row in blocked.iter_rows(named=True) if row not in apart] == []


@histories
@given(st.lists(rows(), min_size=1, max_size=25), objects, options)
def test_what_is_advised_is_valid_for_istio(history, existing, chosen: Options):
    advice = advise(traffic(*history), registry(*existing), chosen, UNTIL)
    for document in yaml.safe_load_all(render(advice)):
        if document:
            check = {"ServiceEntry": service_entry, "Sidecar": sidecar}[document["kind"]]
            assert check(document) == []


@histories
@given(st.lists(rows(), min_size=1, max_size=25), objects, options)
def test_advice_that_was_applied_is_not_given_again(history, existing, chosen: Options):
    observed = traffic(*history)
    before = registry(*existing)
    advice = advise(observed, before, chosen, UNTIL)
    after = before.over(advised.object for advised in (*advice.entries, *advice.sidecars))
    again = advise(observed, after, chosen, UNTIL)
    assert [one.object for one in (*again.entries, *again.sidecars)] == []


@histories
@given(st.lists(rows(), min_size=1, max_size=25), objects, st.randoms())
def test_advice_does_not_depend_on_the_order_of_rows(history, existing, random):
    shuffled = list(history)
    random.shuffle(shuffled)
    first, second = (
        advise(traffic(*one), registry(*existing), Options(), UNTIL) for one in (history, shuffled)
    )
    assert render(first) == render(second)


@histories
@given(st.lists(rows(), min_size=1, max_size=25))
def test_addresses_never_become_hosts(history):
    advice = advise(traffic(*history), Registry(), Options(include_blocked=True), UNTIL)
    hosts = {host for one in advice.entries for host in one.object.spec.hosts}
    assert not hosts & set(ADDRESSES)
    listed = {one.host for apart in advice.apart if apart.reason == ADDRESS for one in apart.evidence}
    assert listed <= set(ADDRESSES)


@pytest.mark.parametrize("host", [host for host in HOSTS if host and not host.isprintable()])
def test_a_host_with_tricks_in_it_is_only_ever_a_comment(host: str):
    text = render(advise(traffic(seen(host)), Registry(), Options(), UNTIL))
    assert [one for one in yaml.safe_load_all(text) if one and one["kind"] == "ServiceEntry"] == []
    assert all(line.startswith(("#", "---")) or line == "" for line in text.splitlines())
