"""Removing what should never have been stored, from every table.

Whole days (UTC) only: hours and days are sums, and a part of a sum cannot be taken out. Destinations are kept
by month, so the months that the days touch are rolled up again from what is left. An incident goes as a whole
if any of its days does. Judgements have no days: those of what is no longer seen go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from egresslens.clickhouse.delete import delete
from egresslens.registry.refresh import forget
from egresslens.settings import Settings

# Table -> the day of its rows.
_DAYS: Final[Mapping[str, str]] = {
    "raw_events": "toDate(event_time)",
    "raw_windows_1m": "toDate(window_start)",
    "raw_windows_1h": "toDate(window_start)",
    "raw_windows_1d": "toDate(window_start)",
}
_DEAD_LETTERS: Final = "raw_dead_letters"
_DESTINATIONS: Final = "raw_destinations"
_ROLLED: Final = "raw_rolled"
_ALERTS: Final = "raw_alerts"
_ALERT_PROGRESS: Final = "raw_alert_progress"
_KEYS: Final = 1_000

# Tables that name workloads or hosts and that no purge touches, and why.
KEPT: Final[Mapping[str, str]] = {
    "raw_registry": "what you declared, with its history",
    "raw_pods": "the pods that you declared",
    "raw_purges": "what was purged",
}


@dataclass(frozen=True)
class Target:
    """What is to be removed; None means any, but one of the three names must be given."""

    first_day: date
    last_day: date
    source_namespace: str | None = None
    source_workload: str | None = None
    destination_host: str | None = None

    @property
    def names(self) -> dict[str, str]:
        """The given names, by column."""
        columns = ("source_namespace", "source_workload", "destination_host")
        return {name: getattr(self, name) for name in columns if getattr(self, name) is not None}


def count(client: Client, settings: Settings, target: Target) -> dict[str, int]:
    """Rows that a purge would remove, by table; judgements, which follow from them, are not counted.

    Raises:
        clickhouse_connect.driver.exceptions.Error: a query failed.
    """
    rows = {
        table: client.query(
            f"SELECT count() FROM {settings.database}.{table} WHERE {where}",  # noqa: S608 - names of ours, values are bound
            parameters=_parameters(target),
        ).result_rows[0][0]
        for table, where in _conditions(target).items()
    }
    return {**rows, _ALERT_PROGRESS: len(_incidents(client, settings, target))}


def purge(client: Client, settings: Settings, target: Target) -> dict[str, int]:
    """Remove the rows, wait until they are gone, and remember that it was done; the rows removed, by table.

    Raises:
        clickhouse_connect.driver.exceptions.Error: a statement failed; what is removed stays removed.
    """
    rows = count(client, settings, target)
    # Their conditions are the alerts' columns: they go first.
    ids = _incidents(client, settings, target)
    for at in range(0, len(ids), _KEYS):
        part = {"ids": ids[at : at + _KEYS]}
        delete(client, settings, _ALERT_PROGRESS, "id IN {ids:Array(String)}", part)
    for table, where in _conditions(target).items():
        if rows[table]:
            delete(client, settings, table, where, _parameters(target))
    if rows[_DESTINATIONS]:
        months = (
            "tier = '1M' AND toDate(window_start) >= toStartOfMonth({first_day:Date}) "
            "AND toDate(window_start) <= {last_day:Date}"
        )
        delete(client, settings, _ROLLED, months, _parameters(target))
    rows |= forget(client, settings)
    client.insert(
        f"{settings.database}.raw_purges",
        [[*(target.names.get(name) for name in ("source_namespace", "source_workload", "destination_host")),
          target.first_day, target.last_day, rows]],
        column_names=[
            "source_namespace", "source_workload", "destination_host", "first_day", "last_day", "rows",
        ],
    )  # fmt: skip
    return rows


def _incidents(client: Client, settings: Settings, target: Target) -> list[str]:
    """Ids of the incidents that are to be removed."""
    rows = client.query(
        f"SELECT DISTINCT id FROM {settings.database}.{_ALERTS} WHERE {_conditions(target)[_ALERTS]} "  # noqa: S608 - as above
        "ORDER BY id",
        parameters=_parameters(target),
    ).result_rows
    return [id_ for (id_,) in rows]


def _conditions(target: Target) -> dict[str, str]:
    named = " AND ".join(f"{name} = {{{name}:String}}" for name in target.names)
    within = "BETWEEN {first_day:Date} AND {last_day:Date}"

    def mentioned(column: str) -> str:
        return " AND ".join(f"position({column}, {{{name}:String}}) > 0" for name in target.names)

    months = (
        "toDate(window_start) >= toStartOfMonth({first_day:Date}) AND toDate(window_start) <= {last_day:Date}"
    )
    return {
        **{table: f"{named} AND {day} {within}" for table, day in _DAYS.items()},
        _DESTINATIONS: f"{named} AND {months}",
        # A storm names others in its text only, and a dead letter has no fields: those that mention all of
        # the names go.
        _ALERTS: f"(({named}) OR (rule = 'storm' AND {mentioned('details')})) "
        "AND toDate(first_seen) <= {last_day:Date} AND toDate(last_seen) >= {first_day:Date}",
        _DEAD_LETTERS: f"{mentioned('raw')} AND toDate(kafka_timestamp) {within}",
    }


def _parameters(target: Target) -> dict[str, Any]:
    return {**target.names, "first_day": target.first_day, "last_day": target.last_day}
