"""`egresslens dlq`: what could not be read, and its replay."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, TypeVar

import click
import orjson
import polars as pl
from clickhouse_connect.driver.exceptions import ClickHouseError
from kafka.errors import KafkaError

from egresslens import dlq
from egresslens.cli.away import away
from egresslens.cli.tables import console, print_table
from egresslens.clickhouse.client import connect
from egresslens.dlq import Selection
from egresslens.outcome import Reject
from egresslens.settings import load
from egresslens.text import ascii_json, visible

Command = TypeVar("Command", bound=Callable[..., Any])
SHOWN_BYTES = 4_096


def selecting(command: Command) -> Command:
    """Give a command the options that select dead letters."""
    moment = click.DateTime(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"])
    for option in (
        click.option("--until", type=moment, help="Only those before (UTC)."),
        click.option("--since", type=moment, help="Only those from then on (UTC)."),
        click.option("--offset", type=int, help="Only this offset."),
        click.option("--partition", type=int, help="Only this partition."),
        click.option("--topic", help="Only those of this topic."),
        click.option("--reason", type=click.Choice([one.value for one in Reject]), help="Only this reason."),
    ):
        command = option(command)
    return command


@click.group()
def command() -> None:
    """List, show and replay dead letters: messages that could not be read.

    Query strings are taken out of text as everywhere; bytes that are no text (OTLP) are kept as they came.
    """


@command.command("list")
@selecting
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def list_(as_json: bool, **selected: Any) -> None:
    """Count dead letters by reason, field and topic."""
    rows = _ask(lambda reader, settings: dlq.overview(reader, settings, selection(selected)))
    if as_json:
        for row in rows:
            click.echo(ascii_json(orjson.dumps(row).decode()))
        return
    schema = ["reason", "field", "topic", "letters", "first_seen", "last_seen"]
    print_table(pl.DataFrame(rows, schema=schema, infer_schema_length=None), "Dead letters", console())


@command.command()
@selecting
@click.option("--limit", default=1, show_default=True, type=click.IntRange(1, 10_000), help="How many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def show(limit: int, as_json: bool, **selected: Any) -> None:
    """Show single dead letters with their bytes, the newest first."""
    rows = _ask(lambda reader, settings: dlq.letters(reader, settings, selection(selected), limit))
    for row in rows:
        text = row["raw"].decode("utf-8", "backslashreplace")
        if as_json:
            click.echo(ascii_json(orjson.dumps({**row, "raw": text}).decode()))
            continue
        for name, value in row.items():
            if name != "raw":
                click.secho(f"{name:>16}  ", fg="cyan", nl=False)
                click.echo(visible(str(value)) if value is not None else "")
        more = f" … ({len(text):,} characters)" if len(text) > SHOWN_BYTES else ""
        click.echo(visible(text[:SHOWN_BYTES]) + more + "\n")
    if not rows:
        click.echo("no such dead letter", err=True)
        sys.exit(1)


@command.command()
@selecting
@click.option("--dry-run", is_flag=True, help="Only say how many messages it would be.")
def replay(dry_run: bool, **selected: Any) -> None:
    """Send selected dead letters through the pipeline again, for instance after mending a format.

    Each message is applied once, however often it is replayed; one that still cannot be read becomes a dead
    letter of the replay topic.
    """
    done = _ask(lambda reader, settings: dlq.replay(reader, settings, selection(selected), dry_run=dry_run))
    click.echo(f"{done.messages:,} messages {'would be' if dry_run else 'were'} sent to the replay topic")
    if done.cut:
        click.echo(
            f"{done.cut:,} are longer than the store keeps; the dead-letter topic has them whole", err=True
        )
        sys.exit(1)


def selection(selected: dict[str, Any]) -> Selection:
    """The selection that the options describe; times are UTC."""
    moments = {
        name: value.replace(tzinfo=timezone.utc)
        for name, value in selected.items()
        if isinstance(value, datetime)
    }
    return Selection(**(selected | moments))


def _ask(action: Callable[..., Any]) -> Any:
    settings = load()
    try:
        return action(connect(settings, "reader"), settings)
    except (ClickHouseError, KafkaError) as error:
        away(settings, error)
