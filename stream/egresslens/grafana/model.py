"""Grafana's dashboard JSON (schema version 39, Grafana 11 and later): panels, variables, layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

SCHEMA: Final = 39
# Told apart without colour as well: the legends name them. Blue, orange and vermilion of Okabe and Ito.
COLOURS: Final = {
    "outbound": "#0072B2", "passthrough": "#E69F00", "blackhole": "#D55E00", "unknown": "#999999",
    "in region": "#0072B2", "out of region": "#D55E00",
}  # fmt: skip

Json = dict[str, Any]


def dashboard(
    uid: str, title: str, text: str, variables: Iterable[Json], panels: Iterable[Json], since: str
) -> Json:
    """A dashboard; panels flow from left to right, each as wide as it says."""
    return {
        "uid": uid,
        "title": title,
        "description": text,
        "tags": ["egresslens"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "",
        "refresh": "1m",
        "time": {"from": since, "to": "now"},
        "timepicker": {},
        "links": [
            {
                "type": "dashboards",
                "title": "Egresslens",
                "tags": ["egresslens"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
                "icon": "external link",
                "targetBlank": False,
                "tooltip": "",
                "url": "",
            }
        ],
        "annotations": {"list": []},
        "templating": {"list": list(variables)},
        "panels": _placed(list(panels)),
    }


def _placed(panels: Sequence[Json]) -> list[Json]:
    x = y = height = 0
    placed = []
    for number, panel in enumerate(panels, 1):
        size = panel["gridPos"]
        if x + size["w"] > 24:
            x, y, height = 0, y + height, 0
        placed.append({"id": number, **panel, "gridPos": {**size, "x": x, "y": y}})
        x, height = x + size["w"], max(height, size["h"])
    return placed


def source_variable(name: str, plugin: str, label: str, uid: str) -> Json:
    """The choice of the data source; the provisioned one to begin with."""
    return {
        "name": name,
        "type": "datasource",
        "label": label,
        "query": plugin,
        "current": {"selected": True, "text": label, "value": uid},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
    }


def query_variable(name: str, label: str, source: Json, query: Any, everything: str) -> Json:
    """Values to choose from, several or all of them."""
    return {
        "name": name,
        "type": "query",
        "label": label,
        "datasource": source,
        "query": query,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "allValue": everything,
        "hide": 0,
        "includeAll": True,
        "multi": True,
        "options": [],
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
    }


def text_variable(name: str, label: str, text: str) -> Json:
    """A text to type in."""
    return {
        "name": name,
        "type": "textbox",
        "label": label,
        "description": text,
        "query": "",
        "current": {"selected": True, "text": "", "value": ""},
        "hide": 0,
        "options": [{"selected": True, "text": "", "value": ""}],
        "skipUrlSync": False,
    }


def panel(
    kind: str,
    title: str,
    source: Json,
    targets: Sequence[Json],
    *,
    text: str = "",
    width: int = 12,
    height: int = 8,
    unit: str = "short",
    units: Mapping[str, str] | None = None,
    interval: str | None = None,
    options: Json | None = None,
    custom: Json | None = None,
    thresholds: Sequence[tuple[float | None, str]] = ((None, "text"),),
) -> Json:
    """A panel without its place. `units` are those of single columns or series."""
    overrides = [_override(name, [("unit", one)]) for name, one in (units or {}).items()]
    if kind == "timeseries":
        overrides += [
            _override(name, [("color", {"mode": "fixed", "fixedColor": colour})])
            for name, colour in COLOURS.items()
        ]
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": source,
        "gridPos": {"w": width, "h": height},
        **({"interval": interval} if interval else {}),
        "targets": list(targets),
        "options": options or _OPTIONS[kind],
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "color": {"mode": "thresholds" if kind == "stat" else "palette-classic"},
                "thresholds": {
                    "mode": "absolute",
                    "steps": [{"value": value, "color": colour} for value, colour in thresholds],
                },
                "custom": custom or _CUSTOM.get(kind, {}),
            },
            "overrides": overrides,
        },
    }


def _override(name: str, properties: Iterable[tuple[str, Any]]) -> Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": id_, "value": value} for id_, value in properties],
    }


_OPTIONS: Final[dict[str, Json]] = {
    "stat": {
        "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": ""},
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "auto",
        "justifyMode": "auto",
        "orientation": "auto",
    },
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "table": {"showHeader": True, "cellHeight": "sm", "footer": {"show": False, "reducer": [], "fields": ""}},
}
_CUSTOM: Final[dict[str, Json]] = {
    "timeseries": {"drawStyle": "line", "lineWidth": 2, "fillOpacity": 10, "showPoints": "auto"},
    "table": {"align": "auto", "filterable": True},
}
