"""The reports of `egresslens report`, in pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from egresslens.console.answers import Context
from egresslens.console.models import Count, Model, Range, Sql, Time
from egresslens.console.params import Filtered
from egresslens.report import REPORTS, ask
from egresslens.report.ask import Page, console_question, per_workload, report_question


class ReportParams(Filtered):
    """Which rows of a report."""

    limit: int = Field(500, ge=1, le=10_000, description="Rows at most.")
    offset: int = Field(0, ge=0, le=1_000_000, description="Rows to leave out at the beginning.")


class Caller(Model):
    """Who called."""

    source_cluster: str | None
    source_namespace: str | None
    source_workload: str | None
    source_ip: str | None


class Call(Caller):
    """Who called what."""

    destination_host: str | None
    destination_port: int | None


class External(Call):
    """Calls of an external host."""

    label: str
    destination_scope: str | None
    service_entry: str | None
    requests: Count
    errors: Count
    bytes_received: Count
    bytes_sent: Count
    p50_ms: float | None
    p95_ms: float | None
    first_seen: Time
    last_seen: Time


class Database(Call):
    """Use of a database, broker or cache."""

    label: str
    destination_kind: str | None
    destination_kind_reason: str | None
    destination_kind_confidence: str | None
    destination_scope: str | None
    service_entry: str | None
    requests: Count
    errors: Count
    bytes_written: Count
    bytes_read: Count
    first_seen: Time
    last_seen: Time


class Region(Call):
    """Traffic between a workload's home and a destination's region."""

    home_regions: list[str]
    destination_region: str | None
    place: Literal["in region", "out of region", "unknown"]
    confidence: str
    reason: str
    requests: Count
    bytes_received: Count
    bytes_sent: Count
    first_seen: Time
    last_seen: Time
    residency_policy: str | None
    residency: str | None
    residency_reason: str | None


class Blocked(Call):
    """Attempts that were blocked."""

    attempts: Count
    proved_by: list[str]
    service_entry: str | None
    first_seen: Time
    last_seen: Time


class New(Call):
    """A destination first seen in the range."""

    labels: list[str]
    destination_scope: str | None
    destination_kind: str | None
    service_entry: str | None
    requests: Count
    first_seen: Time
    last_seen: Time
    new_to: Literal["mesh", "workload"]


class Mode(Model):
    """The outbound policy that a namespace is seen to run."""

    source_cluster: str | None
    source_namespace: str | None
    mode: Literal["ALLOW_ANY", "REGISTRY_ONLY", "both", "unknown"]
    evidence: str
    passthrough: Count
    blocked: Count
    registered: Count
    let_out: list[str]
    turned_away: list[str]
    first_passthrough: Time | None
    last_passthrough: Time | None
    first_blocked: Time | None
    last_blocked: Time | None


class Coverage(Caller):
    """What the evidence cannot see of a workload."""

    pods: Count
    with_sidecar: Count
    records: Count
    last_record: Time | None
    formats: list[str]
    findings: list[str]
    lacking: list[str]


class Home(Caller):
    """A workload's traffic in its home region and out of it."""

    home_regions: list[str]
    in_region_requests: Count
    in_region_bytes: Count
    out_of_region_requests: Count
    out_of_region_bytes: Count
    unknown_requests: Count
    unknown_bytes: Count


class Flow(Model):
    """Traffic from home regions (joined by commas) to a region."""

    home_region: str | None
    destination_region: str | None
    place: str
    requests: Count
    bytes_received: Count
    bytes_sent: Count


Row = TypeVar("Row", bound=BaseModel)


class Report(Model, Generic[Row]):
    """A report's rows."""

    report: str
    title: str
    range: Range
    not_judged: Count = Field(description="Destinations that no judgement was made for yet.")
    rows: list[Row]
    more: bool = Field(description="Whether there are rows after these.")
    sql: list[Sql]


class Regions(Report[Region]):
    """The report of the regions, with its sums."""

    workloads: list[Home] = Field(description="Of the rows given.")
    matrix: list[Flow] = Field(description="Of all rows.")


_ROWS: Final[dict[str, type[BaseModel]]] = {
    "external": External,
    "databases": Database,
    "blocked": Blocked,
    "new": New,
    "modes": Mode,
    "coverage": Coverage,
}
ANSWERS: Final[dict[str, type[BaseModel]]] = {
    **{name: Report[row] for name, row in _ROWS.items()},  # type: ignore[valid-type] # rows by report
    "regions": Regions,
}


def report(name: str) -> Callable[[Context, ReportParams], BaseModel]:
    """The answer for one report of REPORTS."""

    def answer(context: Context, params: ReportParams) -> BaseModel:
        settings, selection = context.settings, params.selection
        period = params.period(settings, context.now)
        page = Page(params.limit + 1, params.offset)
        found = ask(context.reader, settings, name, period, selection, page)
        rows = found.rows.head(params.limit)
        sql = [Sql.of(name, report_question(settings, name, period, selection, page))]
        more = {}
        if name == "regions":
            matrix = console_question(settings, "matrix", period, selection)
            more = {
                "workloads": list(per_workload(rows).iter_rows(named=True)),
                "matrix": list(matrix.frame(context.reader).iter_rows(named=True)),
            }
            sql.append(Sql.of("matrix", matrix))
        return ANSWERS[name](
            report=name,
            title=REPORTS[name].title,
            range=Range.of(period),
            not_judged=found.not_judged,
            rows=list(rows.iter_rows(named=True)),
            more=found.rows.height > params.limit,
            sql=sql,
            **more,
        )

    return answer
