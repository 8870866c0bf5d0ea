"""The ClickHouse dashboards on known rows in a real engine, asked as Grafana's plugin asks, as the reader."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from clickhouse_rows import NOW, Database, event, events, migrated, progress, window, windows
from egresslens.alerts import history
from egresslens.alerts.book import Incident, Subject
from egresslens.clickhouse.frames import DEAD_LETTER
from egresslens.grafana import dashboards
from egresslens.judge import Judges
from egresslens.registry import store
from egresslens.registry.refresh import refresh
from egresslens.report.ask import query_frame
from grafana_plugin import Panel, Value, expand, interpolate, queries
from registries import context, pod, registry

__all__ = ["migrated"]

pytestmark = pytest.mark.functional

ALL: dict[str, Value] = {"namespace": "*", "workload": "*", "host": ""}
# Within the last hour, and before today: ranges of minutes and of hours.
RECENT = (NOW - timedelta(minutes=20)).replace(second=0, microsecond=0)
EARLIER = RECENT - timedelta(days=4)
RANGES = {"minutes": (RECENT - timedelta(minutes=30), NOW), "hours": (EARLIER - timedelta(days=1), NOW)}
PANELS = [
    one
    for dashboard in dashboards().values()
    for one in queries(dashboard)
    if "clickhouse" in str(one.target.get("datasource", dashboard["panels"][0]["datasource"]))
]


@pytest.fixture(scope="module")
def filled(migrated: Database) -> Database:
    """Calls of two workloads, twice: lately and days ago; some blocked, some to a database."""
    rows = []
    for start in (EARLIER, RECENT):
        calls = [
            {"destination_host": "api.example.com", "label": "passthrough", "requests": 8},
            {"destination_host": "evil.example", "label": "blackhole", "requests": 2, "response_code": 502},
            {
                "destination_host": "db.abc.us-east-1.rds.amazonaws.com",
                "destination_port": 5432,
                "requests": 3,
            },
            {"destination_host": "httpbin.org", "source_namespace": "shop", "source_workload": "cart"},
        ]
        if start is RECENT:
            calls.append({"destination_host": "new.example"})
        rows += [window(window_start=start, destination_ips=["203.0.113.9"], **one) for one in calls]
    rows = [{**row, "last_offset": at} for at, row in enumerate(rows)]
    migrated.insert("raw_windows_1m", windows(*rows))
    migrated.insert("raw_progress", progress(len(rows), messages_rejected=5, messages_with_records=5, gaps=7))
    proof = {"label": "blackhole", "label_evidence": "cluster", "upstream_cluster": "BlackHoleCluster"}
    blocked = {"source_cluster": "prod", "source_namespace": "web", "destination_port": 443, "hop": "sidecar"}
    migrated.insert(
        "raw_events",
        events(
            event(
                1,
                event_time=RECENT,
                kafka_timestamp=RECENT,
                destination_host="evil.example",
                **proof,
                **blocked,
            )
        ),
    )
    letter = {
        **dict.fromkeys(DEAD_LETTER),
        "stream_epoch": "epoch",
        "topic": "t",
        "partition": 0,
        "offset": 1,
        "seq": 0,
        "rules_version": 1,
        "kafka_timestamp": RECENT,
        "reason": "invalid_json",
        "raw": b"x",
        "raw_size": 1,
        "whole": True,
    }
    migrated.insert("raw_dead_letters", pl.DataFrame([letter], schema=DEAD_LETTER))
    subject = Subject("prod", "web", "idgen", None, "evil.example", 443)
    incident = Incident(
        "1" * 32, "blackhole", "blackhole", "critical", "firing", subject, RECENT, RECENT, 2, "", {}
    )
    history.save(migrated.writer, migrated.settings, [incident], NOW)
    declared = registry(
        context(homes=[{"namespace": "web", "regions": ["eu-west-1"]}]), pod("lonely/job-1", "10.0.0.3")
    )
    store.load(migrated.writer, migrated.settings, declared, NOW - timedelta(days=30))
    stored = store.read(migrated.reader, migrated.settings)
    refresh(migrated.writer, migrated.settings, stored, Judges(stored), NOW, everything=True)
    migrated.roll_up()
    return migrated


def ask(
    database: Database, panel: Panel, values: dict[str, Value], begin: datetime, end: datetime, step: int = 60
) -> pl.DataFrame:
    sql = expand(interpolate(panel.target["rawSql"], values), begin, end, step)
    database.reader.database = database.settings.database
    return query_frame(database.reader, sql)


def named(dashboard: str, title: str) -> Panel:
    [found] = [one for one in PANELS if (one.dashboard, one.title) == (f"egresslens-{dashboard}", title)]
    return found


def show(
    database: Database, dashboard: str, title: str, during: str = "minutes", **values: Value
) -> list[dict]:
    begin, end = RANGES[during]
    return ask(database, named(dashboard, title), {**ALL, **values}, begin, end).to_dicts()


def value(database: Database, dashboard: str, title: str, during: str = "minutes", **values: Value) -> Any:
    [row] = show(database, dashboard, title, during, **values)
    [found] = row.values()
    return found


@pytest.mark.parametrize("panel", PANELS, ids=str)
def test_a_query_answers_with_the_columns_that_its_panel_shows(filled: Database, panel: Panel):
    during = "hours" if panel.dashboard == "egresslens-residency" else "minutes"
    found = ask(filled, panel, ALL, *RANGES[during])
    assert found.height, "known data fills every panel"
    if panel.kind == "timeseries":
        assert found.columns[0] == "time"
        assert isinstance(found.schema["time"], pl.Datetime)
        assert found["time"].is_sorted()
        assert all(one.is_numeric() for one in found.dtypes[2:])
        assert found.dtypes[1] == pl.String
        assert not found[found.columns[1]].null_count()
    elif panel.kind == "stat":
        assert found.shape == (1, 1)
        assert found.dtypes[0].is_numeric()
    elif panel.kind == "variable":
        assert found.columns == ["value"]
    else:
        assert not [one for one in found.dtypes if isinstance(one, (pl.List, pl.Struct))]
        units = {one["matcher"]["options"] for one in _shown(panel)["fieldConfig"]["overrides"]}
        assert units <= set(found.columns)


def _shown(panel: Panel) -> dict[str, Any]:
    [found] = [one for one in dashboards()[panel.dashboard]["panels"] if one["title"] == panel.title]
    return found


def test_a_query_on_nothing_is_no_error(filled: Database):
    for panel in PANELS:
        ask(filled, panel, ALL, NOW - timedelta(days=3000), NOW - timedelta(days=2999))


@pytest.mark.parametrize(
    "text",
    [
        "\\",
        "\\' OR 1=1 --",
        "' OR 1=1 --",
        "a', 'b",
        "*')",
        "%27",
        "\n; DROP TABLE x",
        "ünï💥",
        "${namespace}",
    ],
)
def test_a_value_never_becomes_sql(filled: Database, text: str):
    given: dict[str, Value] = {"namespace": [text], "workload": [text], "host": text}
    for title in ("$workload", "Requests by label", "External destinations"):
        assert ask(filled, named("overview", title), given, *RANGES["minutes"]).is_empty()


@pytest.mark.parametrize(("during", "times"), [("minutes", 1), ("hours", 2)])
def test_the_overview_counts_what_was_seen(filled: Database, during: str, times: int):
    assert value(filled, "overview", "Requests", during) == 12 * times + 1
    assert value(filled, "overview", "Let out unknown", during) == 8 * times
    assert value(filled, "overview", "Blocked attempts", during) == 2 * times
    assert value(filled, "overview", "Sent out", during) == 140 * times + 10


def test_the_overview_says_what_is_new(filled: Database):
    [row] = show(filled, "overview", "New destinations")
    assert (row["destination_host"], row["new_to"], row["calls"]) == ("new.example", "mesh", 1)


def test_one_namespace_or_workload_or_host_can_be_chosen(filled: Database):
    assert value(filled, "overview", "Requests", namespace=["shop"]) == 1
    assert value(filled, "overview", "Requests", namespace=["shop", "web"]) == 13
    assert value(filled, "overview", "Requests", workload=["idgen"]) == 12
    assert value(filled, "overview", "Requests", host="RDS") == 3


def test_variables_offer_what_was_seen(filled: Database):
    assert [row["value"] for row in show(filled, "overview", "$namespace")] == ["shop", "web"]
    assert [row["value"] for row in show(filled, "overview", "$workload", namespace=["shop"])] == ["cart"]


@pytest.mark.parametrize(("during", "step"), [("minutes", 60), ("hours", 3600)])
def test_rates_are_those_of_their_interval(filled: Database, during: str, step: int):
    rates = show(filled, "overview", "Requests by label", during)
    lately = {
        row["label"]: row["rate"]
        for row in rates
        if row["time"].replace(tzinfo=NOW.tzinfo) >= RANGES["minutes"][0] - timedelta(hours=1)
    }
    assert lately["passthrough"] == pytest.approx(8 / step)


def test_the_blocked_dashboard_says_who_tried_what_and_what_proved_it(filled: Database):
    assert value(filled, "blocked", "Attempts") == 2
    assert (value(filled, "blocked", "Workloads"), value(filled, "blocked", "Hosts")) == (1, 1)
    assert value(filled, "blocked", "Incidents firing") == 1
    [row] = show(filled, "blocked", "Who tried what", workload=["idgen"])
    assert (row["source_workload"], row["destination_host"], row["tries"]) == ("idgen", "evil.example", 2)
    [incident] = show(filled, "blocked", "Incidents")
    assert (incident["rule"], incident["events"]) == ("blackhole", 2)
    modes = {row["source_namespace"]: row for row in show(filled, "blocked", "Outbound policy by namespace")}
    assert (modes["web"]["let_out"], modes["web"]["turned_away"]) == (8, 2)


def test_the_database_dashboard_says_what_was_written(filled: Database):
    assert value(filled, "databases", "Written") == 30
    [row] = show(filled, "databases", "Who writes where")
    assert (row["destination_kind"], row["written"], row["was_read"], row["calls"]) == (
        "postgres",
        30,
        300,
        3,
    )


def test_the_residency_dashboard_says_what_left_the_region(filled: Database):
    assert value(filled, "residency", "Requests out of region") == 3
    [row] = [
        row
        for row in show(filled, "residency", "Where each workload's traffic went")
        if row["goes"] == "out of region"
    ]
    assert (row["source_workload"], row["home"], row["destination_region"]) == (
        "idgen",
        "eu-west-1",
        "us-east-1",
    )


def test_the_pipeline_dashboard_says_what_became_of_messages(filled: Database):
    assert value(filled, "pipeline", "Messages read") == 10
    assert value(filled, "pipeline", "Messages rejected") == 5
    assert value(filled, "pipeline", "Offsets lost") == 7
    assert [row["letters"] for row in show(filled, "pipeline", "Dead letters by reason")] == [1]
    [row] = show(filled, "pipeline", "What became of each partition's messages")
    assert row["adds_up"] == 1
