"""Dashboards on the metrics of worker and alerts process, for Grafana's own Prometheus data source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from egresslens.grafana.model import Json, dashboard, panel, query_variable, source_variable
from egresslens.istio import PREFIX

SOURCE: Final[Json] = {"type": "prometheus", "uid": "${prometheus}"}
_REQUESTS: Final = f"{PREFIX}requests_total"
# Grafana's Prometheus plugin escapes what is chosen for a regular expression inside quotes.
_MINE: Final = 'source_workload_namespace=~"$namespace",source_workload=~"$workload"'


def _panel(
    kind: str,
    title: str,
    queries: Mapping[str, str],
    *,
    text: str = "",
    unit: str = "short",
    width: int = 12,
    bad: bool = False,
) -> Json:
    """`queries` are PromQL by legend."""
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": SOURCE,
            "editorMode": "code",
            "expr": expression,
            "legendFormat": legend,
            "range": kind == "timeseries",
            "instant": kind != "timeseries",
            "format": "table" if kind == "table" else "time_series",
        }
        for number, (legend, expression) in enumerate(queries.items())
    ]
    steps: list[tuple[float | None, str]] = [(None, "text"), *([(1, "red")] if bad else [])]
    height = 4 if kind == "stat" else 8
    return panel(
        kind, title, SOURCE, targets, text=text, unit=unit, width=width, height=height, thresholds=steps
    )


def _lines(title: str, queries: Mapping[str, str], *, text: str = "", unit: str = "short") -> Json:
    return _panel("timeseries", title, queries, text=text, unit=unit)


def _rate(metric: str, by: str = "", of: str = "rate") -> str:
    """Growth of a counter per second (or, with `increase`, in the interval), summed."""
    grouped = f" by ({by}) " if by else ""
    return f"sum{grouped}({of}({metric}[$__rate_interval]))"


def _variable(name: str, label: str, of: str) -> Json:
    query = {"qryType": 1, "query": of, "refId": "variable"}
    return query_variable(name, label, SOURCE, query, ".*")


def dashboards() -> list[Json]:
    """Pipeline and egress."""
    return [_pipeline(), _egress()]


def _pipeline() -> Json:
    ours = "* on (instance, job) group_left egresslens_build_info"
    return dashboard(
        "egresslens-pipeline-prometheus",
        "Egresslens pipeline (Prometheus)",
        "Workers and the alerts process: do they keep up, and what holds them up.",
        [source_variable("prometheus", "prometheus", "Prometheus", "egresslens-prometheus")],
        [
            _panel("stat", "Lag", {"records": "sum(egresslens_lag_records)"}, text="Records.", width=6),
            _panel(
                "stat",
                "Behind",
                {"seconds": "max(egresslens_lag_seconds)"},
                text="Age of the oldest record that is not committed.",
                unit="s",
                width=6,
            ),
            _panel(
                "stat",
                "Not ready",
                {"processes": "count(egresslens_ready == 0) or vector(0)"},
                text="Processes.",
                width=6,
                bad=True,
            ),
            _panel(
                "stat",
                "Failing parts",
                {"parts": "sum(egresslens_outage) or vector(0)"},
                text="ClickHouse or Kafka, per process.",
                width=6,
                bad=True,
            ),
            _lines("Lag by topic", {"{{topic}}": "sum by (topic) (egresslens_lag_records)"}),
            _lines(
                "Seconds behind by topic", {"{{topic}}": "max by (topic) (egresslens_lag_seconds)"}, unit="s"
            ),
            _lines("Messages", {"{{topic}}": _rate("egresslens_messages_total", "topic")}, unit="ops"),
            _lines("Records by label", {"{{label}}": _rate("egresslens_records_total", "label")}, unit="ops"),
            _lines(
                "Dead letters by reason",
                {"{{reason}}": _rate("egresslens_rejected_total", "reason")},
                unit="ops",
            ),
            _lines(
                "Left out by reason", {"{{reason}}": _rate("egresslens_filtered_total", "reason")}, unit="ops"
            ),
            _lines(
                "Time per flush, 95th percentile",
                {
                    "{{stage}}": "histogram_quantile(0.95, "
                    f"{_rate('egresslens_stage_seconds_bucket', 'le, stage')})"
                },
                unit="s",
            ),
            _lines(
                "Messages per flush, median",
                {"messages": f"histogram_quantile(0.5, {_rate('egresslens_flush_messages_bucket', 'le')})"},
            ),
            _lines("Rows stored", {"{{table}}": _rate("egresslens_rows_total", "table")}, unit="ops"),
            _lines(
                "Records published", {"{{topic}}": _rate("egresslens_published_total", "topic")}, unit="ops"
            ),
            _lines(
                "Retries, assignments, losses",
                {
                    "retries: {{part}}": _rate("egresslens_retries_total", "part", "increase"),
                    "assignments": _rate("egresslens_assignments_total", of="increase"),
                    "offsets lost": _rate("egresslens_gap_offsets_total", of="increase"),
                },
            ),
            _lines(
                "Stalled",
                {"{{topic}}": "max by (topic) (egresslens_stalled_seconds)"},
                text="Records that wait without a commit; from 120 s on the process is unhealthy.",
                unit="s",
            ),
            _lines(
                "CPU",
                {
                    "{{instance}}": "sum by (instance) (rate(process_cpu_seconds_total[$__rate_interval])"
                    f" {ours})"
                },
                unit="percentunit",
            ),
            _lines(
                "Memory",
                {"{{instance}}": f"sum by (instance) (process_resident_memory_bytes {ours})"},
                unit="bytes",
            ),
            _lines("Window keys held", {"{{instance}}": "sum by (instance) (egresslens_window_keys)"}),
            _lines(
                "Rolled up and judged",
                {
                    "windows {{tier}}": _rate("egresslens_rolled_up_total", "tier", "increase"),
                    "judged: {{kind}}": _rate("egresslens_judged_total", "kind", "increase"),
                },
            ),
            _lines("Incidents", {"{{rule}} {{state}}": "sum by (rule, state) (egresslens_alerts_incidents)"}),
            _lines(
                "Alerts told",
                {
                    "{{receiver}}": _rate("egresslens_alerts_told_total", "receiver", "increase"),
                    "refused: {{receiver}}": _rate("egresslens_alerts_refused_total", "receiver", "increase"),
                    "waiting: {{receiver}}": "sum by (receiver) (egresslens_alerts_untold)",
                },
            ),
        ],
        "now-3h",
    )


def _egress() -> Json:
    requests = f"{_REQUESTS}{{{_MINE}}}"
    failed = f'{_REQUESTS}{{{_MINE},response_code=~"5..|0"}}'
    flagged = f'{_REQUESTS}{{{_MINE},response_flags!="-"}}'
    buckets = f"{PREFIX}request_duration_milliseconds_bucket{{{_MINE}}}"
    source = "source_workload_namespace, source_workload"
    blocked = f'increase({_REQUESTS}{{{_MINE},egress_label="blackhole"}}[$__range])'
    return dashboard(
        "egresslens-egress-prometheus",
        "Egress (Prometheus)",
        "The workers' egress metrics under Istio's label names; beyond their limit it is all `other`.",
        [
            source_variable("prometheus", "prometheus", "Prometheus", "egresslens-prometheus"),
            _variable("namespace", "Namespace", f"label_values({_REQUESTS}, source_workload_namespace)"),
            _variable(
                "workload",
                "Workload",
                f'label_values({_REQUESTS}{{source_workload_namespace=~"$namespace"}}, source_workload)',
            ),
        ],
        [
            _lines("Requests by label", {"{{egress_label}}": _rate(requests, "egress_label")}, unit="reqps"),
            _lines(
                "Sent out by label",
                {
                    "HTTP: {{egress_label}}": _rate(f"{PREFIX}request_bytes_sum{{{_MINE}}}", "egress_label"),
                    "TCP: {{egress_label}}": _rate(
                        f"{PREFIX}tcp_received_bytes_total{{{_MINE}}}", "egress_label"
                    ),
                },
                unit="Bps",
            ),
            _lines(
                "Busiest destinations",
                {"{{destination_service}}": f"topk(10, {_rate(requests, 'destination_service')})"},
                unit="reqps",
            ),
            _lines(
                "Busiest workloads",
                {"{{source_workload_namespace}}/{{source_workload}}": f"topk(10, {_rate(requests, source)})"},
                unit="reqps",
            ),
            _lines(
                "Share of requests that fail",
                {
                    "{{destination_service}}": f"{_rate(failed, 'destination_service')} "
                    f"/ {_rate(requests, 'destination_service')} > 0"
                },
                text="5xx, or no answer at all.",
                unit="percentunit",
            ),
            _lines(
                "Duration, 95th percentile",
                {"{{egress_label}}": f"histogram_quantile(0.95, {_rate(buckets, 'le, egress_label')})"},
                unit="ms",
            ),
            _lines(
                "TCP connections that ended",
                {
                    "{{egress_label}}": _rate(
                        f"{PREFIX}tcp_connections_closed_total{{{_MINE}}}", "egress_label"
                    )
                },
                unit="ops",
            ),
            _lines("Response flags", {"{{response_flags}}": _rate(flagged, "response_flags")}, unit="reqps"),
            _panel(
                "table",
                "Blocked in the range",
                {"": f"sort_desc(sum by ({source}, destination_service, destination_port) ({blocked}) > 0)"},
                text="HTTP requests; TCP connections have a metric of their own.",
                width=24,
            ),
        ],
        "now-3h",
    )
