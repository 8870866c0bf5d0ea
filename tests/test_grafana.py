"""The dashboards' files: written by their source, and read by Grafana's own models without a loss."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from egresslens import resources
from egresslens.grafana import dashboards
from grafana_plugin import interpolate, queries

FOLDER = resources.schemas() / "grafana"
UIDS = sorted(dashboards())


def test_the_files_are_what_the_source_says():
    files = {path.stem: json.loads(path.read_text()) for path in (FOLDER / "dashboards").glob("*.json")}
    assert files == dashboards(), "run `make grafana`"


@pytest.mark.parametrize("uid", UIDS)
def test_grafanas_own_models_read_a_dashboard_and_lose_nothing(uid: str):
    pytest.importorskip("grafana_foundation_sdk", reason="Grafana's models want Python 3.11")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder  # noqa: PLC0415
    from grafana_foundation_sdk.cog.plugins import register_default_plugins  # noqa: PLC0415
    from grafana_foundation_sdk.models.dashboard import Dashboard  # noqa: PLC0415

    register_default_plugins()
    given = json.loads((FOLDER / "dashboards" / f"{uid}.json").read_text())
    assert _known(given, json.loads(JSONEncoder().encode(Dashboard.from_json(given)))) == given


def _known(given: Any, read: Any) -> Any:
    """What was read, without what the models add to it."""
    if isinstance(given, dict) and isinstance(read, dict):
        return {name: _known(given[name], read[name]) for name in given if name in read}
    if isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        return [_known(one, other) for one, other in zip(given, read, strict=True)]
    return read


@pytest.mark.parametrize("uid", UIDS)
def test_panels_lie_side_by_side_and_not_on_each_other(uid: str):
    taken: set[tuple[int, int]] = set()
    panels = dashboards()[uid]["panels"]
    for place in (panel["gridPos"] for panel in panels):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_data_sources_are_those_that_are_provisioned():
    provisioned = yaml.safe_load((FOLDER / "provisioning/datasources/egresslens.yaml").read_text())
    known = {one["uid"]: one["type"] for one in provisioned["datasources"]}
    for dashboard in dashboards().values():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "datasource":
                assert known[variable["current"]["value"]] == variable["query"]


def test_the_reader_alone_is_provisioned_and_no_password_is_in_the_file():
    text = (FOLDER / "provisioning/datasources/egresslens.yaml").read_text()
    assert "$EGRESSLENS_CLICKHOUSE_READER_USER" in text
    assert "password: $__file{/run/secrets/clickhouse_reader_password}" in text


def test_a_variable_that_is_not_encoded_is_noticed():
    for text in ("${host:sqlstring}", "$host", "${host}", "[[host]]"):
        with pytest.raises(AssertionError, match="not encoded"):
            interpolate(f"SELECT {text}", {"host": "x"})


def test_queries_read_published_views_alone():
    for dashboard in dashboards().values():
        for panel in queries(dashboard):
            assert "raw_" not in str(panel.target.get("rawSql"))
