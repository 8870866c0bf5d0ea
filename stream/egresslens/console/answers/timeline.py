"""Traffic over time, by label."""

from __future__ import annotations

from egresslens.console.answers import Context
from egresslens.console.answers.edge import Point
from egresslens.console.models import Model, Range, Sql
from egresslens.console.params import Labelled
from egresslens.report.ask import console_question


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
    question = console_question(context.settings, "timeline", period, params.selection, labels=params.labels)
    rows = question.frame(context.reader).iter_rows(named=True)
    return Timeline(
        range=Range.of(period), points=[LabelPoint(**row) for row in rows], sql=[Sql.of("timeline", question)]
    )
