"""`egresslens whatif`: what REGISTRY_ONLY would have blocked."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Final

import click
import orjson
import polars as pl

from egresslens.cli.history import load_history, options, read_files
from egresslens.cli.tables import console, print_table
from egresslens.encode import json_rows
from egresslens.registry.value import Registries, Registry
from egresslens.settings import load
from egresslens.summary import source_name
from egresslens.text import ascii_json
from egresslens.whatif import Policy, applied, by_verdict, whatif

EXIT_BLOCKED: Final = 1


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True), metavar="[PATH]...")
@options
@click.option("--only", is_flag=True, help="Only the entries of PATH, without those in force.")
@click.option(
    "--policy",
    type=click.Choice(["registry-only", "declared"]),
    default="registry-only",
    show_default=True,
    help="Block unknown hosts everywhere, or as mesh config and Sidecars say.",
)
@click.option(
    "--namespace", "namespaces", multiple=True, help="Only callers of this namespace; several times."
)
@click.option("--format", "shape", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="Rows per table.")
def command(
    paths: tuple[Path, ...],
    config: Path | None,
    logs: tuple[str, ...],
    registry_paths: tuple[Path, ...],
    since: timedelta,
    cluster: str | None,
    only: bool,
    policy: Policy,
    namespaces: tuple[str, ...],
    shape: str,
    limit: int,
) -> None:
    """Say what would have been blocked, had the mesh let only registered hosts out.

    The registry is the one in force with the objects of PATH applied over it. What was let out and would be
    blocked is listed with the reason; so is what was blocked already, which does not count.

    Exit codes: 0 nothing would be blocked, 1 something would, 65 a file of PATH is wrong,
    69 ClickHouse cannot be asked.
    """
    if only and not paths:
        raise click.UsageError("--only needs a PATH")
    # Advice may be that nothing is needed.
    added = read_files(paths, may_be_empty=True) if paths else Registry()
    history = load_history(
        load(file=config), logs=logs, registry_paths=registry_paths, since=since, cluster=cluster
    )
    traffic = history.traffic
    if namespaces:
        traffic = traffic.filter(pl.col("source_namespace").is_in(namespaces))
    found = whatif(
        traffic, Registries([added]) if only else applied(history.registries, added.objects), policy
    )
    requests = by_verdict(found)
    if shape == "json":
        rows = ascii_json(",".join(json_rows(found))) if found.height else ""
        click.echo(f'{{"requests":{orjson.dumps(requests).decode()},"rows":[{rows}]}}')
    else:
        _print(found, requests, limit)
    sys.exit(EXIT_BLOCKED if requests["blocked"] else 0)


def _print(found: pl.DataFrame, requests: dict[str, int], limit: int) -> None:
    out = console()
    named = found.select(
        source_name(),
        pl.col("destination_host").alias("destination"),
        pl.col("destination_port").alias("port"),
        "label",
        "traffic",
        "requests",
        pl.col("first_event").alias("first seen"),
        pl.col("last_event").alias("last seen"),
        "reason",
        "verdict",
    )
    for verdict, title in (
        ("blocked", "Would be blocked"),
        ("still blocked", "Was blocked, and still would be"),
        ("no longer blocked", "Was blocked, and would be let out"),
    ):
        rows = named.filter(pl.col("verdict") == verdict).drop("verdict")
        if rows.height or verdict == "blocked":
            more = f" (first {limit} of {rows.height})" if rows.height > limit else ""
            print_table(rows.head(limit), title + more, out)
    out.print(", ".join(f"{count:,} {verdict}" for verdict, count in requests.items()))
