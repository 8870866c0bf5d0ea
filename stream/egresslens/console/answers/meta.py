"""What the page must know first: who asks, what is stored, and what the filters may be set to."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Final

from pydantic import Field

from egresslens import __version__
from egresslens.console.answers import Context
from egresslens.console.answers.graph import MAX_EDGES
from egresslens.console.models import Model, Range, Sql, Time
from egresslens.console.params import Ranged
from egresslens.record import STORED_LABELS
from egresslens.report import Selection
from egresslens.report.ask import console_question

_LISTED: Final = 1_000
_RECENT: Final = timedelta(hours=3)


class Workload(Model):
    """A caller."""

    source_cluster: str | None
    source_namespace: str | None
    source_workload: str | None


class Meta(Model):
    """About this console and what it reads."""

    version: str
    database: str
    store_version: str = Field(description="ClickHouse's version.")
    now: Time
    user: str | None = Field(description="Who asks; null where nobody needs to log in.")
    logout: bool = Field(description="Whether there is a session to end (POST logout, beside the API).")
    has_data: bool = Field(description="Whether anything was ever stored.")
    first_event: Time | None = Field(description="Of all windows that are kept: the first one's beginning.")
    last_event: Time | None = Field(description="The last window's beginning.")
    range: Range
    clusters: list[str] = Field(description="Of the callers in the range, as are namespaces and workloads.")
    namespaces: list[str]
    workloads: list[Workload]
    more: bool = Field(description="Whether there are more workloads than are listed.")
    labels: list[str]
    max_edges: int = Field(description="The greatest limit of the graph.")
    sql: list[Sql]


def meta(context: Context, params: Ranged) -> Meta:
    """About this console, and what the filters may be set to."""
    settings, reader = context.settings, context.reader
    period = params.period(settings, context.now)
    # Of hours that are not rolled up yet, only the minutes hold the names.
    recent = max(period.since, period.until - _RECENT)
    question = console_question(settings, "workloads", period, Selection(), recent=recent, limit=_LISTED + 1)
    found = question.frame(reader)
    listed = found.head(_LISTED)
    begin, end = _kept(context)
    return Meta(
        version=__version__,
        database=settings.database,
        store_version=reader.server_version,
        now=context.now,
        user=context.user,
        logout=context.settings.console_password_file is not None,
        has_data=begin is not None,
        first_event=begin,
        last_event=end,
        range=Range.of(period),
        clusters=listed["source_cluster"].drop_nulls().unique().sort().to_list(),
        namespaces=listed["source_namespace"].drop_nulls().unique().sort().to_list(),
        workloads=[Workload(**row) for row in listed.iter_rows(named=True)],
        more=found.height > _LISTED,
        labels=list(STORED_LABELS),
        max_edges=MAX_EDGES,
        sql=[Sql.of("workloads", question)],
    )


def _kept(context: Context) -> tuple[datetime | None, datetime | None]:
    """The first and the last window; ClickHouse answers it from what it knows of the tables' parts."""
    database = context.settings.database
    tiers = " UNION ALL ".join(
        f"SELECT min(window_start) AS first, max(window_start) AS last, count() AS held "  # noqa: S608 - names of ours
        f"FROM {database}.raw_windows_{tier}"
        for tier in ("1m", "1h", "1d")
    )
    rows = context.reader.query(
        f"SELECT min(first), max(last), count() FROM ({tiers}) WHERE held > 0"  # noqa: S608 - as above
    ).result_rows
    first, last, held = rows[0]
    if not held:
        return None, None
    return first.replace(tzinfo=timezone.utc), last.replace(tzinfo=timezone.utc)
