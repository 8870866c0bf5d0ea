"""`egresslens events`: single records."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final, NoReturn

import click
import polars as pl
from clickhouse_connect.driver.client import Client
from rich.text import Text

from egresslens.cli.asking import asking, moments, ranged, selecting
from egresslens.cli.tables import LABEL_STYLES, console, print_table
from egresslens.record import STORED_LABELS
from egresslens.report.ask import Selection
from egresslens.report.records import Place, Search, between, ends, is_code, search
from egresslens.report.shape import records
from egresslens.settings import Settings, load
from egresslens.summary import source_name
from egresslens.text import visible

_DAY: Final = timedelta(days=1)
_LOOK_S: Final = 1.0
# Records per look while following; more at once are cut, and it says so.
_BURST: Final = 10_000


@click.command()
@ranged("24h")
@selecting
@click.option("--label", type=click.Choice(STORED_LABELS), help="Only this label.")
@click.option("--request-id", help="Only this request; without a range, in all that is stored.")
@click.option("--path", help="Only paths that begin so.")
@click.option("--code", "codes", multiple=True, metavar="CODE", help="Only this response code, or 5xx.")
@click.option(
    "--flag",
    "flags",
    multiple=True,
    metavar="FLAG",
    help="Only with one of these response flags (UF, NR, ...).",
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes in, until Ctrl-C.")
@click.option("--format", "shape", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1, 1_000_000), help="The newest so many."
)
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings.")
def command(
    since: timedelta | None,
    from_: datetime | None,
    until: datetime | None,
    namespace: str | None,
    workload: str | None,
    host: str | None,
    cluster: str | None,
    label: str | None,
    request_id: str | None,
    path: str | None,
    codes: tuple[str, ...],
    flags: tuple[str, ...],
    follow: bool,
    shape: str,
    limit: int,
    config: Path | None,
) -> None:
    """Search single records, the oldest of those found first.

    As a table, or with all fields as one JSON object per line.

    Exit codes: 0 also where nothing is found, 69 ClickHouse cannot be asked.
    """
    wrong = next((code for code in codes if not is_code(code)), None)
    if wrong is not None:
        raise click.BadParameter(f"{wrong!r} is no response code such as 503 or 5xx", param_hint="--code")
    if follow and until:
        raise click.UsageError("--follow goes on for ever, --until does not")
    everything = request_id is not None and since is None and from_ is None
    begin, end = moments(since, from_, until, datetime.now(timezone.utc), _DAY)
    wanted = Search(
        selection=Selection(namespace, workload, host, cluster),
        since=None if everything else begin,
        until=end if until else None,
        label=label,
        request_id=request_id,
        path=path,
        codes=codes,
        flags=flags,
    )
    settings = load(file=config)
    with asking(settings) as reader:
        known = ends(reader, settings) if follow else {}
        found = search(reader, settings, wanted, limit)
        if shape == "json":
            _print_json(found)
        elif follow:
            _print_lines(found)
        else:
            _print_table(found, limit)
        if follow:
            # Ctrl-C is how following ends.
            with suppress(KeyboardInterrupt):
                _follow(reader, settings, wanted, known, shape)


def _follow(
    reader: Client, settings: Settings, wanted: Search, known: Mapping[Place, int], shape: str
) -> NoReturn:
    """Print what comes in beyond `known`, for ever."""
    while True:
        now = ends(reader, settings)
        come = between(reader, settings, wanted, known, now, _BURST)
        known = now
        (_print_json if shape == "json" else _print_lines)(come)
        if come.height == _BURST:
            click.echo(f"more than {_BURST:,} at once: older ones of these were left out", err=True)
        time.sleep(_LOOK_S)


def _print_json(found: pl.DataFrame) -> None:
    for row in records(found):
        click.echo(json.dumps(row))


def _print_table(found: pl.DataFrame, limit: int) -> None:
    shown = found.select(
        pl.col("event_time").alias("time"),
        source_name(),
        "label",
        pl.col("destination_host").alias("destination"),
        pl.col("destination_port").alias("port"),
        "method",
        "path",
        pl.col("response_code").cast(pl.String).alias("code"),
        pl.col("response_flags").alias("flags"),
        pl.col("duration_ms").alias("ms"),
        pl.col("bytes_received").alias("sent out"),
        pl.col("bytes_sent").alias("got back"),
        "request_id",
    )
    newest = f" (the newest {limit})" if found.height == limit else ""
    print_table(shown, f"Records{newest}", console())


def _print_lines(found: pl.DataFrame) -> None:
    """One line per record: a table cannot grow."""
    out = console()
    for row in found.with_columns(source_name()).iter_rows(named=True):
        called = " ".join(visible(str(row[name])) for name in ("method", "path") if row[name] is not None)
        line = Text(f"{row['event_time']:%Y-%m-%d %H:%M:%S}  ")
        line.append(f"{row['label']:<11}  ", style=LABEL_STYLES.get(row["label"], ""))
        port = f":{row['destination_port']}" if row["destination_port"] is not None else ""
        line.append(f"{visible(row['source'] or '?')} -> {visible(row['destination_host'] or '?')}{port}  ")
        flags = visible(",".join(row["response_flags"] or ()))
        line.append(f"{row['response_code'] if row['response_code'] is not None else '-'} {flags}  {called}")
        out.print(line, soft_wrap=True)
