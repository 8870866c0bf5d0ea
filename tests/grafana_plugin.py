"""What Grafana and its ClickHouse plugin make of a dashboard's query before ClickHouse sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

Value = str | Sequence[str]


@dataclass(frozen=True)
class Panel:
    """A query of a dashboard and the panel that shows it."""

    dashboard: str
    title: str
    kind: str
    target: Mapping[str, Any]
    """The query; for a variable, that of its values."""

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.title}"


def queries(dashboard: Mapping[str, Any]) -> Iterator[Panel]:
    """Every query of a dashboard: its variables' and its panels'."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield Panel(dashboard["uid"], f"${variable['name']}", "variable", variable["query"])
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield Panel(dashboard["uid"], panel["title"], panel["type"], target)


def interpolate(text: str, values: Mapping[str, Value]) -> str:
    """Fill in `${name:percentencode}`, as grafana/scenes' formatRegistry does (encodeURIComponentStrict).

    Any other way to write a variable is refused: none but this one is safe in ClickHouse's SQL.
    """

    def encoded(match: re.Match[str]) -> str:
        value = values[match[1]]
        return quote(value if isinstance(value, str) else "{" + ",".join(value) + "}", safe="-_.~")

    filled = re.sub(r"\$\{(\w+):percentencode\}", encoded, text)
    left = re.findall(r"\$\{[^}]*\}|\$(?!__)\w+|\[\[", filled)
    assert not left, f"variables that are not encoded: {left}"
    return filled


def expand(sql: str, begin: datetime, end: datetime, interval_s: int) -> str:
    """Fill in the macros that the queries use, as grafana/clickhouse-datasource's pkg/macros does."""

    def moment(when: datetime) -> str:
        return f"toDateTime({int(when.timestamp())})"

    macros = {
        r"\$__timeFilter\((\w+)\)": rf"\1 >= {moment(begin)} AND \1 <= {moment(end)}",
        r"\$__timeInterval\((\w+)\)": rf"toStartOfInterval(toDateTime(\1), INTERVAL {interval_s} second)",
        r"\$__fromTime\b": moment(begin),
        r"\$__toTime\b": moment(end),
        r"\$__interval_s\b": str(interval_s),
    }
    for macro, text in macros.items():
        sql = re.sub(macro, text, sql)
    left = re.findall(r"\$__\w+", sql)
    assert not left, f"macros that the plugin does not know: {left}"
    return sql
