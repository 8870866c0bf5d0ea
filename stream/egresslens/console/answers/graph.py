"""The graph: who called what, one edge per source, label and destination."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Final, Literal

import polars as pl
from pydantic import Field

from egresslens.console.answers import Context
from egresslens.console.models import Count, Model, Range, Sql, Time
from egresslens.console.params import Labelled
from egresslens.console.problems import Problem
from egresslens.judge.domains import owner_domain
from egresslens.record import OTHER, TIMESTAMP
from egresslens.registry.value import parse_ip
from egresslens.report import Period
from egresslens.report.ask import Narrowed, Question, console_question

GroupSource = Literal["workload", "namespace"]
GroupDestination = Literal["host", "domain"]

MAX_EDGES: Final = 10_000
# Where it is left to us: with more than these a picture is a tangle.
_MANY_SOURCES: Final = 60
_MANY_DESTINATIONS: Final = 120
# Edges that are read; more than these nobody could look at, and putting them together would take too long.
_READ: Final = 500_000
_SOURCE: Final = ("source_cluster", "source_namespace", "source_workload", "source_ip")
_DESTINATION: Final = ("destination_host", "destination_port")
_SUMMED: Final = ("requests", "errors", "mismatches", "bytes_sent", "bytes_received")
_JUDGED: Final = ("destination_scope", "destination_kind", "destination_region", "service_entry")

# What is read: one row per source, label and destination. seen_first: nobody called that before the range.
EDGES: Final[dict[str, pl.DataType]] = {
    **{name: pl.String() for name in (*_SOURCE, "label", "destination_host")},
    "destination_port": pl.Int64(),
    **{name: pl.String() for name in _JUDGED},
    "is_not_judged": pl.Boolean(),
    **{name: pl.Int64() for name in _SUMMED},
    "first_seen": TIMESTAMP,
    "last_seen": TIMESTAMP,
    "seen_first": pl.Boolean(),
}
# When ServiceEntries came in, by cluster ("" for all) and entry (None is nobody's).
Registered = dict[tuple[str, "str | None"], datetime]


class GraphParams(Labelled):
    """Which graph."""

    group_source: GroupSource | Literal["auto"] = Field(
        "workload",
        description=f"What is an edge's source; auto: namespace, if there are more than {_MANY_SOURCES}.",
    )
    group_destination: GroupDestination | Literal["auto"] = Field(
        "host",
        description="What is its destination: host and port, or the registrable domain; "
        f"auto: domain, if there are more than {_MANY_DESTINATIONS}.",
    )
    measure: Literal["requests", "bytes"] = Field(
        "requests", description="By what the heaviest edges are chosen."
    )
    limit: int = Field(
        1_000, ge=1, le=MAX_EDGES, description="Edges at most; the rest is summed as `(other)`."
    )

    def groups(self, sources: int, destinations: int) -> tuple[GroupSource, GroupDestination]:
        """What edges are of, in a graph of so many sources and destinations."""
        source, destination = self.group_source, self.group_destination
        if source == "auto":
            source = "namespace" if sources > _MANY_SOURCES else "workload"
        if destination == "auto":
            destination = "domain" if destinations > _MANY_DESTINATIONS else "host"
        return source, destination


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
    group_source: GroupSource = Field(description="What each edge's source is.")
    group_destination: GroupDestination = Field(description="What each edge's destination is.")
    totals: Totals
    left_off: LeftOff
    not_judged: Count = Field(description="Destinations that no judgement was made for yet.")
    edges: list[Edge]
    sql: list[Sql]


def graph(context: Context, params: GraphParams) -> Graph:
    """The whole graph of the range, the heaviest edges first.

    Raises:
        Problem: there are more edges than anybody could look at.
    """
    period = params.period(context.settings, context.now)
    question = edges_question(context, period, params.selection, params.labels)
    # Beside each other, so that one need not wait for the other.
    with ThreadPoolExecutor(max_workers=1) as beside:
        registered = beside.submit(registered_at, context)
        rows = read_edges(context, question)
    sources, destinations = rows.select(*_SOURCE).n_unique(), rows.select(*_DESTINATION).n_unique()
    group_source, group_destination = params.groups(sources, destinations)
    grouped = grouped_edges(rows, group_source, group_destination)
    kept, rest = fair(grouped, params.limit, params.measure)
    return Graph(
        range=Range.of(period),
        group_source=group_source,
        group_destination=group_destination,
        totals=_totals(rows, sources, destinations, grouped.height),
        left_off=LeftOff(edges=int(rest["edges"].sum()), requests=int(rest["requests"].sum())),
        not_judged=_not_judged(rows),
        edges=to_edges(pl.concat([kept, rest]), registered.result(), period),
        sql=[Sql.of("edges", question)],
    )


def edges_question(context: Context, period: Period, narrowed: Narrowed, labels: Sequence[str]) -> Question:
    """The question for edges."""
    return console_question(
        context.settings,
        "edges",
        period,
        narrowed,
        labels=list(labels),
        limit=_READ + 1,
    )


def read_edges(context: Context, question: Question) -> pl.DataFrame:
    """Ask it: EDGES.

    Raises:
        Problem: there are too many.
    """
    found = question.arrow(context.reader)
    if found.height > _READ:
        raise Problem(
            "too-much",
            f"there are more than {_READ:,} edges",
        )
    if found.is_empty():
        return pl.DataFrame(schema=EDGES)
    return found.select(pl.col(name).cast(dtype) for name, dtype in EDGES.items())


def to_edges(rows: pl.DataFrame, registered: Registered, period: Period) -> list[Edge]:
    """Grouped rows as edges."""
    names = [name for name in rows.columns if name in Edge.model_fields]
    found = []
    for row in rows.select(*names, "seen_first").iter_rows(named=True):
        place = (row["source_cluster"] or "", row["service_entry"])
        since = registered.get(place, registered.get(("", row["service_entry"])))
        is_new = row.pop("seen_first") or (since is not None and period.since <= since < period.until)
        found.append(Edge(**row, registered_at=since, is_new=is_new))
    return found


def domain_of(host: str | None) -> str | None:
    """The registrable domain of a host; an address or a name without one is its own."""
    if host is None or host == OTHER or parse_ip(host.strip("[]")) is not None:
        return host
    return owner_domain(host.lower().rstrip(".")) or host


def registered_at(context: Context) -> Registered:
    """When the ServiceEntries that are there came in."""
    return {
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


def grouped_edges(
    rows: pl.DataFrame, group_source: GroupSource, group_destination: GroupDestination
) -> pl.DataFrame:
    """Put edges (EDGES) together: what is no longer told apart is null.

    A domain was seen first if all of its hosts and ports were.

    Returns:
        EDGES, with destination_domain, and the numbers of sources, destinations and edges in each.
    """
    domains = {host: domain_of(host) for host in rows["destination_host"].unique() if host is not None}
    domain = pl.col("destination_host").replace_strict(domains, return_dtype=pl.String)
    named = rows.with_columns(domain.alias("destination_domain"))
    alike = [
        *(("source_workload", "source_ip") if group_source == "namespace" else ()),
        *(("destination_host", "destination_port") if group_destination == "domain" else ()),
    ]
    key = [name for name in (*_SOURCE, "label", *_DESTINATION, "destination_domain") if name not in alike]
    if not alike:
        grouped = named.with_columns(pl.lit(1, pl.Int64).alias(name) for name in ("sources", "destinations"))
    else:
        nothing = (pl.lit(None, EDGES[name]).alias(name) for name in alike)
        grouped = _together(named, key).with_columns(*nothing)
    return grouped.with_columns(pl.lit(1, pl.Int64).alias("edges")).select(
        *EDGES, "destination_domain", "sources", "destinations", "edges"
    )


def fair(rows: pl.DataFrame, limit: int, measure: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Up to `limit` edges, and the rest summed by label.

    The heaviest of each label come in turn, so that a flood of one label (somebody's many names) never pushes
    out another's.
    """
    weight = pl.col("requests") if measure == "requests" else pl.col("bytes_sent") + pl.col("bytes_received")
    turn = weight.rank("ordinal", descending=True).over("label")
    ordered = rows.with_columns(turn.alias("turn"), weight.alias("weight")).sort(
        "turn", "weight", "label", descending=[False, True, False]
    )
    kept = ordered.head(limit).sort("weight", descending=True, maintain_order=True)
    rest = ordered.slice(limit)
    nothing = (
        pl.lit(None, rows.schema[name]).alias(name) for name in (*_SOURCE, "destination_port", *_JUDGED)
    )
    other = (pl.lit(OTHER).alias(name) for name in ("destination_host", "destination_domain"))
    count = rest.group_by("label").agg(pl.len().cast(pl.Int64).alias("edges"))
    summed = (
        _together(rest, ["label"])
        .join(count, on="label")
        .with_columns(*nothing, *other, seen_first=pl.lit(value=False))
        .sort("label")
    )
    return kept.select(rows.columns), summed.select(rows.columns)


def _not_judged(rows: pl.DataFrame) -> int:
    of = rows.filter("is_not_judged").select("source_cluster", "source_namespace", *_DESTINATION)
    return of.n_unique() if of.height else 0


def _totals(rows: pl.DataFrame, sources: int, destinations: int, edges: int) -> Totals:
    def of(name: str, label: str | None = None) -> int:
        return int((rows.filter(pl.col("label") == label) if label else rows)[name].sum())

    return Totals(
        **{name: of(name) for name in ("requests", "errors", "bytes_sent", "bytes_received")},
        blocked=of("requests", "blackhole"),
        registered=of("requests", "outbound"),
        sources=sources,
        destinations=destinations,
        edges=edges,
    )


def _together(rows: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Sum rows of one key; where judgements differ, there is none."""
    return rows.group_by(*key, maintain_order=True).agg(
        *(pl.col(name).sum() for name in _SUMMED),
        pl.struct(*_SOURCE).n_unique().cast(pl.Int64).alias("sources"),
        pl.struct(*_DESTINATION).n_unique().cast(pl.Int64).alias("destinations"),
        pl.col("is_not_judged").any(),
        pl.col("seen_first").all(),
        *(pl.when(pl.col(name).n_unique() == 1).then(pl.col(name).first()).alias(name) for name in _JUDGED),
        pl.col("first_seen").min(),
        pl.col("last_seen").max(),
    )
