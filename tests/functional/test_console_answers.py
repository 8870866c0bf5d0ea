"""The console's answers on known rows in a real engine: the short way to read says what the long way says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from clickhouse_rows import HOUR, NOW, Database, database, migrated, minute, progress, window, windows
from egresslens.clickhouse import rollup
from egresslens.console.answers import Context
from egresslens.console.answers.graph import Edge, GraphParams, graph
from egresslens.console.answers.timeline import timeline
from egresslens.console.params import Labelled
from egresslens.console.recent import Recent
from egresslens.registry.store import load
from registries import pod, registry

__all__ = ["database", "migrated"]

pytestmark = pytest.mark.functional

RANGE = {"from": HOUR, "until": HOUR + timedelta(hours=2)}


def see(database: Database, *rows: dict[str, Any]) -> None:
    database.insert("raw_windows_1m", windows(*({**row, "last_offset": at} for at, row in enumerate(rows))))
    database.insert("raw_progress", progress(len(rows)))


def context(database: Database) -> Context:
    return Context(database.settings, database.reader, NOW, None, Recent(database.settings))


def line(database: Database, **given: Any) -> dict[str, int]:
    """Requests by label."""
    points = timeline(context(database), Labelled(**RANGE, **given)).points
    return {
        label: sum(point.requests for point in points if point.label == label)
        for label in sorted({point.label for point in points})
    }


def drawn(database: Database, **given: Any) -> list[Edge]:
    return graph(context(database), GraphParams(**{**RANGE, **given})).edges


def test_the_time_line_counts_what_the_graph_counts(database: Database):
    of_address = {"source_namespace": None, "source_workload": None, "source_ip": "10.9.9.9"}
    see(
        database,
        window(requests=3),
        window(requests=2, window_start=minute(61), response_code=503),
        window(requests=4, label="passthrough", **of_address),
        window(requests=5, label="blackhole", source_namespace="other"),
        window(requests=6, hop="gateway"),
    )
    load(database.writer, database.settings, registry(pod("shop/cart-1", "10.9.9.9", app="cart")), NOW)
    assert line(database) == {"blackhole": 5, "outbound": 5, "passthrough": 4}
    assert sum(one.requests for one in drawn(database)) == 14
    assert line(database, host="httpbin.*", label=("outbound",)) == {"outbound": 5}
    assert line(database, namespace="web") == {"outbound": 5}
    assert line(database, namespace="shop") == {"passthrough": 4}


def test_a_call_told_by_a_sidecar_and_a_waypoint_is_once_in_the_time_line(database: Database):
    see(database, window(requests=3), window(requests=3, hop="waypoint"))
    assert line(database) == {"outbound": 3}


def test_a_call_told_by_a_waypoint_alone_is_in_the_time_line(database: Database):
    see(database, window(requests=3, hop="waypoint"), window(requests=2, destination_host="b.example"))
    assert line(database) == {"outbound": 5}


@pytest.mark.parametrize("rolled_up", [False, True])
def test_new_is_what_nobody_called_before_the_range(database: Database, *, rolled_up: bool):
    nameless = {"source_cluster": None, "destination_port": None}
    see(
        database,
        window(destination_host="old.example", window_start=minute(-90), source_workload="somebody"),
        window(destination_host="old.example", **nameless, window_start=minute(-5)),
        window(destination_host="old.example"),
        window(destination_host="old.example", destination_port=80),
        window(destination_host="old.example", **nameless),
        window(destination_host="new.example", **nameless),
        window(destination_host=None),
    )
    if rolled_up:
        rollup.run(database.settings, NOW)
    found = {
        (one.source_cluster, one.destination_host, one.destination_port): one.is_new
        for one in drawn(database)
    }
    assert found == {
        ("prod", "old.example", 443): False,
        ("prod", "old.example", 80): True,
        (None, "old.example", None): False,
        (None, "new.example", None): True,
        ("prod", None, 443): False,
    }
