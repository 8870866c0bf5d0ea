"""Incidents that the alerts found."""

from __future__ import annotations

from typing import Literal

import orjson
from pydantic import Field

from egresslens.console.answers import Context
from egresslens.console.answers.reports import Call
from egresslens.console.models import Count, Model, Range, Sql, Time
from egresslens.console.params import Filtered, Text
from egresslens.report.ask import Question


class AlertsParams(Filtered):
    """Which incidents: seen last in the range, or still going on."""

    state: Literal["firing", "resolved"] | None = Field(None, description="Only this state.")
    rule: Text | None = Field(None, description="Only of this rule.")
    severity: Literal["info", "warning", "critical"] | None = Field(
        None, description="Only of this severity."
    )
    limit: int = Field(200, ge=1, le=2_000, description="Incidents at most.")
    offset: int = Field(0, ge=0, le=1_000_000, description="Incidents to leave out at the beginning.")


class Alert(Call):
    """An incident as it is now."""

    id: str
    rule: str
    severity: str
    state: str
    summary: str | None
    first_seen: Time
    last_seen: Time
    count: Count
    details: dict[str, str]
    updated_at: Time


class Alerts(Model):
    """Incidents: those that go on first, then the latest."""

    range: Range
    rows: list[Alert]
    more: bool
    sql: list[Sql]


def alerts(context: Context, params: AlertsParams) -> Alerts:
    """The incidents."""
    period = params.period(context.settings, context.now)
    own = {
        name: value for name in ("state", "rule", "severity") if (value := getattr(params, name)) is not None
    }
    columns = {
        "namespace": "row.source_namespace = {namespace:String}",
        "workload": "row.source_workload = {workload:String}",
    }
    tests = [
        *(columns.get(name, test) for name, test in params.selection.conditions().items()),
        *(f"row.{name} = {{{name}:String}}" for name in own),
    ]
    question = Question(
        f"SELECT * FROM {context.settings.database}.alerts AS row "  # noqa: S608 - conditions of ours, values are bound
        "WHERE row.first_seen < {until:DateTime('UTC')} "
        "AND (row.last_seen >= {since:DateTime('UTC')} OR row.state = 'firing')"
        + "".join(f" AND {test}" for test in tests)
        + " ORDER BY state = 'firing' DESC, last_seen DESC, id LIMIT {limit:UInt32} OFFSET {offset:UInt32}",
        {
            "since": period.since, "until": period.until, **params.selection.parameters(), **own,
            "limit": params.limit + 1, "offset": params.offset,
        },
    )  # fmt: skip
    found = question.frame(context.reader)
    return Alerts(
        range=Range.of(period),
        rows=[_alert(row) for row in found.head(params.limit).iter_rows(named=True)],
        more=found.height > params.limit,
        sql=[Sql.of("alerts", question)],
    )


def _alert(row: dict[str, object]) -> Alert:
    details = orjson.loads(str(row["details"] or "{}"))
    summary = details.pop("summary", None)
    return Alert(
        **{**row, "summary": summary, "details": {name: str(value) for name, value in details.items()}}
    )
