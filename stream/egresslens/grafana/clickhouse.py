"""Dashboards on the published views, for the data source grafana-clickhouse-datasource 4.

Variables reach SQL percent-encoded and are decoded there. Grafana's `sqlstring` and `singlequote` double or
escape quotes and leave backslashes alone, which ClickHouse takes for escapes: a value with a backslash would
end its literal. What percent-encoding leaves has neither.

Ranges of up to two days are read from minutes, longer ones from hours; reports are per hour. A range covers
every minute or hour that it touches.
"""

from __future__ import annotations

from typing import Final

from egresslens.grafana.model import (
    Json,
    dashboard,
    panel,
    query_variable,
    source_variable,
    text_variable,
)

PLUGIN: Final = "grafana-clickhouse-datasource"
SOURCE: Final[Json] = {"type": PLUGIN, "uid": "${clickhouse}"}
# As the plugin's `format`: long rows become series, or stay a table.
_SERIES: Final = 0
_TABLE: Final = 1

_SHORT: Final = "$__toTime - $__fromTime <= 172800"
_STEP: Final = f"greatest($__interval_s, if({_SHORT}, 60, 3600))"
_HOURS: Final = "window_start >= toStartOfHour($__fromTime) AND window_start <= $__toTime"
_MINUTES: Final = "window_start >= toStartOfMinute($__fromTime) AND window_start <= $__toTime"
_TIME: Final = f"toStartOfInterval(window_start, toIntervalSecond({_STEP})) AS time"
_HOURLY: Final = "toStartOfInterval(window_start, toIntervalSecond(greatest($__interval_s, 3600))) AS time"
_NAMESPACE: Final = "coalesce(source_namespace, source_ip_namespace, '')"
_WORKLOAD: Final = "coalesce(source_workload, source_ip_workload, source_ip, '')"


def _text(variable: str) -> str:
    """A variable's value as SQL; several are `{a,b}`."""
    return f"decodeURLComponent('${{{variable}:percentencode}}')"


def _among(column: str, variable: str) -> str:
    """Whether a column's value is among those chosen."""
    chosen = f"splitByChar(',', trim(BOTH '{{}}' FROM {_text(variable)}))"
    return f"({_text(variable)} = '*' OR has({chosen}, {column}))"


_MINE: Final = f"{_among(_NAMESPACE, 'namespace')} AND {_among(_WORKLOAD, 'workload')}"
_HOST: Final = f"positionCaseInsensitive(ifNull(destination_host, ''), {_text('host')}) > 0"
# Reports name the workload behind an address already.
_IN_NAMESPACE: Final = _among("ifNull(source_namespace, '')", "namespace")
_BY_WORKLOAD: Final = _among("coalesce(source_workload, source_ip, '')", "workload")
_REPORTED: Final = f"{_IN_NAMESPACE} AND {_BY_WORKLOAD} AND {_HOST}"
_OUTSIDE: Final = "label = 'passthrough'"
_BLOCKED: Final = "label = 'blackhole'"


def _windows(columns: str, where: str) -> str:
    """Minutes or hours of the range, whichever it is long for: the other side is not read."""
    filters = f"hop != 'gateway' AND {_MINE} AND {_HOST}{where and f' AND {where}'}"
    return (
        f"(SELECT {columns} FROM windows_1m WHERE {_SHORT} AND {_MINUTES} AND {filters} "
        f"UNION ALL SELECT {columns} FROM windows_1h WHERE NOT ({_SHORT}) AND {_HOURS} AND {filters})"
    )


def _target(sql: str, form: int) -> Json:
    return {
        "refId": "A",
        "datasource": SOURCE,
        "editorType": "sql",
        "queryType": "table" if form == _TABLE else "timeseries",
        "format": form,
        "rawSql": sql,
    }


def _stat(title: str, sql: str, *, text: str = "", unit: str = "short", bad: bool = False) -> Json:
    steps: list[tuple[float | None, str]] = [(None, "text"), *([(1, "red")] if bad else [])]
    return panel(
        "stat", title, SOURCE, [_target(sql, _TABLE)],
        text=text, width=6, height=4, unit=unit, thresholds=steps,
    )  # fmt: skip


def _series(
    title: str, sql: str, *, text: str = "", unit: str = "short", width: int = 12, every: str = "1m"
) -> Json:
    return panel(
        "timeseries", title, SOURCE, [_target(sql, _SERIES)],
        text=text, unit=unit, width=width, interval=every,
    )  # fmt: skip


def _table(
    title: str, sql: str, *, text: str = "", height: int = 10, units: dict[str, str] | None = None
) -> Json:
    return panel(
        "table", title, SOURCE, [_target(sql, _TABLE)], text=text, width=24, height=height, units=units
    )


def _variables() -> list[Json]:
    names = (
        "SELECT DISTINCT {0} AS value FROM destinations "
        # Commas and braces are Grafana's own where several values are chosen; no name of Kubernetes has them.
        "WHERE value != '' AND NOT match(value, '[,{{}}]'){1} ORDER BY value LIMIT 1000"
    )
    chosen = f" AND {_among(_NAMESPACE, 'namespace')}"
    return [
        source_variable("clickhouse", PLUGIN, "ClickHouse", "egresslens-clickhouse"),
        query_variable("namespace", "Namespace", SOURCE, _query(names.format(_NAMESPACE, "")), "*"),
        query_variable("workload", "Workload", SOURCE, _query(names.format(_WORKLOAD, chosen)), "*"),
        text_variable("host", "Host contains", "Only destinations with this text in their name"),
    ]


def _query(sql: str) -> Json:
    return {"editorType": "sql", "rawSql": sql, "refId": "variable"}


def dashboards() -> list[Json]:
    """Overview, blocked, databases, residency, pipeline."""
    return [_overview(), _blocked(), _databases(), _residency(), _pipeline()]


def _overview() -> Json:
    calls = _windows("requests", "label != 'blackhole'")
    return dashboard(
        "egresslens-overview",
        "Egress overview",
        "What leaves the mesh, from which workload, to where, and was it allowed.",
        _variables(),
        [
            _stat("Requests", f"SELECT sum(requests) AS requests FROM {calls}"),
            _stat(
                "Let out unknown",
                f"SELECT sum(requests) AS requests FROM {_windows('requests', _OUTSIDE)}",
                text="PassthroughCluster: no ServiceEntry covers the host.",
            ),
            _stat(
                "Blocked attempts",
                f"SELECT sum(requests) AS requests FROM {_windows('requests', _BLOCKED)}",
                text="BlackHoleCluster or block_all.",
                bad=True,
            ),
            _stat(
                "Sent out",
                f"SELECT sum(bytes_received) AS bytes FROM {_windows('bytes_received', '')}",
                text="What workloads sent; Envoy's bytes_received.",
                unit="bytes",
            ),
            _series(
                "Requests by label",
                f"SELECT {_TIME}, label, sum(requests) / {_STEP} AS rate "
                f"FROM {_windows('window_start, label, requests', '')} "
                "GROUP BY time, label ORDER BY time, label",
                unit="reqps",
            ),
            _series(
                "Sent out by label",
                f"SELECT {_TIME}, label, sum(bytes_received) / {_STEP} AS rate "
                f"FROM {_windows('window_start, label, bytes_received', '')} "
                "GROUP BY time, label ORDER BY time, label",
                unit="Bps",
            ),
            _table(
                "External destinations",
                "SELECT source_namespace, source_workload, source_ip, destination_host, destination_port, "
                "label, any(service_entry) AS service_entry, sum(requests) AS calls, "
                "sum(errors) AS failed, sum(bytes_received) AS sent, sum(bytes_sent) AS got, "
                "max(p95_ms) AS slowest_hour_p95, min(first_seen) AS first, max(last_seen) AS last "
                f"FROM report_external WHERE {_HOURS} AND {_REPORTED} "
                "GROUP BY source_namespace, source_workload, source_ip, destination_host, destination_port, "
                "label ORDER BY calls DESC, destination_host LIMIT 200",
                text="The 200 most called, in whole hours. `egresslens report external` has all.",
                units={"sent": "bytes", "got": "bytes", "slowest_hour_p95": "ms"},
            ),
            _table(
                "New destinations",
                "SELECT first_seen, new_to, source_namespace, source_workload, source_ip, destination_host, "
                "destination_port, arrayStringConcat(labels, ', ') AS seen_as, destination_kind, "
                "service_entry, requests AS calls "
                "FROM report_new WHERE first_seen >= $__fromTime AND first_seen <= $__toTime "
                f"AND {_REPORTED} ORDER BY first_seen DESC, destination_host LIMIT 200",
                text="First seen in the range; new to the mesh, or to the workload only.",
                height=8,
            ),
        ],
        "now-6h",
    )


def _blocked() -> Json:
    return dashboard(
        "egresslens-blocked",
        "Egress blocked",
        "Attempts to leave the mesh that REGISTRY_ONLY turned away: who tried what, and what proved it.",
        _variables(),
        [
            _stat(
                "Attempts",
                f"SELECT sum(requests) AS attempts FROM {_windows('requests', _BLOCKED)}",
                bad=True,
            ),
            _stat(
                "Workloads",
                "SELECT uniqExact(namespace, workload) AS workloads FROM "
                f"{_windows(f'{_NAMESPACE} AS namespace, {_WORKLOAD} AS workload', _BLOCKED)}",
                text="That tried.",
            ),
            _stat(
                "Hosts",
                f"SELECT uniqExact(destination_host) AS hosts FROM {_windows('destination_host', _BLOCKED)}",
                text="That were tried.",
            ),
            _stat(
                "Incidents firing",
                f"SELECT count() AS incidents FROM alerts WHERE state = 'firing' AND {_REPORTED}",
                text="Of all rules, now.",
                bad=True,
            ),
            _series(
                "Attempts by namespace",
                f"SELECT {_TIME}, namespace, sum(requests) AS attempts FROM "
                f"{_windows(f'window_start, {_NAMESPACE} AS namespace, requests', _BLOCKED)} "
                "GROUP BY time, namespace ORDER BY time, namespace",
                width=24,
            ),
            _table(
                "Who tried what",
                "SELECT source_namespace, source_workload, source_ip, destination_host, destination_port, "
                "sum(attempts) AS tries, "
                "arrayStringConcat(arraySort(groupUniqArrayArray(proved_by)), ', ') AS proof, "
                "any(service_entry) AS service_entry, min(first_seen) AS first, max(last_seen) AS last "
                f"FROM report_blocked WHERE {_HOURS} AND {_REPORTED} "
                "GROUP BY source_namespace, source_workload, source_ip, destination_host, destination_port "
                "ORDER BY tries DESC, destination_host LIMIT 200",
                text="In whole hours. `egresslens advise` says what would allow it.",
            ),
            _table(
                "Incidents",
                "SELECT state, severity, rule, source_namespace, source_workload, source_ip, "
                "destination_host, destination_port, count AS events, first_seen, last_seen, id "
                "FROM alerts WHERE last_seen >= $__fromTime AND first_seen <= $__toTime "
                f"AND {_REPORTED} ORDER BY state, last_seen DESC LIMIT 200",
                text="Of `egresslens alerts run`.",
                height=8,
            ),
            _table(
                "Outbound policy by namespace",
                "SELECT source_cluster, source_namespace, "
                "arrayStringConcat(arraySort(groupUniqArray(toString(mode))), ', ') AS seen, "
                "sum(passthrough) AS let_out, sum(blocked) AS turned_away, sum(registered) AS known "
                f"FROM report_modes WHERE {_HOURS} "
                f"AND {_IN_NAMESPACE} "
                "GROUP BY source_cluster, source_namespace ORDER BY turned_away DESC, source_namespace "
                "LIMIT 200",
                text="The policies that each hour's traffic proves.",
                height=8,
            ),
        ],
        "now-24h",
    )


def _databases() -> Json:
    where = f"FROM report_databases WHERE {_HOURS} AND {_REPORTED}"
    return dashboard(
        "egresslens-databases",
        "Egress to databases",
        "Databases, brokers and caches that workloads write to and read from.",
        _variables(),
        [
            _stat(
                "Databases",
                f"SELECT uniqExact(destination_host, destination_port) AS databases {where}",
            ),
            _stat("Connections and requests", f"SELECT sum(requests) AS calls {where}"),
            _stat("Written", f"SELECT sum(bytes_written) AS bytes {where}", unit="bytes"),
            _stat("Read", f"SELECT sum(bytes_read) AS bytes {where}", unit="bytes"),
            _series(
                "Written by kind, per hour",
                f"SELECT {_HOURLY}, ifNull(toString(destination_kind), '') AS kind, "
                f"sum(bytes_written) AS bytes {where} GROUP BY time, kind ORDER BY time, kind",
                unit="bytes",
                every="1h",
            ),
            _series(
                "Read by kind, per hour",
                f"SELECT {_HOURLY}, ifNull(toString(destination_kind), '') AS kind, "
                f"sum(bytes_read) AS bytes {where} GROUP BY time, kind ORDER BY time, kind",
                unit="bytes",
                every="1h",
            ),
            _table(
                "Who writes where",
                "SELECT destination_kind, destination_host, destination_port, source_namespace, "
                "source_workload, source_ip, label, sum(bytes_written) AS written, "
                "sum(bytes_read) AS was_read, "
                "sum(requests) AS calls, sum(errors) AS failed, any(destination_kind_reason) AS told_by, "
                "any(destination_kind_confidence) AS confidence, max(last_seen) AS last "
                f"{where} GROUP BY destination_kind, destination_host, destination_port, source_namespace, "
                "source_workload, source_ip, label ORDER BY written DESC, destination_host LIMIT 200",
                text="In whole hours; what told that it is a database stands beside it.",
                height=14,
                units={"written": "bytes", "was_read": "bytes"},
            ),
        ],
        "now-24h",
    )


def _residency() -> Json:
    where = f"FROM report_regions WHERE {_HOURS} AND {_REPORTED}"
    return dashboard(
        "egresslens-residency",
        "Egress residency",
        "Whether traffic stays in the region that its workload runs in.",
        _variables(),
        [
            _stat(
                "Requests out of region",
                f"SELECT sum(requests) AS calls {where} AND place = 'out of region'",
                bad=True,
            ),
            _stat(
                "Sent out of region",
                f"SELECT sum(bytes_received) AS bytes {where} AND place = 'out of region'",
                unit="bytes",
            ),
            _stat(
                "Share that is known",
                f"SELECT sumIf(requests, place != 'unknown') / sum(requests) AS share {where}",
                text="Of requests: those with a home and a destination whose regions are known.",
                unit="percentunit",
            ),
            _stat(
                "Regions called",
                f"SELECT uniqExact(destination_region) AS regions {where} AND place = 'out of region'",
            ),
            _series(
                "Requests by place, per hour",
                f"SELECT {_HOURLY}, toString(place) AS place, sum(requests) AS calls "
                f"{where} GROUP BY time, place ORDER BY time, place",
                every="1h",
            ),
            _series(
                "Sent out of region, per hour",
                f"SELECT {_HOURLY}, ifNull(toString(destination_region), '') AS region, "
                f"sum(bytes_received) AS bytes {where} AND place = 'out of region' "
                "GROUP BY time, region ORDER BY time, region",
                unit="bytes",
                every="1h",
            ),
            _table(
                "Where each workload's traffic went",
                "SELECT toString(place) AS goes, source_namespace, source_workload, source_ip, "
                "arrayStringConcat(home_regions, ', ') AS home, destination_region, destination_host, "
                "destination_port, sum(requests) AS calls, sum(bytes_received) AS sent, "
                "any(confidence) AS sure, any(reason) AS told_by, max(last_seen) AS last "
                f"{where} GROUP BY goes, source_namespace, source_workload, source_ip, home, "
                "destination_region, destination_host, destination_port "
                "ORDER BY goes = 'out of region' DESC, sent DESC, destination_host LIMIT 300",
                text="In whole hours. What told the region stands beside it.",
                height=14,
                units={"sent": "bytes"},
            ),
        ],
        "now-24h",
    )


def _pipeline() -> Json:
    letters = "FROM dead_letters WHERE $__timeFilter(kafka_timestamp)"
    return dashboard(
        "egresslens-pipeline",
        "Egresslens pipeline (ClickHouse)",
        "What became of every message, and what the evidence cannot see.",
        _variables()[:2],
        [
            _stat("Messages read", "SELECT sum(messages) AS messages FROM progress", text="Ever."),
            _stat(
                "Messages rejected",
                "SELECT sum(messages_rejected) AS messages FROM progress",
                text="Ever. `egresslens dlq list`",
                bad=True,
            ),
            _stat(
                "Offsets lost",
                "SELECT sum(gaps) AS offsets FROM progress",
                text="Ever: removed by Kafka before they were read, or never records.",
                bad=True,
            ),
            _stat(
                "Seconds since the last row",
                "SELECT dateDiff('second', max(updated_at), now()) AS seconds FROM progress",
                unit="s",
            ),
            _series(
                "Dead letters by reason",
                "SELECT $__timeInterval(kafka_timestamp) AS time, toString(reason) AS reason, "
                "count() AS letters "
                f"{letters} GROUP BY time, reason ORDER BY time, reason",
                text="By the time of Kafka's record.",
            ),
            _series(
                "Records by label",
                "SELECT $__timeInterval(window_start) AS time, label, sum(requests) AS records "
                f"FROM windows_1m WHERE $__timeFilter(window_start) "
                f"AND {_among(_NAMESPACE, 'namespace')} GROUP BY time, label ORDER BY time, label",
                text="By the time of the request, gateways included.",
            ),
            _table(
                "What became of each partition's messages",
                "SELECT topic, partition, last_offset, messages, messages_with_records, messages_filtered, "
                "messages_rejected, records, events, gaps, "
                "messages = messages_with_records + messages_filtered + messages_rejected AS adds_up, "
                "updated_at FROM progress ORDER BY topic, partition LIMIT 500",
                text="`egresslens reconcile` proves it against Kafka and the windows.",
            ),
            _table(
                "What the evidence cannot see",
                "SELECT source_namespace, source_workload, source_ip, pods, with_sidecar, records, "
                "last_record, "
                "arrayStringConcat(formats, ', ') AS formats_seen, "
                "arrayStringConcat(findings, '; ') AS finds FROM report_coverage WHERE notEmpty(findings) "
                f"AND {_IN_NAMESPACE} "
                "ORDER BY source_namespace, source_workload LIMIT 200",
                text="Of the last 24 hours, whatever the range.",
            ),
        ],
        "now-6h",
    )
