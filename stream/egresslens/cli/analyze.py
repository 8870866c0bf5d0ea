"""`egresslens analyze`: the answers from log files, without any server."""

from __future__ import annotations

from pathlib import Path

import click
import orjson
import polars as pl

from egresslens.cli.reading import CutOff, read
from egresslens.cli.tables import console, print_table
from egresslens.encode import json_rows
from egresslens.enrich import enrich, origin
from egresslens.record import STORED_LABELS
from egresslens.settings import load
from egresslens.summary import combine, source_name, summarize
from egresslens.text import ascii_json


@click.command()
@click.argument(
    "paths",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    metavar="FILE...",
)
@click.option("--limit", default=25, show_default=True, type=click.IntRange(min=1), help="Rows per table.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with all rows.")
def command(paths: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Read access-log FILEs (`-` is standard input; gzip and zstd as well) and print the answers.

    Who calls what, and what was blocked and who tried: with the same code that the worker runs, so the
    labels are the same. Gateways' records are left out, since the sidecar logged the same call.

    Exit codes: 65 a compressed file is damaged or cut off; the answers are of what came before.
    """
    rules = load().rules
    counts = {"records": 0}
    summaries: list[pl.DataFrame] = []
    lines = 0
    cut_off: CutOff | None = None
    try:
        for path, chunk in read(paths):
            # A line without a time is as old as its file at most.
            stamp = int(Path(path).stat().st_mtime * 1000) if path != "-" else None
            origins = origin("", path, 0, range(len(chunk)), [stamp] * len(chunk))
            enriched = enrich(chunk, origins, rules, keep_all=True)
            kept = enriched.records.filter(pl.col("label").is_in(STORED_LABELS))
            summaries.append(summarize(kept))
            lines += len(chunk)
            counts["records"] += enriched.records.height
            _count(counts, "label", enriched.records["label"])
            _count(counts, "rejected", enriched.rejects["reason"])
            _count(counts, "filtered", enriched.filtered["reason"])
    except CutOff as error:
        cut_off = error
    if lines:
        rows = combine(summaries)
        if as_json:
            texts = ascii_json(",".join(json_rows(rows))) if rows.height else ""
            click.echo(f'{{"lines":{lines},"counts":{orjson.dumps(counts).decode()},"rows":[{texts}]}}')
        else:
            _print(rows, counts, lines, limit)
    if cut_off:
        raise cut_off
    if not lines:
        raise click.ClickException("nothing to read: the input is empty")


def _count(counts: dict[str, int], kind: str, values: pl.Series) -> None:
    for value, count in values.value_counts().iter_rows():
        counts[f"{kind} {value}"] = counts.get(f"{kind} {value}", 0) + count


def _print(rows: pl.DataFrame, counts: dict[str, int], lines: int, limit: int) -> None:
    out = console()
    named = rows.select(
        source_name(),
        "label",
        pl.col("destination_host").alias("destination"),
        pl.col("destination_port").alias("port"),
        "requests",
        "errors",
        "bytes_received",
        "bytes_sent",
        pl.col("first_event").alias("first seen"),
        pl.col("last_event").alias("last seen"),
        pl.col("evidence").alias("proved by"),
    )
    blocked = named.filter(pl.col("label") == "blackhole").drop(
        "label", "errors", "bytes_received", "bytes_sent"
    )
    allowed = named.filter(pl.col("label") != "blackhole").drop("first seen", "last seen", "proved by")
    print_table(allowed.head(limit), _title("Who calls what", allowed, limit), out)
    print_table(blocked.head(limit), _title("Blocked, and who tried", blocked, limit), out)
    summary = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    out.print(f"{lines:,} lines: {summary}")


def _title(text: str, rows: pl.DataFrame, limit: int) -> str:
    return text + (f" (first {limit} of {rows.height})" if rows.height > limit else "")
