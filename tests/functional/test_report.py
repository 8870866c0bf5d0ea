"""The reports on known rows in a real engine, and the views beside them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import clickhouse_rows
from clickhouse_rows import HOUR, NOW, Database, database, event, events, migrated, minute, progress, windows
from egresslens.judge import Judges
from egresslens.judge.residency import residency
from egresslens.registry import store
from egresslens.registry.refresh import refresh
from egresslens.registry.value import Registry
from egresslens.report import REPORTS, Selection, ask, period
from egresslens.report.ask import query_frame
from registries import context, entry, pod, registry

__all__ = ["database", "migrated"]

pytestmark = pytest.mark.functional


def window(**given: Any) -> dict[str, Any]:
    """A window row of a destination on the internet."""
    return clickhouse_rows.window(**{"destination_ips": ["203.0.113.9"], **given})


def see(database: Database, *rows: dict[str, Any]) -> None:
    database.insert("raw_windows_1m", windows(*({**row, "last_offset": at} for at, row in enumerate(rows))))
    database.insert("raw_progress", progress(len(rows)))


def judge(database: Database, given: Registry | None = None) -> None:
    if given is not None:
        store.load(database.writer, database.settings, given, NOW)
    stored = store.read(database.reader, database.settings)
    refresh(database.writer, database.settings, stored, Judges(stored), NOW, everything=True)


def rows(database: Database, report: str, **selected: str) -> list[dict[str, Any]]:
    when = period(database.settings, HOUR, HOUR + timedelta(hours=2), NOW, exact=True)
    return ask(database.reader, database.settings, report, when, Selection(**selected)).rows.to_dicts()


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_on_nothing_has_no_rows(database: Database, report: str):
    assert rows(database, report) == []


@pytest.mark.parametrize("report", REPORTS)
def test_every_report_is_a_view_with_the_same_columns(database: Database, report: str):
    when = period(database.settings, HOUR, HOUR + timedelta(hours=2), NOW, exact=True)
    columns = ask(database.reader, database.settings, report, when, Selection()).rows.columns
    view = query_frame(database.reader, f"SELECT * FROM {database.settings.database}.report_{report}")
    assert "source_namespace" in columns
    assert [name for name in view.columns if name != "window_start"] == columns


def test_external_says_who_calls_what_how_often_and_how_well(database: Database):
    see(
        database,
        window(destination_host="api.example.com", label="passthrough", requests=8),
        window(
            destination_host="api.example.com",
            label="passthrough",
            requests=2,
            response_code=503,
            window_start=minute(5),
        ),
    )
    judge(database, registry(entry("net/api", "api.example.com")))
    [row] = rows(database, "external")
    names = ("source_workload", "destination_host", "destination_port", "label")
    assert [row[name] for name in names] == ["idgen", "api.example.com", 443, "passthrough"]
    assert (row["requests"], row["errors"], row["bytes_sent"], row["bytes_received"]) == (10, 2, 1000, 100)
    assert row["service_entry"] == "net/api"
    assert (row["first_seen"], row["last_seen"]) == (HOUR, minute(5) + timedelta(seconds=2))


def test_latencies_come_from_the_buckets(database: Database):
    # 90 requests of up to 10 ms, 10 of up to 500 ms: the bounds are 0.5, 1, 5, 10, 25, 50, 100, 250, 500, ...
    buckets = [0, 0, 0, 90, 0, 0, 0, 0, 10, *[0] * 11]
    see(database, window(requests=100, duration_buckets=buckets, duration_ms_max=500))
    [row] = rows(database, "external")
    assert row["p50_ms"] == pytest.approx(5 + 5 * 50 / 90, abs=0.1)
    assert row["p95_ms"] == pytest.approx(250 + 250 * 5 / 10)


def test_a_latency_is_never_above_the_slowest(database: Database):
    see(database, window(requests=1, duration_buckets=[*[0] * 19, 1], duration_ms_max=7_200_000))
    [row] = rows(database, "external")
    assert row["p95_ms"] <= 7_200_000


def test_a_call_logged_by_sidecar_gateway_and_waypoint_counts_once(database: Database):
    see(database, window(), window(hop="gateway", source_workload="egress"), window(hop="waypoint"))
    assert [(row["source_workload"], row["requests"]) for row in rows(database, "external")] == [("idgen", 1)]


def test_a_call_logged_by_a_waypoint_alone_counts(database: Database):
    see(database, window(hop="waypoint"))
    assert [row["requests"] for row in rows(database, "external")] == [1]


def test_calls_inside_the_mesh_and_blocked_attempts_are_not_external(database: Database):
    see(
        database,
        window(destination_host="web.shop.svc.cluster.local"),
        window(destination_host="10.0.0.9", destination_host_source="address", destination_ips=[]),
        window(label="blackhole", destination_host="evil.example"),
        window(destination_host="good.example"),
    )
    judge(database)
    assert [row["destination_host"] for row in rows(database, "external")] == ["good.example"]


def test_the_workload_behind_an_address_is_named(database: Database):
    see(
        database,
        window(source_cluster=None, source_namespace=None, source_workload=None, source_ip="10.0.0.1"),
    )
    judge(database, registry(pod("shop/web-1", "10.0.0.1", app="web")))
    [row] = rows(database, "external")
    assert (row["source_namespace"], row["source_workload"], row["source_ip"]) == ("shop", "web", None)


def test_databases_say_what_was_written_and_which_rule_matched(database: Database):
    see(
        database,
        window(destination_host="db.abc.eu-west-1.rds.amazonaws.com", destination_port=5432, requests=3),
        window(destination_host="api.example.com"),
    )
    judge(database)
    [row] = rows(database, "databases")
    assert (row["destination_kind"], row["bytes_written"], row["bytes_read"]) == ("postgres", 30, 300)
    assert row["destination_kind_reason"] == "managed database, host *.rds.amazonaws.com"


def test_regions_say_in_out_and_unknown(database: Database):
    see(
        database,
        window(destination_host="s3.eu-west-1.amazonaws.com"),
        window(destination_host="s3.us-east-1.amazonaws.com"),
        window(destination_host="somewhere.example"),
    )
    judge(database, registry(context(homes=[{"namespace": "web", "regions": ["eu-west-1"]}])))
    found = {row["destination_host"]: row for row in rows(database, "regions")}
    assert {host: row["place"] for host, row in found.items()} == {
        "s3.eu-west-1.amazonaws.com": "in region",
        "s3.us-east-1.amazonaws.com": "out of region",
        "somewhere.example": "unknown",
    }
    assert found["s3.us-east-1.amazonaws.com"]["home_regions"] == ["eu-west-1"]
    assert "home: declared" in found["s3.us-east-1.amazonaws.com"]["reason"]


POLICIES = context(
    residency=[
        {"name": "strict", "namespaces": ["pay"], "regions": ["eu-*"], "unknown": "violation"},
        {
            "name": "europe_%",
            "namespaces": ["shop", "web-*"],
            "regions": ["EU-*", "eu_west", "%"],
            "hosts": ["*.com", "*.cdn.example", "b.cdn.example"],
        },
        {"name": "late", "clusters": ["test"], "namespaces": ["*"], "regions": ["us-east-1"]},
    ],
    hosts=[
        {"host": host, "region": region}
        for host, region in {
            "eu.example": "eu-west-1", "us.example": "us-east-1", "a.cdn.example": "us-east-1",
            "b.cdn.example": "us-east-1", "any.com": "us-east-1", "under.example": "eu_west",
            "dash.example": "euXwest",
        }.items()
    ],
)  # fmt: skip


def test_residency_is_what_the_policies_say_of_every_destination(database: Database):
    hosts = [*(one["host"] for one in POLICIES["spec"]["hosts"]), "unknown.example"]
    who = [("prod", "pay"), ("prod", "shop"), ("prod", "web-1"), ("prod", "x"), ("test", "x"), (None, None)]
    seen = [
        window(source_cluster=cluster, source_namespace=namespace, destination_host=host)
        for cluster, namespace in who
        for host in hosts
    ]
    see(database, *seen)
    declared = registry(POLICIES)
    judge(database, declared)
    found = rows(database, "regions")
    assert len(found) == len(seen)
    assert {row["residency"] for row in found} == {None, "allowed", "violation", "unknown"}
    for row in found:
        said = (row["residency_policy"], row["residency"], row["residency_reason"])
        asked = (row["source_cluster"], row["source_namespace"], row["destination_host"])
        assert said == residency(declared, *asked, row["destination_region"]), asked
    view = database.view("report_regions", "source_cluster, source_namespace, destination_host")
    assert sorted(str(row["residency"]) for row in view) == sorted(str(row["residency"]) for row in found)


def test_a_policy_that_is_gone_says_nothing_any_more(database: Database):
    see(database, window(source_namespace="pay"))
    judge(database, registry(POLICIES))
    assert [row["residency"] for row in rows(database, "regions")] == ["violation"]
    judge(database, registry())
    assert [row["residency"] for row in rows(database, "regions")] == [None]


def test_blocked_says_who_tried_what_and_what_proved_it(database: Database):
    attempt = {
        "label": "blackhole", "destination_host": "evil.example", "destination_port": 443,
        "source_cluster": "prod", "source_namespace": "web", "hop": "sidecar",
    }  # fmt: skip
    see(database, window(**{**attempt, "requests": 4}))
    database.insert(
        "raw_events",
        events(
            event(0, **attempt, label_evidence="cluster", upstream_cluster="BlackHoleCluster"),
            event(1, **attempt, label_evidence="route", route_name="block_all"),
        ),
    )
    [row] = rows(database, "blocked")
    assert (row["source_workload"], row["destination_host"], row["attempts"]) == ("idgen", "evil.example", 4)
    assert row["proved_by"] == ["cluster BlackHoleCluster", "route block_all"]


def test_new_is_what_was_first_seen_in_the_range(database: Database):
    see(
        database,
        window(destination_host="old.example", window_start=HOUR - timedelta(days=2)),
        window(destination_host="old.example"),
        window(destination_host="new.example"),
        window(destination_host="old.example", source_workload="other"),
        window(destination_host="gateway.example", source_workload="gateway", hop="gateway"),
    )
    found = {
        (row["source_workload"], row["destination_host"]): row["new_to"] for row in rows(database, "new")
    }
    assert found == {("idgen", "new.example"): "mesh", ("other", "old.example"): "workload"}


@pytest.mark.parametrize(
    ("seen", "mode"),
    [
        ({"passthrough": 1}, "ALLOW_ANY"),
        ({"blackhole": 1}, "REGISTRY_ONLY"),
        ({"outbound": 1}, "unknown"),
        ({"passthrough": 1, "blackhole": 9}, "REGISTRY_ONLY"),
        ({"passthrough": 9, "blackhole": 1}, "ALLOW_ANY"),
    ],
)
def test_modes_follow_from_what_was_let_out_and_turned_away(
    database: Database, seen: dict[str, int], mode: str
):
    see(database, *(window(label=label, window_start=minute(at)) for label, at in seen.items()))
    [row] = rows(database, "modes")
    assert (row["source_namespace"], row["mode"]) == ("web", mode)


def test_modes_at_once_are_both(database: Database):
    see(
        database,
        window(label="passthrough"),
        window(label="blackhole"),
        window(label="passthrough", window_start=minute(9)),
    )
    assert [row["mode"] for row in rows(database, "modes")] == ["both"]


def test_coverage_says_what_sends_no_logs_and_what_its_records_lack(database: Database):
    judge(
        database,
        registry(
            pod("shop/quiet-1", "10.0.0.1", app="quiet", started="2020-01-01T00:00:00Z"),
            pod("shop/idgen-1", "10.0.0.2", app="idgen", started="2020-01-01T00:00:00Z"),
        ),
    )
    seen = {"source_namespace": "shop", "hop": "sidecar", "format": "json", "protocol": "HTTP/1.1"}
    full = {
        "upstream_cluster": "outbound|443||httpbin.org", "start_time": HOUR, "duration_ms": 5,
        "bytes_received": 1, "bytes_sent": 1, "response_code": 200, "authority": "httpbin.org",
    }  # fmt: skip
    database.insert("raw_events", events(*(event(at, **seen, **full) for at in range(3))))
    found = {row["source_workload"]: row["findings"] for row in rows(database, "coverage")}
    assert found == {
        "quiet": ["no records: it sends no logs, or it calls nothing"],
        "idgen": ["no request_id in its records"],
    }


def test_coverage_recognises_filtered_and_sampled_logs(database: Database):
    seen = {"hop": "sidecar", "format": "json", "duration_ms": 500, "response_code": 503}
    some = [event(at, **seen, request_id=f"{at % 10 + 100 * at:08x}-0000") for at in range(300)]
    database.insert("raw_events", events(*some))
    [row] = rows(database, "coverage")
    assert "only failures are logged: a filter by status?" in row["findings"]
    assert "nothing faster than 500 ms is logged: a filter by duration?" in row["findings"]
    assert "looks sampled: about 10 % of its requests" in row["findings"]


def test_a_report_is_narrowed_by_namespace_workload_and_host(database: Database):
    see(
        database,
        window(),
        window(source_namespace="shop"),
        window(source_workload="cart"),
        window(destination_host="api.example.com"),
    )
    assert sum(row["requests"] for row in rows(database, "external")) == 4
    assert [row["source_namespace"] for row in rows(database, "external", namespace="shop")] == ["shop"]
    assert [row["source_workload"] for row in rows(database, "external", workload="cart")] == ["cart"]
    assert [row["destination_host"] for row in rows(database, "external", host="*.example.com")] == [
        "api.example.com"
    ]


@pytest.mark.parametrize("report", REPORTS)
def test_every_report_can_be_narrowed_by_everything(database: Database, report: str):
    assert rows(database, report, namespace="x", workload="x", host="x", cluster="x") == []


@pytest.mark.parametrize("host", ["x' OR 1 = 1 --", "%", "_", "\\", "') UNION ALL SELECT 1 --"])
def test_a_hostile_selection_is_a_value_and_no_sql(database: Database, host: str):
    see(database, window())
    assert rows(database, "external", host=host) == []


def test_the_views_answer_per_hour(database: Database):
    see(database, window(requests=2), window(requests=3, window_start=minute(60)))
    found = database.view("report_external", "window_start")
    assert [(row["window_start"].hour, row["requests"]) for row in found] == [(9, 2), (10, 3)]


@pytest.mark.parametrize("cluster", ["prod", None])
def test_what_is_not_judged_yet_is_counted(database: Database, cluster: str | None):
    see(database, window(source_cluster=cluster))
    when = period(database.settings, HOUR, HOUR + timedelta(hours=2), NOW, exact=True)
    assert ask(database.reader, database.settings, "external", when, Selection()).not_judged == 1
    judge(database)
    assert ask(database.reader, database.settings, "external", when, Selection()).not_judged == 0


@pytest.mark.parametrize("hours", [2, 48, 24 * 20])
def test_every_tier_gives_the_same_answer(database: Database, hours: int):
    see(database, *(window(window_start=minute(one), requests=1) for one in range(90)))
    database.roll_up()
    since = HOUR - timedelta(hours=hours - 2)
    when = period(database.settings, since, HOUR + timedelta(hours=2), NOW, exact=False)
    answer = ask(database.reader, database.settings, "external", when, Selection())
    assert answer.rows["requests"].to_list() == [90]
