"""`egresslens explain`: how one line was read, and what labelled it."""

from __future__ import annotations

import sys

import click
import orjson

from egresslens import explain
from egresslens.settings import load
from egresslens.text import ascii_json, visible

EXIT_REJECTED = 1


@click.command()
@click.argument("line")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(line: str, as_json: bool) -> None:
    """Say how LINE (`-` reads standard input) was parsed, what labelled it and why, step by step.

    Exit code 1 if the line is no access log.
    """
    text = (
        sys.stdin.buffer.read().removesuffix(b"\n") if line == "-" else line.encode(errors="surrogateescape")
    )
    found = explain.explain(text, load().rules)
    if as_json:
        click.echo(ascii_json(orjson.dumps(found.as_dict(), option=orjson.OPT_INDENT_2).decode()))
    else:
        for number, story in enumerate(found.stories, 1):
            if len(found.stories) > 1:
                click.secho(f"Record {number}", bold=True)
            for step in story.steps:
                click.secho(f"{step.about:>12}  ", fg="cyan", nl=False)
                click.echo(visible(step.said))
    if not any(story.record for story in found.stories):
        sys.exit(EXIT_REJECTED)
