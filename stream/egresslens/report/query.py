"""Anybody's SQL with the reader's account, and the example queries that come with the program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import polars as pl
from clickhouse_connect.driver.client import Client

from egresslens.clickhouse import schema
from egresslens.report.ask import dtype_of
from egresslens.settings import Settings


@dataclass(frozen=True)
class Saved:
    """An example query; `about` is the comment above it."""

    name: str
    about: str
    text: str


@dataclass
class Result:
    """A result as it comes: its columns and their types, then its rows."""

    columns: list[str]
    types: list[str]
    rows: Iterator[list[Any]]

    def frame(self, limit: int) -> pl.DataFrame:
        """Up to `limit` rows as a frame; what is neither number, text nor list of texts is text."""
        dtypes = [dtype_of(name) for name in self.types]
        # Times stay as ClickHouse writes them: they may have any precision and zone.
        kinds = [pl.String() if dtype.is_temporal() else dtype for dtype in dtypes]
        rows = [
            [_cell(value, kind) for value, kind in zip(row, kinds, strict=True)]
            for row in islice(self.rows, limit)
        ]
        unique = [
            name if name not in self.columns[:at] else f"{name} ({at})"
            for at, name in enumerate(self.columns)
        ]
        return pl.DataFrame(rows, schema=dict(zip(unique, kinds, strict=True)), orient="row", strict=False)


def saved() -> dict[str, Saved]:
    """All example queries by name."""
    found: dict[str, Saved] = {}
    for path in sorted((schema.folder() / "saved").glob("*.sql")):
        comment, _, text = path.read_text().partition("\n")
        found[path.stem] = Saved(path.stem, comment.removeprefix("-- "), text.strip())
    return found


def run(reader: Client, settings: Settings, statement: str) -> Result:
    """Run one statement, in the database of the settings.

    Raises:
        clickhouse_connect.driver.exceptions.Error: the statement is wrong or refused, or the store is away.
    """
    reader.database = settings.database
    lines = _lines(
        reader.raw_stream(statement.strip().rstrip(";"), fmt="JSONCompactEachRowWithNamesAndTypes")
    )
    head = list(islice(lines, 2))
    columns, types = head if len(head) == 2 else ([], [])
    return Result(columns, types, lines)


def _lines(stream: Any) -> Iterator[list[Any]]:
    with stream:
        for line in stream:
            if line.strip():
                yield json.loads(line)


def _cell(value: Any, kind: pl.DataType) -> Any:
    if value is None:
        return None
    if kind == pl.List(pl.String()):
        return [str(one) for one in value]
    if kind == pl.String():
        return value if isinstance(value, str) else json.dumps(value)
    return value
