"""How edges are put together: groups, registrable domains, and what is beyond the limit."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egresslens.console.answers.graph import (
    EDGES,
    GraphParams,
    domain_of,
    fair,
    grouped_edges,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
SUMS = ("requests", "errors", "mismatches", "bytes_sent", "bytes_received")


def edge(host: str = "api.example.com", workload: str = "cart", **given: Any) -> dict[str, Any]:
    return {
        "source_cluster": None, "source_namespace": "shop", "source_workload": workload, "source_ip": None,
        "label": "passthrough", "destination_host": host, "destination_port": 443,
        "destination_scope": "external", "destination_kind": None, "destination_region": "eu-west-1",
        "service_entry": None, "is_not_judged": False, "requests": 1, "errors": 0, "mismatches": 0,
        "bytes_sent": 10, "bytes_received": 5, "first_seen": NOW, "last_seen": NOW,
        "seen_first": False, **given,
    }  # fmt: skip


def edges(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=EDGES)


def by_domain(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    return grouped_edges(edges(*rows), "workload", "domain").to_dicts()


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("api.shop.example.co.uk", "example.co.uk"),
        ("API.Example.com.", "example.com"),
        ("bucket.s3.amazonaws.com", "bucket.s3.amazonaws.com"),
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("localhost", "localhost"),
        ("(other)", "(other)"),
        (None, None),
    ],
)
def test_hosts_have_a_registrable_domain_and_addresses_are_their_own(host: str | None, domain: str | None):
    assert domain_of(host) == domain


@pytest.mark.parametrize(
    ("sources", "destinations", "groups"),
    [
        (60, 120, ("workload", "host")),
        (61, 120, ("namespace", "host")),
        (60, 121, ("workload", "domain")),
    ],
)
def test_a_graph_of_many_is_grouped_if_that_is_left_to_it(
    sources: int, destinations: int, groups: tuple[str, str]
):
    params = GraphParams(group_source="auto", group_destination="auto")
    assert params.groups(sources, destinations) == groups


def test_a_graph_is_grouped_as_asked_for_whatever_its_size():
    assert GraphParams().groups(1_000, 1_000) == ("workload", "host")


def test_hosts_of_one_owner_become_one_edge():
    [row] = by_domain(
        edge("a.example.com"), edge("b.example.com", requests=2), edge("b.example.com", destination_port=80)
    )
    assert (row["destination_domain"], row["destination_host"], row["destination_port"]) == (
        "example.com",
        None,
        None,
    )
    assert (row["requests"], row["destinations"], row["sources"]) == (4, 3, 1)


def test_labels_are_never_put_together():
    rows = by_domain(edge(label="outbound"), edge(label="blackhole"))
    assert {row["label"] for row in rows} == {"outbound", "blackhole"}


def test_where_judgements_differ_there_is_none():
    [row] = by_domain(edge("a.example.com"), edge("b.example.com", destination_region="us-east-1"))
    assert (row["destination_scope"], row["destination_region"]) == ("external", None)


def test_by_namespace_workloads_are_counted():
    rows = edges(edge(workload="cart"), edge(workload="pay"), edge(workload="pay", destination_port=80))
    found = grouped_edges(rows, "namespace", "host").sort("destination_port").to_dicts()
    assert [(row["source_workload"], row["sources"]) for row in found] == [(None, 1), (None, 2)]


def test_without_groups_every_edge_stays():
    rows = edges(edge(), edge("b.example.com"))
    assert grouped_edges(rows, "workload", "host").select(*EDGES).equals(rows)


@pytest.mark.parametrize(("seen_first", "is_new"), [((True, True), True), ((True, False), False)])
def test_a_domain_was_seen_first_if_all_of_its_hosts_were(seen_first: tuple[bool, ...], is_new: bool):
    [row] = by_domain(*(edge(f"{one}.example.com", seen_first=first) for one, first in enumerate(seen_first)))
    assert row["seen_first"] is is_new


def test_a_flood_of_one_label_does_not_push_out_another():
    flood = [edge(f"x{number}.example.com", requests=100) for number in range(50)]
    blocked = edge("evil.example", label="blackhole", requests=1)
    kept, rest = fair(grouped_edges(edges(*flood, blocked), "workload", "host"), 10, "requests")
    assert "evil.example" in kept["destination_host"].to_list()
    assert kept.height == 10
    assert rest.to_dicts()[0]["edges"] == 41


def test_the_heaviest_are_kept_by_what_is_measured():
    rows = grouped_edges(
        edges(edge("much.example", requests=9), edge("large.example", bytes_sent=10_000)), "workload", "host"
    )
    assert fair(rows, 1, "requests")[0]["destination_host"].to_list() == ["much.example"]
    assert fair(rows, 1, "bytes")[0]["destination_host"].to_list() == ["large.example"]


def test_the_rest_has_no_source_and_counts_what_is_in_it():
    rows = grouped_edges(
        edges(edge(requests=9), edge("b.example"), edge("c.example", "pay")), "workload", "host"
    )
    [row] = fair(rows, 1, "requests")[1].to_dicts()
    assert (row["source_namespace"], row["source_workload"], row["destination_host"]) == (
        None,
        None,
        "(other)",
    )
    assert (row["requests"], row["sources"], row["destinations"], row["edges"]) == (2, 2, 2, 2)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            edge,
            st.sampled_from(["a.example.com", "b.example.com", "a.example.org", "203.0.113.9", "(other)"]),
            st.sampled_from(["cart", "pay"]),
            label=st.sampled_from(["outbound", "passthrough", "blackhole"]),
            requests=st.integers(0, 1_000),
            bytes_sent=st.integers(0, 1_000),
        ),
        max_size=30,
    ),
    st.integers(1, 10),
    st.sampled_from(["requests", "bytes"]),
    st.sampled_from(["workload", "namespace"]),
    st.sampled_from(["host", "domain"]),
)
def test_whatever_is_grouped_and_left_off_nothing_is_lost(rows, limit, measure, source, destination):
    frame = edges(*rows)
    kept, rest = fair(grouped_edges(frame, source, destination), limit, measure)
    assert kept.height <= limit
    for name in SUMS:
        assert kept[name].sum() + rest[name].sum() == frame[name].sum()
