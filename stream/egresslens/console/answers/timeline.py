"""Traffic over time, by label."""

from __future__ import annotations

from egresslens.console.answers import Context
from egresslens.console.answers.edge import Point
from egresslens.console.models import Model, Range, Sql
from egresslens.console.params import Labelled
from egresslens.report.ask import Question, console_question


class LabelPoint(Point):
    """Traffic of one label in one window."""

    label: str


class Timeline(Model):
    """Windows that hold traffic, in order."""

    range: Range
    points: list[LabelPoint]
    sql: list[Sql]


def timeline(context: Context, params: Labelled) -> Timeline:
    """Traffic per window and label."""
    period = params.period(context.settings, context.now)

    def asked(name: str) -> Question:
        return console_question(context.settings, name, period, params.selection, labels=params.labels)

    question = asked("timeline" if _names_callers(params) else "plain_timeline")
    rows = question.frame(context.reader)
    if "others" in rows.columns and rows["others"].sum():
        question = asked("timeline")
        rows = question.frame(context.reader)
    return Timeline(
        range=Range.of(period),
        points=[LabelPoint(**row) for row in rows.select(*LabelPoint.model_fields).iter_rows(named=True)],
        sql=[Sql.of("timeline", question)],
    )


def _names_callers(params: Labelled) -> bool:
    """Whether it must be known who had an address."""
    return params.namespace is not None or params.workload is not None
