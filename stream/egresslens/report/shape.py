"""A report as text: JSON and CSV for programs, Markdown for tickets and pages.

Names in it were chosen by whoever sent the request. JSON keeps them as they are, in ASCII, so that no
terminal obeys them; the other formats show what is not printable (`text.visible`). A spreadsheet takes a CSV
cell that begins with `=`, `+`, `-`, `@`, a tab or a line break for a formula: such texts get an apostrophe in
front.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import polars as pl

from egresslens.report.ask import Answer
from egresslens.text import visible

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_MARKDOWN: Final = str.maketrans(
    {char: f"\\{char}" for char in "\\`*_{}[]()#+-!|~"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
)


def to_json(answer: Answer, tables: dict[str, pl.DataFrame]) -> str:
    """One JSON object: what was asked, and each table's rows."""
    head = {
        "report": answer.report,
        "since": time_text(answer.period.since),
        "until": time_text(answer.period.until),
        "tier": answer.period.tier,
        "namespace": answer.selection.namespace,
        "workload": answer.selection.workload,
        "host": answer.selection.host,
        "cluster": answer.selection.cluster,
        "not_judged": answer.not_judged,
    }
    rows = {name: list(records(frame)) for name, frame in tables.items()}
    return json.dumps(head | rows, indent=2)


def to_csv(rows: pl.DataFrame) -> str:
    """A header and one line per row; lists are joined by blanks."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(rows.columns)
    for row in rows.iter_rows():
        writer.writerow([_csv_cell(value) for value in row])
    return out.getvalue().rstrip("\n")


def to_markdown(rows: pl.DataFrame) -> str:
    """A table whose cells hold no markup; lists are joined by commas."""
    lines = [rows.columns, ["--:" if dtype.is_numeric() else "---" for dtype in rows.dtypes]]
    lines += [[_markdown_cell(value) for value in row] for row in rows.iter_rows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def records(rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows as JSON's values: times as `2026-01-02T03:04:05.678Z`."""
    for row in rows.iter_rows(named=True):
        yield {
            name: time_text(value) if isinstance(value, datetime) else value for name, value in row.items()
        }


def time_text(moment: datetime) -> str:
    """A time in UTC as the topics and `egresslens parse` write it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def plain(text: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula, nor a terminal for a command."""
    return visible(f"'{text}" if text.startswith(_FORMULA) else text)


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, list):
        return plain(" ".join(str(one) for one in value))
    return plain(value) if isinstance(value, str) else str(value)


def _markdown_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, list):
        value = ", ".join(str(one) for one in value)
    return visible(value).translate(_MARKDOWN) if isinstance(value, str) else str(value)
