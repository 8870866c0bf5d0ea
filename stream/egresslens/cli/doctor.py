"""`egresslens doctor`: is the deployment well, and what to do where it is not."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click
import orjson
from rich.console import Console
from rich.text import Text

from egresslens.cli.tables import console
from egresslens.doctor import Finding, Status, diagnose
from egresslens.doctor.run import DEFAULT_SAMPLE, DEFAULT_TIMEOUT_S
from egresslens.settings import load
from egresslens.text import visible

EXIT_FAILED: Final = 1
_STYLES: Final = {
    Status.OK: "green",
    Status.WARN: "yellow",
    Status.FAIL: "bold red",
    Status.SKIPPED: "dim",
}


@click.command()
@click.option(
    "--worker",
    "workers",
    multiple=True,
    metavar="URL",
    help="Address of a worker, such as http://worker:6066, or of the alerts process; several times.",
)
@click.option(
    "--sample",
    "count",
    default=DEFAULT_SAMPLE,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Newest messages to look at.",
)
@click.option(
    "--timeout",
    "timeout_s",
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    type=click.FloatRange(0.5, 600),
    help="Seconds for each check; all of it takes about twice as long at most.",
)
@click.option("--format", "shape", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings.")
def command(workers: tuple[str, ...], count: int, timeout_s: float, shape: str, config: Path | None) -> None:
    """Look at every part of this deployment, and say how to mend what is wrong.

    Settings; brokers, topics, rights, consumer groups and lag; the newest messages (what cannot be read, what
    they lack, clocks); the store, both its accounts, schema, disks; dead letters, registry, alerts. Nothing
    is changed: messages are read without a group, and the one insert that is tried has no rows.

    Exit codes: 0 nothing failed (warnings are no failure), 1 something failed, 78 the settings are wrong.
    """
    settings = load(file=config)
    found = []
    out = console()
    for finding in diagnose(settings, workers=workers, count=count, timeout_s=timeout_s):
        found.append(finding)
        if shape == "table":
            _print(finding, out)
    if shape == "json":
        document = {"status": worst(found).value, "findings": [one.as_dict() for one in found]}
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2, default=str))
    else:
        counts = ", ".join(f"{_count(found, status)} {status.value}" for status in Status)
        out.print(Text(counts, style="bold"))
    sys.exit(EXIT_FAILED if worst(found) is Status.FAIL else 0)


def worst(found: Iterable[Finding]) -> Status:
    """The status of the whole: `fail`, `warn` or `ok`."""
    statuses = {one.status for one in found}
    return next((one for one in (Status.FAIL, Status.WARN) if one in statuses), Status.OK)


def _count(found: Iterable[Finding], status: Status) -> int:
    return sum(one.status is status for one in found)


def _print(finding: Finding, out: Console) -> None:
    line = Text.assemble(
        (f"{finding.status.value:<8}", _STYLES[finding.status]),
        (f"{finding.part:<13}", "bold"),
        visible(finding.said),
    )
    out.print(line, soft_wrap=True)
    if finding.mend:
        out.print(Text(f"{'':<21}{visible(finding.mend)}", style="cyan"), soft_wrap=True)
