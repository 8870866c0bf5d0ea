"""The example queries that come with the program: read-only SQL of ours, run by name."""

from __future__ import annotations

from pydantic import Field

from egresslens.console.answers import Context
from egresslens.console.models import Cell, Model
from egresslens.console.params import Nothing
from egresslens.console.problems import Problem
from egresslens.report.query import run, saved


class Query(Model):
    """An example query."""

    name: str
    about: str
    text: str


class Queries(Model):
    """All of them."""

    queries: list[Query]


class ResultParams(Nothing):
    """How much of a result."""

    limit: int = Field(1_000, ge=1, le=10_000, description="Rows at most.")


class Result(Query):
    """A query's result."""

    columns: list[str]
    types: list[str] = Field(description="ClickHouse's.")
    rows: list[list[Cell]]
    more: bool


def queries(_: Context, __: Nothing) -> Queries:
    """The example queries."""
    return Queries(queries=[Query(name=one.name, about=one.about, text=one.text) for one in saved().values()])


def result(context: Context, params: ResultParams, name: str) -> Result:
    """Run one.

    Raises:
        Problem: there is none of this name.
    """
    one = saved().get(name)
    if one is None:
        raise Problem("not-found", "there is no example query of this name", hint="See /api/v1/saved.")
    found = run(context.reader, context.settings, one.text)
    frame = found.frame(params.limit + 1)
    return Result(
        name=one.name,
        about=one.about,
        text=one.text,
        columns=frame.columns,
        types=found.types,
        rows=[list(row) for row in frame.head(params.limit).iter_rows()],
        more=frame.height > params.limit,
    )
