"""Grafana's dashboards as data: `python -m egresslens.grafana schemas/grafana/dashboards` writes them.

The queries read the published views with the reader's account (`clickhouse`), or the metrics of worker and
alerts process (`prometheus`).
"""

from __future__ import annotations

from typing import Any

from egresslens.grafana import clickhouse, prometheus


def dashboards() -> dict[str, dict[str, Any]]:
    """Each dashboard's JSON, by its uid."""
    return {one["uid"]: one for one in (*clickhouse.dashboards(), *prometheus.dashboards())}
