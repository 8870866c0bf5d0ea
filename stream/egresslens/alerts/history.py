"""What alerts ask of ClickHouse and keep there. Everything blocks; ClickHouse's errors are the caller's."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from egresslens.alerts.book import Incident, Subject
from egresslens.alerts.detect import FirstSeen, Volume
from egresslens.settings import Settings

_SOURCE: Final = ("source_cluster", "source_namespace", "source_workload", "source_ip")
_ALERT: Final = (
    "id", "rule", "severity", "state", *Subject._fields, "first_seen", "last_seen", "count", "details",
    "updated_at",
)  # fmt: skip
_PROGRESS: Final = ("id", "kind", "summary", "counted", "told", "updated_at")
# What ended longer ago was told, or nobody wants to know any more.
_UNTOLD: Final = timedelta(days=1)
_KEYS: Final = 1_000


def save(client: Client, settings: Settings, incidents: Collection[Incident], now: datetime) -> None:
    """Store incidents as they are now. The progress first: an incident without it would be counted anew."""
    if not incidents:
        return
    progress = [
        (one.id, one.kind, one.summary, json.dumps(one.counted), dict(one.told), now) for one in incidents
    ]
    client.insert(f"{settings.database}.raw_alert_progress", progress, _PROGRESS)
    alerts = [
        (
            one.id, one.rule, one.severity, one.state, *one.subject, one.first_seen, one.last_seen, one.count,
            json.dumps({"summary": one.message().summary, **one.details}), now,
        )
        for one in incidents
    ]  # fmt: skip
    client.insert(f"{settings.database}.raw_alerts", alerts, _ALERT)


def load(
    client: Client, settings: Settings, now: datetime, mine: Callable[[Subject], bool]
) -> tuple[list[Incident], datetime]:
    """Read the incidents that go on, and those that ended lately; and when one was stored last."""
    rows = client.query(
        f"""
        SELECT {", ".join(f"alert.{name} AS {name}" for name in _ALERT)},
            progress.kind AS kind, progress.summary AS summary, progress.counted AS counted,
            progress.told AS told
        FROM {settings.database}.raw_alerts AS alert FINAL
        LEFT JOIN (SELECT * FROM {settings.database}.raw_alert_progress FINAL) AS progress
        ON progress.id = alert.id
        WHERE alert.state = 'firing' OR alert.updated_at > {{since:DateTime64(3, 'UTC')}}
        """,  # noqa: S608 - names of ours, values are bound
        parameters={"since": now - _UNTOLD},
    ).named_results()
    found = []
    latest = now
    for row in rows:
        latest = max(latest, _aware(row["updated_at"]))
        one = _incident(row)
        if one.kind != "test" and mine(one.subject):
            found.append(one)
    return found, latest


def existing(client: Client, settings: Settings, ids: Collection[str]) -> frozenset[str]:
    """Which of these ids were used already."""
    found: set[str] = set()
    for part in _parts(sorted(ids)):
        rows = client.query(
            f"SELECT DISTINCT id FROM {settings.database}.raw_alerts WHERE id IN {{ids:Array(String)}}",  # noqa: S608
            parameters={"ids": part},
        ).result_rows
        found.update(id_ for (id_,) in rows)
    return frozenset(found)


def first_seen(client: Client, settings: Settings, pairs: Collection[Subject]) -> dict[Subject, FirstSeen]:
    """When callers, and callers with destinations, were first seen, as far as it is stored."""
    callers: dict[tuple[Any, ...], datetime] = {}
    destinations: dict[Subject, datetime] = {}
    names = sorted({one.source_workload or one.source_ip or "" for one in pairs})
    for part in _parts(names):
        rows = client.query(
            f"""
            SELECT {", ".join(_SOURCE)}, destination_host, destination_port, min(seen.first_seen) AS first
            FROM {settings.database}.raw_view_destinations AS seen
            WHERE coalesce(source_workload, source_ip, '') IN {{names:Array(String)}}
                AND NOT labels = ['blackhole']
            GROUP BY {", ".join(_SOURCE)}, destination_host, destination_port
            """,  # noqa: S608 - names of ours, values are bound
            parameters={"names": part},
        ).result_rows
        for *subject, first in rows:
            when = _aware(first)
            pair = Subject(*subject)
            destinations[pair] = min(when, destinations.get(pair, when))
            callers[pair[:4]] = min(when, callers.get(pair[:4], when))
    return {one: FirstSeen(callers.get(one[:4]), destinations.get(one)) for one in pairs}


def volumes(client: Client, settings: Settings, since: datetime, until: datetime) -> list[Volume]:
    """What workloads sent out of the mesh per minute, beside the busiest of the 168 hours before.

    Only minutes of more than a megabyte. Blocked attempts send nothing, and calls inside the mesh are no
    egress.
    """
    sent = "sum(row.bytes_received)"
    outside = "row.hop != 'gateway' AND row.label != 'blackhole' AND row.destination_scope != 'mesh'"
    rows = client.query(
        f"""
        WITH minutes AS
        (
            SELECT {", ".join(_SOURCE)}, window_start, {sent} AS bytes, max(row.last_event) AS last
            FROM {settings.database}.windows_1m AS row
            WHERE window_start >= {{since:DateTime('UTC')}} AND window_start < {{until:DateTime('UTC')}}
                AND {outside}
            GROUP BY {", ".join(_SOURCE)}, window_start HAVING bytes > 1000000
        )
        SELECT {", ".join(f"minutes.{name}" for name in _SOURCE)}, window_start, bytes, last, busiest, hours
        FROM minutes
        LEFT JOIN
        (
            SELECT who, max(hour_bytes) AS busiest, count() AS hours
            FROM
            (
                SELECT {_who("row")} AS who, window_start, {sent} AS hour_bytes
                FROM {settings.database}.windows_1h AS row
                WHERE window_start >= {{before:DateTime('UTC')}} AND window_start < {{hour:DateTime('UTC')}}
                    AND {outside} AND {_who("row")} IN (SELECT {_who("minutes")} FROM minutes)
                GROUP BY who, window_start
            )
            GROUP BY who
        ) AS usual
        ON usual.who = {_who("minutes")}
        """,  # noqa: S608 - names of ours, values are bound
        parameters={
            "since": since,
            "until": until,
            "before": since - timedelta(days=7),
            "hour": since.replace(minute=0, second=0, microsecond=0),
        },
    ).result_rows
    return [
        Volume(Subject(*source), _aware(minute), bytes_, busiest, hours, _aware(last))
        for *source, minute, bytes_, last, busiest, hours in rows
    ]


def _who(table: str) -> str:
    """A source as one text that is never NULL."""
    return "concat(" + ", ' ', ".join(f"ifNull({table}.{name}, '')" for name in _SOURCE) + ")"


def _incident(row: dict[str, Any]) -> Incident:
    details = json.loads(row["details"] or "{}")
    counted = {name: tuple(value) for name, value in json.loads(row["counted"] or "{}").items()}
    return Incident(
        id=row["id"],
        rule=row["rule"],
        kind=row["kind"] or row["rule"],
        severity=row["severity"],
        state=row["state"],
        subject=Subject(*(row[name] for name in Subject._fields)),
        first_seen=_aware(row["first_seen"]),
        last_seen=_aware(row["last_seen"]),
        settled=row["count"] - sum(count for _, count in counted.values()),
        summary=row["summary"] or details.get("summary", ""),
        details={name: value for name, value in details.items() if name != "summary"},
        counted=counted,
        told=dict(row["told"]),
    )


def _parts(values: Iterable[str]) -> Iterable[list[str]]:
    listed = list(values)
    return (listed[at : at + _KEYS] for at in range(0, len(listed), _KEYS))


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
