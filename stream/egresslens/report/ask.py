"""Asking the store for a report: the statement, narrowed by parameters, and its rows as a frame."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final, NamedTuple, Protocol

import polars as pl
from clickhouse_connect.driver.client import Client

from egresslens.clickhouse.schema import console_statements, report_statements, summed
from egresslens.clickhouse.text import like
from egresslens.record import TIMESTAMP
from egresslens.report.period import Period
from egresslens.settings import Settings

_SOURCE: Final = "source_cluster, source_namespace, source_workload, source_ip"
_CALL: Final = f"{_SOURCE}, destination_host, destination_port"


class Report(NamedTuple):
    """What a report answers, and in which order its rows come."""

    title: str
    order: str


REPORTS: Final[dict[str, Report]] = {
    "external": Report("Which workloads call which external hosts", f"requests DESC, {_CALL}"),
    "databases": Report("Which databases, brokers and caches are written to", f"bytes_written DESC, {_CALL}"),
    "regions": Report(
        "Where workloads are at home, and where their traffic went",
        f"place = 'out of region' DESC, requests DESC, {_CALL}",
    ),
    "blocked": Report("What was blocked, and who tried", f"attempts DESC, {_CALL}"),
    "new": Report("Destinations first seen", f"new_to = 'mesh' DESC, first_seen DESC, {_CALL}"),
    "modes": Report(
        "The outbound policy that namespaces are seen to run", "source_cluster, source_namespace"
    ),
    "coverage": Report("What the evidence cannot see", f"notEmpty(findings) DESC, records, {_SOURCE}"),
}
_PARAMETER: Final = re.compile(r"\{(\w+):([^}]+)\}")
_WRAPPED: Final = re.compile(r"(?:LowCardinality\(|Nullable\()+")
_KINDS: Final[dict[str, pl.DataType]] = {
    "Int": pl.Int64(),
    "UInt": pl.Int64(),
    "Float": pl.Float64(),
    "Bool": pl.Boolean(),
    "DateTime": TIMESTAMP,
}


@dataclass(frozen=True)
class Selection:
    """Whose traffic and where to; None is any. `host` may hold `*`, which stands for any text."""

    namespace: str | None = None
    workload: str | None = None
    host: str | None = None
    cluster: str | None = None

    def conditions(self) -> dict[str, str]:
        """Conditions on a row of a published view, by name; parameters as `parameters` gives them."""
        tests = {
            "cluster": "row.source_cluster = {cluster:String}",
            "namespace": "coalesce(row.source_namespace, row.source_ip_namespace) = {namespace:String}",
            "workload": "coalesce(row.source_workload, row.source_ip_workload) = {workload:String}",
            "host": "row.destination_host LIKE {host:String}",
        }
        return {name: test for name, test in tests.items() if getattr(self, name) is not None}

    def parameters(self) -> dict[str, str]:
        """Values of the conditions' parameters."""
        given = {name: getattr(self, name) for name in self.conditions()}
        return {**given, "host": like(given["host"])} if "host" in given else given


class Narrowed(Protocol):
    """What a question is about."""

    def conditions(self) -> dict[str, str]:
        """Conditions on a `row` of a published view, by name."""

    def parameters(self) -> dict[str, Any]:
        """Values of the conditions' parameters."""


@dataclass(frozen=True)
class Question:
    """A statement and the values of its parameters (`{name:Type}`)."""

    statement: str
    parameters: dict[str, Any]

    def frame(self, reader: Client) -> pl.DataFrame:
        """Its answer, as `query_frame` gives it."""
        return query_frame(reader, self.statement, self.parameters)

    def arrow(self, reader: Client) -> pl.DataFrame:
        """Its answer as Arrow has it, for hundreds of thousands of rows. Empty: no columns either."""
        body = reader.raw_query(self.statement, parameters=self.parameters, fmt="ArrowStream")
        return pl.read_ipc_stream(io.BytesIO(body)) if body else pl.DataFrame()

    def with_literals(self) -> str:
        """The statement with the values in their places, to be run anywhere."""
        return _PARAMETER.sub(lambda found: literal(self.parameters[found[1]], found[2]), self.statement)


@dataclass(frozen=True)
class Page:
    """Which of the rows, in the report's order."""

    limit: int
    offset: int = 0


@dataclass(frozen=True)
class Answer:
    """A report's rows, and what they are about.

    `not_judged`: destinations in the range that no judgement was made for yet; their scope, kind, region and
    ServiceEntry are missing.
    """

    report: str
    period: Period
    selection: Selection
    rows: pl.DataFrame
    not_judged: int


def ask(
    reader: Client,
    settings: Settings,
    report: str,
    period: Period,
    selection: Selection,
    page: Page | None = None,
) -> Answer:
    """Ask for a report of REPORTS: all rows, or a page of them.

    Raises:
        clickhouse_connect.driver.exceptions.Error: the store cannot be asked, or refuses.
    """
    question = report_question(settings, report, period, selection, page)
    # Two questions at once: each takes as long as the other.
    with ThreadPoolExecutor(max_workers=1) as beside:
        not_judged = beside.submit(count_not_judged, reader, settings, period, selection)
        rows = question.frame(reader)
    return Answer(report, period, selection, rows, not_judged.result())


def report_question(
    settings: Settings, report: str, period: Period, selection: Selection, page: Page | None = None
) -> Question:
    """What `ask` asks."""
    statement = report_statements(settings, _parts(settings, period, selection))[report]
    parameters = _parameters(period, selection)
    ordered = f"SELECT * FROM ({statement}) ORDER BY {REPORTS[report].order}"  # noqa: S608 - texts of ours, values are bound
    if page is None:
        return Question(ordered, parameters)
    return Question(
        f"{ordered} LIMIT {{limit:UInt32}} OFFSET {{offset:UInt32}}",
        {**parameters, "limit": page.limit, "offset": page.offset},
    )


def console_question(
    settings: Settings, name: str, period: Period, narrowed: Narrowed, **values: Any
) -> Question:
    """A question of `schemas/clickhouse/console.sql`.

    Args:
        settings: for the database's name.
        name: the section.
        period: the range, and the tier to read.
        narrowed: whose traffic and where to.
        values: the section's own parameters.
    """
    parts = _parts(settings, period, narrowed)
    return Question(console_statements(settings, parts)[name], {**_parameters(period, narrowed), **values})


def literal(value: Any, type_: str) -> str:
    """A parameter's value as SQL.

    Args:
        value: as Question.parameters has it.
        type_: of ClickHouse, as the statement says it.
    """
    if isinstance(value, list | tuple):
        return f"[{', '.join(literal(one, 'String') for one in value)}]"
    if isinstance(value, datetime):
        text = value.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        return f"'{text if '64' in type_ else text[:-4]}'::{type_}"
    if isinstance(value, bool | int):
        return str(value).lower()
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def per_workload(rows: pl.DataFrame) -> pl.DataFrame:
    """Requests and bytes sent out per workload: in its home region, out of it, unknown."""
    key = ("source_cluster", "source_namespace", "source_workload", "source_ip", "home_regions")

    def of(place: str, measure: str) -> pl.Expr:
        name = f"{place.replace(' ', '_')}_{'bytes' if measure == 'bytes_received' else measure}"
        return pl.col(measure).filter(pl.col("place") == place).sum().alias(name)

    places = ("in region", "out of region", "unknown")
    return (
        rows.group_by(*key)
        .agg(of(place, measure) for place in places for measure in ("requests", "bytes_received"))
        .sort("out_of_region_requests", *key[:4], descending=[True, *[False] * 4], nulls_last=True)
    )


def query_frame(reader: Client, statement: str, parameters: Mapping[str, Any] | None = None) -> pl.DataFrame:
    """Run a query; whole numbers, fractions, booleans and times keep their kind, lists are lists of texts.

    Raises:
        clickhouse_connect.driver.exceptions.Error: the store cannot be asked, or refuses.
    """
    bound = dict(parameters or {})
    result = reader.query(statement, parameters=bound)
    if not result.column_names:
        # No rows come without columns: they are asked for.
        described = reader.query(f"DESCRIBE TABLE ({statement})", parameters=bound).result_rows
        return pl.DataFrame(schema={name: dtype_of(kind) for name, kind, *_ in described})
    kinds = [dtype_of(one.name) for one in result.column_types]
    rows = [
        [_value(value, kind) for value, kind in zip(row, kinds, strict=True)] for row in result.result_rows
    ]
    schema = dict(zip(result.column_names, kinds, strict=True))
    return pl.DataFrame(rows, schema=schema, orient="row")


def dtype_of(name: str) -> pl.DataType:
    """The frame's type for a type of ClickHouse."""
    bare = _WRAPPED.sub("", name)
    if bare.startswith("Array("):
        return pl.List(pl.String())
    for start, dtype in _KINDS.items():
        if bare.startswith(start):
            return dtype
    return pl.String()


def _value(value: Any, kind: pl.DataType) -> Any:
    if value is None:
        return None
    if kind == pl.List(pl.String()):
        return [str(one) for one in value]
    if kind == TIMESTAMP:
        return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
    return str(value) if kind == pl.String() else value


def _parts(settings: Settings, period: Period, narrowed: Narrowed) -> Mapping[str, str]:
    database = settings.database
    tests = narrowed.conditions()
    all_of = "".join(f" AND {test}" for test in tests.values())
    tier = f"{database}.raw_rows_{period.tier}"
    days = (
        f"(SELECT * FROM {tier} "  # noqa: S608 - names of ours
        "WHERE window_start >= {since:DateTime('UTC')} AND window_start < {until:DateTime('UTC')})"
    )
    events = (
        f"(SELECT * FROM {database}.events "  # noqa: S608 - as above
        "WHERE event_time >= {since:DateTime('UTC')} AND event_time < {until:DateTime('UTC')})"
    )
    pods = (
        f"(SELECT * FROM {database}.pods WHERE valid_from < {{until:DateTime('UTC')}} "  # noqa: S608 - as above
        "AND (valid_to IS NULL OR valid_to > {since:DateTime('UTC')}))"
    )
    began = " AND first_seen >= {since:DateTime('UTC')} AND first_seen < {until:DateTime('UTC')}"
    return {
        "window": "",
        "hour": "",
        "windows": summed(settings, tier),
        "tier": period.tier,
        "rows": tier,
        "days": days,
        "events": events,
        "recent": events,
        "pods": pods,
        "narrow": all_of,
        "narrow_events": all_of,
        "narrow_new": began + _plainly(tests),
        # Whoever asks for a source still wants to know when the whole mesh saw a destination first.
        "narrow_destination": "".join(
            f" AND {test}"
            for name, test in tests.items()
            if name == "host" or name.startswith("destination_")
        ),
        "narrow_coverage": _plainly({name: test for name, test in tests.items() if name != "host"}),
    }


def _plainly(tests: Mapping[str, str]) -> str:
    """The same conditions on rows whose source is resolved already."""
    columns = {
        "cluster": "source_cluster = {cluster:String}",
        "namespace": "source_namespace = {namespace:String}",
        "workload": "source_workload = {workload:String}",
        "host": "destination_host LIKE {host:String}",
    }
    return "".join(f" AND {columns[name]}" for name in tests if name in columns)


def _parameters(period: Period, narrowed: Narrowed) -> dict[str, Any]:
    return {"since": period.since, "until": period.until, **narrowed.parameters()}


def count_not_judged(reader: Client, settings: Settings, period: Period, selection: Selection) -> int:
    """Destinations in the range that no judgement was made for yet."""
    parts = _parts(settings, period, selection)
    rows = reader.query(
        # Of a tuple: several arguments leave out rows where one is absent.
        "SELECT uniqExact((source_cluster, source_namespace, destination_host, destination_port)) "  # noqa: S608
        f"FROM {parts['windows']} AS row WHERE row.service_entry_reason IS NULL{parts['narrow']}",
        _parameters(period, selection),
    ).result_rows
    return int(rows[0][0])
