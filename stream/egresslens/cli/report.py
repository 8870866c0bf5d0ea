"""`egresslens report`: the answers from what is stored."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import click
import polars as pl
from rich.text import Text

from egresslens.cli.asking import asking, moments, ranged, selecting
from egresslens.cli.tables import console, print_table
from egresslens.report import REPORTS, Answer, Selection, ask, period
from egresslens.report.ask import per_workload
from egresslens.report.shape import to_csv, to_json, to_markdown
from egresslens.settings import load
from egresslens.summary import source_name

_DAY: Final = timedelta(days=1)
# What a table on a terminal has room for; JSON and CSV have all columns.
_SHOWN: Final[dict[str, tuple[str, ...]]] = {
    "external": (
        "source", "destination_host", "port", "label", "requests", "errors", "bytes_received", "bytes_sent",
        "p50_ms", "p95_ms", "service_entry", "first_seen", "last_seen",
    ),
    "databases": (
        "source", "destination_host", "port", "destination_kind", "requests", "errors", "bytes_written",
        "bytes_read", "destination_kind_reason", "last_seen",
    ),
    "regions": (
        "source", "home_regions", "destination_host", "port", "destination_region", "place", "residency",
        "requests", "bytes_received", "confidence", "reason",
    ),
    "blocked": (
        "source", "destination_host", "port", "attempts", "proved_by", "service_entry", "first_seen",
        "last_seen",
    ),
    "new": (
        "source", "destination_host", "port", "labels", "destination_scope", "service_entry", "requests",
        "new_to", "first_seen",
    ),
    "modes": (
        "source_cluster", "source_namespace", "mode", "evidence", "passthrough", "blocked", "registered",
        "let_out", "turned_away",
    ),
    "coverage": ("source", "pods", "with_sidecar", "records", "last_record", "formats", "findings"),
}  # fmt: skip


@click.command()
@click.argument("report", type=click.Choice(list(REPORTS)), metavar="REPORT")
@ranged("24h")
@selecting
@click.option(
    "--format",
    "shape",
    type=click.Choice(["table", "json", "csv", "markdown"]),
    default="table",
    show_default=True,
)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="Rows of the table.")
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings.")
def command(
    report: str,
    since: timedelta | None,
    from_: datetime | None,
    until: datetime | None,
    namespace: str | None,
    workload: str | None,
    host: str | None,
    cluster: str | None,
    shape: str,
    limit: int,
    config: Path | None,
) -> None:
    """Print a REPORT about a range of time.

    \b
    external   which workloads call which external hosts, how often and how well
    databases  which databases, brokers and caches they write to and read from
    regions    where workloads are at home, and whether their traffic stays there
    blocked    who tried what was blocked, and what proved it
    new        destinations first seen in the range
    modes      ALLOW_ANY or REGISTRY_ONLY: the policy each namespace is seen to run
    coverage   what the evidence cannot see

    A call that several proxies logged counts once. The range is widened to whole windows (minutes, hours or
    days, by its length); the output says what it covers. Each report is also a view, report_<name>, with rows
    per hour.

    Exit codes: 0 also where there is nothing to report, 69 ClickHouse cannot be asked.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    settings = load(file=config)
    now = datetime.now(timezone.utc)
    begin, end = moments(since, from_, until, now, _DAY)
    when = period(settings, begin, end, now, exact=from_ is not None)
    with asking(settings) as reader:
        answer = ask(reader, settings, report, when, Selection(namespace, workload, host, cluster))
    if shape == "json":
        click.echo(to_json(answer, tables_of(answer)))
    elif shape == "csv":
        click.echo(to_csv(answer.rows))
    elif shape == "markdown":
        click.echo(to_markdown(answer.rows))
    else:
        _print(answer, limit)
    if answer.not_judged:
        click.echo(
            f"{answer.not_judged:,} destinations are not judged yet, so their scope, kind, region and "
            "ServiceEntry are missing: `egresslens registry refresh`",
            err=True,
        )


def tables_of(answer: Answer) -> dict[str, pl.DataFrame]:
    """The report's tables: its rows, and for regions the sums per workload."""
    return {"workloads": per_workload(answer.rows), "rows": answer.rows} if answer.report == "regions" else {
        "rows": answer.rows
    }  # fmt: skip


def _print(answer: Answer, limit: int) -> None:
    out = console()
    span = f"{answer.period.since:%Y-%m-%d %H:%M} to {answer.period.until:%Y-%m-%d %H:%M} UTC"
    if answer.report == "regions":
        sums = per_workload(answer.rows)
        shown = sums.select(source_name(), *sums.columns[4:])
        print_table(shown.head(limit), "Workloads and their regions", out)
    rows = answer.rows
    if "source_workload" in rows.columns:
        rows = rows.with_columns(source_name())
    if "destination_port" in rows.columns:
        rows = rows.rename({"destination_port": "port"})
    shown = rows.select(name for name in _SHOWN[answer.report] if name in rows.columns)
    more = f", first {limit} of {rows.height:,}" if rows.height > limit else ""
    print_table(shown.head(limit), f"{REPORTS[answer.report].title} ({span}{more})", out)
    out.print(Text(_read_from(answer), style="dim"))


def _read_from(answer: Answer) -> str:
    names: dict[str, Any] = {"1m": "minutes", "1h": "hours", "1d": "days"}
    return f"read from windows of {names[answer.period.tier]}"
