"""One edge: its time line, codes, flags, latency, records, and the SQL behind each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import Field

from egresslens.clickhouse.text import like
from egresslens.console.answers import Context
from egresslens.console.answers.events import Record, records
from egresslens.console.answers.graph import (
    Edge,
    GroupDestination,
    GroupSource,
    domain_of,
    edges_question,
    grouped_edges,
    read_edges,
    registered_at,
    to_edges,
)
from egresslens.console.models import Count, Model, Range, Sql, Time
from egresslens.console.params import Label, Ranged, Text
from egresslens.console.problems import Problem
from egresslens.record import DURATION_BOUNDS_MS
from egresslens.report.ask import Question, console_question

_SOURCE_COLUMNS: Final = {
    "source_cluster": "row.source_cluster",
    "source_namespace": "coalesce(row.source_namespace, row.source_ip_namespace)",
    "source_workload": "coalesce(row.source_workload, row.source_ip_workload)",
    "source_ip": "if(coalesce(row.source_workload, row.source_ip_workload) IS NULL, row.source_ip, NULL)",
}


class EdgeParams(Ranged):
    """Which edge: what is left out is absent in it."""

    source_cluster: Text | None = None
    source_namespace: Text | None = None
    source_workload: Text | None = None
    source_ip: Text | None = None
    label: Label = Field(description="Its label.")
    destination_host: Text | None = None
    destination_port: int | None = Field(None, ge=0, le=65_535)
    destination_domain: Text | None = Field(
        None, description="With group_destination=domain; without it, what has no host."
    )
    group_source: GroupSource = Field("workload", description="As in the graph it was taken from.")
    group_destination: GroupDestination = Field("host", description="As in the graph it was taken from.")


class Point(Model):
    """Traffic of one window."""

    start: Time
    requests: Count
    errors: Count
    bytes_sent: Count
    bytes_received: Count


class Code(Model):
    """Requests by response code: 0 where no response began, null for what has none."""

    response_code: int | None
    requests: Count


class Latency(Model):
    """Durations; `counts` has one more element than `bounds_ms`, for what is longer."""

    p50_ms: float | None
    p95_ms: float | None
    max_ms: float | None
    bounds_ms: list[float]
    counts: list[Count]


class Flag(Model):
    """Records by response flag."""

    flag: str
    records: Count


class Proof(Model):
    """What decided the label."""

    label_evidence: str
    proof: str
    records: Count


class EdgeDetail(Model):
    """All about one edge."""

    range: Range
    edge: Edge
    timeline: list[Point]
    codes: list[Code]
    latency: Latency
    flags: list[Flag]
    evidence: list[Proof]
    records: Annotated[list[Record], Field(description="The newest 20, as long as single records are kept.")]
    records_kept: bool = Field(description="Whether single records of the whole range are kept.")
    destination_ips: list[str]
    sql: list[Sql]


@dataclass(frozen=True)
class Key:
    """An edge, exactly: absent is absent. `hosts` are those of a domain, None for one host and for none."""

    params: EdgeParams
    hosts: tuple[str, ...] | None

    def conditions(self) -> dict[str, str]:
        """Conditions on a row of a published view, by name."""
        names = list(_SOURCE_COLUMNS)
        if self.params.group_source == "namespace":
            names = names[:2]
        tests = {name: self._equal(name, _SOURCE_COLUMNS[name], "String") for name in names}
        if self.hosts is not None:
            return {**tests, "destination_hosts": "row.destination_host IN {destination_hosts:Array(String)}"}
        tests["destination_host"] = self._equal("destination_host", "row.destination_host", "String")
        if self.params.group_destination == "host":
            tests["destination_port"] = self._equal("destination_port", "row.destination_port", "Int32")
        return tests

    def parameters(self) -> dict[str, Any]:
        """Values of the conditions' parameters."""
        names = (name for name in self.conditions() if name != "destination_hosts")
        given = {name: getattr(self.params, name) for name in names}
        values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return values if self.hosts is None else {**values, "destination_hosts": list(self.hosts)}

    def _equal(self, name: str, column: str, type_: str) -> str:
        return f"{column} IS NULL" if getattr(self.params, name) is None else f"{column} = {{{name}:{type_}}}"


@dataclass(frozen=True)
class _Domain:
    """What may be of a domain, by its end."""

    domain: str

    def conditions(self) -> dict[str, str]:
        return {
            "domain": "(lower(row.destination_host) = {domain:String} "
            "OR row.destination_host ILIKE {under:String})"
        }

    def parameters(self) -> dict[str, Any]:
        return {"domain": self.domain, "under": like(f"*.{self.domain}*")}


def edge(context: Context, params: EdgeParams) -> EdgeDetail:
    """One edge of the graph.

    Raises:
        Problem: the range holds no such edge.
    """
    period = params.period(context.settings, context.now)
    labels = [params.label]
    key = Key(params, _hosts(context, params))

    def asked(name: str) -> Question:
        return console_question(context.settings, name, period, key, labels=labels)

    edges = edges_question(context, period, key, labels)
    found = read_edges(context, edges)
    if found.is_empty():
        raise Problem("not-found", "the range holds no traffic of this edge")
    rows = grouped_edges(found, params.group_source, params.group_destination)
    questions = {
        "edge": edges,
        "timeline": asked("timeline"),
        "codes": asked("codes"),
        "latency": asked("durations"),
        "flags": asked("flags"),
        "evidence": asked("evidence"),
        "records": asked("records"),
        "addresses": asked("addresses"),
    }
    # Two at once, as in the graph.
    with ThreadPoolExecutor(max_workers=2) as both:
        asking = {
            name: both.submit(one.frame, context.reader) for name, one in questions.items() if name != "edge"
        }
    answers = {name: one.result() for name, one in asking.items()}
    latency = answers["latency"].row(0, named=True)
    return EdgeDetail(
        range=Range.of(period),
        edge=to_edges(rows, registered_at(context), period)[0],
        timeline=[
            Point(**{name: row[name] for name in Point.model_fields})
            for row in answers["timeline"].iter_rows(named=True)
        ],
        codes=[Code(**row) for row in answers["codes"].iter_rows(named=True)],
        latency=Latency(
            p50_ms=latency["p50_ms"],
            p95_ms=latency["p95_ms"],
            max_ms=latency["max_ms"],
            bounds_ms=list(DURATION_BOUNDS_MS),
            counts=[int(one) for one in latency["counts"]],
        ),
        flags=[Flag(**row) for row in answers["flags"].iter_rows(named=True)],
        evidence=[Proof(**row) for row in answers["evidence"].iter_rows(named=True)],
        records=records(answers["records"]),
        records_kept=period.since >= context.now - timedelta(days=context.settings.events_ttl_days),
        destination_ips=answers["addresses"]["destination_ips"].explode().drop_nulls().to_list(),
        sql=[Sql.of(name, one) for name, one in questions.items()],
    )


def _hosts(context: Context, params: EdgeParams) -> tuple[str, ...] | None:
    """The hosts of the domain that is asked for; None where no domain is."""
    if params.group_destination == "host":
        return None
    if params.destination_host is not None:
        raise Problem(
            "parameter",
            "group_destination=domain takes `destination_domain` instead",
            parameter="destination_host",
        )
    if params.destination_domain is None:
        return None
    period = params.period(context.settings, context.now)
    found = console_question(
        context.settings, "hosts", period, _Domain(params.destination_domain), labels=[params.label]
    ).frame(context.reader)
    return tuple(host for host in found["destination_host"] if domain_of(host) == params.destination_domain)
