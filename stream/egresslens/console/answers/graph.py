"""The graph: who called what, one edge per source, label and destination."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final, Literal

import polars as pl
from pydantic import Field

from egresslens.console.answers import Context
from egresslens.console.models import Count, Model, Range, Sql, Time
from egresslens.console.params import Labelled
from egresslens.judge.domains import owner_domain
from egresslens.record import OTHER
from egresslens.registry.value import parse_ip
from egresslens.report import Period
from egresslens.report.ask import Narrowed, Question, console_question, count_not_judged

GroupSource = Literal["workload", "namespace"]
GroupDestination = Literal["host", "domain"]

MAX_EDGES: Final = 10_000
# Edges that are read before they are put together by domain; more are summed as one.
_READ: Final = 100_000
_SOURCE: Final = ("source_cluster", "source_namespace", "source_workload", "source_ip")
_SUMMED: Final = ("requests", "errors", "mismatches", "bytes_sent", "bytes_received", "edges")
_JUDGED: Final = ("destination_scope", "destination_kind", "destination_region", "service_entry")


class GraphParams(Labelled):
    """Which graph."""

    group_source: GroupSource = Field("workload", description="What is an edge's source.")
    group_destination: GroupDestination = Field(
        "host", description="What is its destination: host and port, or the registrable domain."
    )
    measure: Literal["requests", "bytes"] = Field(
        "requests", description="By what the heaviest edges are chosen."
    )
    limit: int = Field(
        1_000, ge=1, le=MAX_EDGES, description="Edges at most; the rest is summed as `(other)`."
    )


class Edge(Model):
    """Traffic of one source, label and destination.

    With destination_host `(other)`: all edges of a label beyond the limit. `bytes_received` is what the
    source sent out, as its proxy received it.
    """

    source_cluster: str | None
    source_namespace: str | None
    source_workload: str | None
    source_ip: str | None
    label: str
    destination_host: str | None
    destination_domain: str | None = Field(description="Registrable domain; an address is its own.")
    destination_port: int | None
    destination_scope: str | None
    destination_kind: str | None
    destination_region: str | None
    service_entry: str | None = Field(description="The ServiceEntry that covers it today: namespace/name.")
    registered_at: Time | None = Field(description="When that ServiceEntry came in, as far as it is stored.")
    is_new: bool = Field(description="The mesh saw it first, or its ServiceEntry came in, within the range.")
    requests: Count
    errors: Count
    mismatches: Count
    bytes_sent: Count
    bytes_received: Count
    sources: Count = Field(description="Workloads (or addresses) in it.")
    destinations: Count = Field(description="Hosts with ports in it.")
    first_seen: Time
    last_seen: Time


class Totals(Model):
    """Of all edges, also of those left off."""

    requests: Count
    errors: Count
    blocked: Count = Field(description="Requests with label blackhole.")
    registered: Count = Field(description="Requests with label outbound.")
    bytes_sent: Count
    bytes_received: Count
    sources: Count
    destinations: Count
    edges: Count


class LeftOff(Model):
    """What is summed as `(other)`."""

    edges: Count
    requests: Count


class Graph(Model):
    """Who called what."""

    range: Range
    totals: Totals
    left_off: LeftOff
    not_judged: Count = Field(description="Destinations that no judgement was made for yet.")
    edges: list[Edge]
    sql: list[Sql]


def graph(context: Context, params: GraphParams) -> Graph:
    """The whole graph of the range, the heaviest edges first."""
    period = params.period(context.settings, context.now)
    is_by_domain = params.group_destination == "domain"
    question = edges_question(
        context, period, params.selection, params.labels, params.measure,
        limit=_READ if is_by_domain else params.limit, group_source=params.group_source,
    )  # fmt: skip
    rows = question.frame(context.reader)
    news = first_seen_question(context, period, params.selection)
    total = _totals(rows)
    if is_by_domain:
        rows = by_domain(rows, params.limit, params.measure)
    edges = to_edges(context, rows, period, new_destinations(news.frame(context.reader)))
    other = rows.filter(pl.col("destination_host") == OTHER).filter(_is_rest())
    return Graph(
        range=Range.of(period),
        totals=total,
        left_off=LeftOff(edges=int(other["edges"].sum()), requests=int(other["requests"].sum())),
        not_judged=count_not_judged(context.reader, context.settings, period, params.selection),
        edges=edges,
        sql=[Sql.of("edges", question), Sql.of("new", news)],
    )


def edges_question(
    context: Context,
    period: Period,
    narrowed: Narrowed,
    labels: Sequence[str],
    measure: str,
    *,
    limit: int,
    group_source: str,
) -> Question:
    """The question for edges."""
    return console_question(
        context.settings,
        "edges",
        period,
        narrowed,
        labels=list(labels),
        measure=measure,
        edges=limit,
        by_namespace=group_source == "namespace",
    )


def first_seen_question(context: Context, period: Period, narrowed: Narrowed) -> Question:
    """The question for what the mesh saw first within the range."""
    return console_question(context.settings, "first_seen", period, narrowed)


def to_edges(
    context: Context, rows: pl.DataFrame, period: Period, new: frozenset[tuple[Any, ...]]
) -> list[Edge]:
    """Rows of the question for edges as edges."""
    registered = registered_at(context, rows)
    found = []
    for row in rows.iter_rows(named=True):
        since = registered.get((row["source_cluster"] or "", row["service_entry"]))
        where = _where(row)
        is_new = where in new or (since is not None and period.since <= since < period.until)
        values = {name: row[name] for name in Edge.model_fields if name in row}
        found.append(
            Edge(
                **{
                    **values,
                    "destination_domain": row.get("destination_domain") or domain_of(row["destination_host"]),
                    "registered_at": since,
                    "is_new": is_new,
                }
            )
        )
    return found


def domain_of(host: str | None) -> str | None:
    """The registrable domain of a host; an address or a name without one is its own."""
    if host is None or host == OTHER or parse_ip(host.strip("[]")) is not None:
        return host
    return owner_domain(host.lower().rstrip(".")) or host


def registered_at(context: Context, rows: pl.DataFrame) -> dict[tuple[str, str | None], datetime]:
    """When the ServiceEntries of these rows came in, by the rows' cluster and the entry."""
    wanted = rows.select("source_cluster", "service_entry").drop_nulls("service_entry").unique()
    if wanted.is_empty():
        return {}
    found = {
        (row["cluster"], row["entry"]): row["since"].replace(tzinfo=timezone.utc)
        for row in context.reader.query(
            f"""
            SELECT cluster, entry, min(valid_from) AS since
            FROM
            (
                SELECT
                    cluster, concat(namespace, '/', name) AS entry, valid_from, removed,
                    maxIf(valid_from, removed) OVER (PARTITION BY cluster, namespace, name) AS gone
                FROM {context.settings.database}.registry
                WHERE kind = 'ServiceEntry'
            )
            WHERE NOT removed AND valid_from > gone
            GROUP BY cluster, entry
            """  # noqa: S608 - a name by its pattern
        ).named_results()
    }
    return {
        (cluster or "", entry): since
        for cluster, entry in wanted.iter_rows()
        if (since := found.get((cluster or "", entry), found.get(("", entry)))) is not None
    }


def _where(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["source_cluster"], row["destination_host"], row["destination_port"]


def new_destinations(rows: pl.DataFrame) -> frozenset[tuple[Any, ...]]:
    """Destinations seen first within the range; and, without host and port, the domains of which all are."""
    return frozenset(map(_where, rows.iter_rows(named=True)))


def _totals(rows: pl.DataFrame) -> Totals:
    def of(name: str, label: str | None = None) -> int:
        return int((rows.filter(pl.col("label") == label) if label else rows)[name].sum())

    return Totals(
        **{name: of(name) for name in ("requests", "errors", "bytes_sent", "bytes_received", "edges")},
        blocked=of("requests", "blackhole"),
        registered=of("requests", "outbound"),
        sources=_first(rows, "all_sources"),
        destinations=_first(rows, "all_destinations"),
    )


def _first(rows: pl.DataFrame, name: str) -> int:
    return int(rows[name][0]) if rows.height else 0


def _is_rest() -> pl.Expr:
    """Rows that stand for edges beyond a limit; a window's own `(other)` has a source."""
    return (
        pl.all_horizontal(pl.col(name).is_null() for name in _SOURCE) & pl.col("destination_port").is_null()
    )


def by_domain(rows: pl.DataFrame, limit: int, measure: str) -> pl.DataFrame:
    """Put edges together by registrable domain, and what is beyond the limit by label."""
    weight = pl.col("requests") if measure == "requests" else pl.col("bytes_sent") + pl.col("bytes_received")
    domains = {host: domain_of(host) for host in rows["destination_host"].unique() if host is not None}
    grouped = _together(
        rows.with_columns(
            pl.col("destination_host")
            .replace_strict(domains, return_dtype=pl.String)
            .alias("destination_domain"),
            _is_rest().alias("rest"),
        ),
        (*_SOURCE, "label", "destination_domain", "rest"),
    )
    turns = grouped.with_columns(weight.rank("ordinal", descending=True).over("label").alias("turn"))
    ordered = turns.sort("rest", "turn", weight, "label", descending=[False, False, True, False])
    kept = (pl.int_range(pl.len()) < limit) & ~pl.col("rest")
    split = ordered.with_columns(kept.alias("kept"))
    rest = split.filter(~pl.col("kept")).with_columns(
        *(pl.lit(None, pl.String).alias(name) for name in _SOURCE), pl.lit(OTHER).alias("destination_domain")
    )
    put = [split.filter("kept"), _together(rest, (*_SOURCE, "label", "destination_domain", "kept"))]
    return (
        pl.concat(put, how="diagonal")
        .with_columns(
            pl.when("kept").then(None).otherwise(pl.lit(OTHER)).alias("destination_host"),
            pl.lit(None, pl.Int64).alias("destination_port"),
        )
        .sort("kept", "requests", "destination_domain", descending=[True, True, False])
    )


def _together(rows: pl.DataFrame, key: Iterable[str]) -> pl.DataFrame:
    """Sum rows of one key; where judgements differ, there is none."""
    return rows.group_by(*key, maintain_order=True).agg(
        *(pl.col(name).sum() for name in (*_SUMMED, "destinations")),
        pl.col("sources").max(),
        *(pl.when(pl.col(name).n_unique() == 1).then(pl.col(name).first()).alias(name) for name in _JUDGED),
        pl.col("first_seen").min(),
        pl.col("last_seen").max(),
    )
