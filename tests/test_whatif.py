"""What a registry would have blocked."""

import polars as pl
import pytest

from egresslens.observed import OBSERVED
from egresslens.registry.value import Registries
from egresslens.whatif import NAMED_BY_THE_MESH, RESULT, whatif
from registries import entry, mesh, pod, registry, service, sidecar
from traffic import seen, traffic


def verdict(row, *existing, policy="registry-only", cluster="") -> tuple[str, str | None, str]:
    [found] = whatif(traffic(row), Registries([registry(*existing, cluster=cluster)]), policy).to_dicts()
    return found["verdict"], found["service_entry"], found["reason"]


def test_what_an_entry_covers_is_allowed():
    assert verdict(seen(), entry("net/api", "api.example.com")) == (
        "allowed",
        "net/api",
        "host api.example.com",
    )


def test_what_nothing_covers_is_blocked_with_the_reason():
    assert verdict(seen()) == ("blocked", None, "no entry for the host")
    assert (
        verdict(seen(), entry("net/api", "api.example.com", ports="80/HTTP"))[2] == "net/api has no port 443"
    )


@pytest.mark.parametrize("label", ["passthrough", "outbound"])
def test_what_was_let_out_counts_whatever_let_it_out(label: str):
    assert verdict(seen(label=label))[0] == "blocked"


def test_attempts_that_were_blocked_are_told_from_what_was_let_out():
    attempt = seen(label="blackhole")
    assert verdict(attempt)[0] == "still blocked"
    assert verdict(attempt, entry("net/api", "api.example.com"))[0] == "no longer blocked"


@pytest.mark.parametrize("row", [seen("(other)"), seen(None), seen(label="unknown")])
def test_what_the_records_do_not_say_is_not_judged(row):
    assert verdict(row, entry("net/api", "api.example.com"))[0] == "not judged"


def test_a_service_is_allowed():
    row = seen("web.shop.svc.cluster.local", traffic="opaque", destination_port=80)
    assert verdict(row, service("shop/web", "80/tcp"))[0] == "allowed"
    assert verdict(row, service("shop/other", "80/tcp"))[0] == "blocked"


def test_without_services_the_meshs_own_name_is_proof_enough():
    row = seen("web.shop.svc.cluster.local", traffic="opaque", destination_port=80)
    assert verdict(row) == ("allowed", None, NAMED_BY_THE_MESH)
    assert verdict({**row, "destination_host_source": "authority"})[0] == "blocked"


def test_each_caller_is_judged_by_its_own_scope():
    existing = [
        entry("net/api", "api.example.com"),
        sidecar("shop/cart", "./*", selector={"app": "cart"}),
        pod("shop/cart-1", "10.0.0.1", app="cart"),
        pod("shop/web-1", "10.0.0.2", app="web"),
    ]
    assert verdict(seen(), *existing)[0] == "blocked"
    assert verdict(seen(source_workload="web"), *existing)[0] == "allowed"


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        ([], "allowed"),
        ([mesh(outbound_traffic_policy={"mode": "REGISTRY_ONLY"})], "blocked"),
        (
            [
                mesh(outbound_traffic_policy={"mode": "REGISTRY_ONLY"}),
                sidecar("shop/a", "*/*", outbound_traffic_policy={"mode": "ALLOW_ANY"}),
            ],
            "allowed",
        ),
        ([sidecar("shop/a", "*/*", outbound_traffic_policy={"mode": "REGISTRY_ONLY"})], "blocked"),
        ([sidecar("shop/a", "*/*", outbound_traffic_policy={})], "blocked"),
        ([sidecar("shop/a", "*/*")], "allowed"),
    ],
)
def test_the_declared_policy_is_the_meshs_or_the_sidecars(existing, expected: str):
    assert verdict(seen(), *existing, policy="declared")[0] == expected


def test_clusters_are_judged_by_their_own_registries():
    registries = Registries([registry(entry("net/api", "api.example.com"), cluster="prod"), registry()])
    rows = traffic(seen(), seen(source_cluster="test"))
    found = whatif(rows, registries).sort("source_cluster")
    assert found["verdict"].to_list() == ["allowed", "blocked"]


def test_the_most_requests_come_first():
    rows = traffic(seen("a.example.com", requests=1), seen("b.example.com", requests=5))
    assert whatif(rows, Registries())["requests"].to_list() == [5, 1]


def test_no_traffic_is_no_result():
    empty = whatif(pl.DataFrame(schema=OBSERVED), Registries())
    assert (empty.height, empty.schema) == (0, RESULT)
