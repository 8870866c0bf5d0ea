"""`egresslens sql`: read-only SQL."""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import click
import polars as pl
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from egresslens.cli import EX_DATAERR
from egresslens.cli.asking import asking
from egresslens.cli.tables import console, print_table
from egresslens.report.query import Result, run, saved
from egresslens.report.shape import to_csv
from egresslens.settings import Settings, load
from egresslens.text import visible

_HISTORY_LINES: Final = 1_000
_HELP: Final = (
    "End a statement with ; or an empty line. \\d lists the views, \\saved the example queries, "
    "@NAME runs one, \\q leaves."
)
_VIEWS: Final = (
    "SELECT name, replaceRegexpAll(toString(groupArray(column)), '[\\[\\]\\']', '') AS columns FROM "
    "(SELECT table AS name, name AS column FROM system.columns WHERE database = currentDatabase() "
    "AND NOT startsWith(table, 'raw_') ORDER BY table, position) GROUP BY name ORDER BY name"
)


@click.command()
@click.argument("query", required=False)
@click.option("--saved", "list_saved", is_flag=True, help="List the example queries; run one as @NAME.")
@click.option(
    "--format", "shape", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True
)
@click.option(
    "--limit", default=1_000, show_default=True, type=click.IntRange(min=1), help="Rows of a table."
)
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings.")
def command(query: str | None, list_saved: bool, shape: str, limit: int, config: Path | None) -> None:
    """Run a QUERY (`-` reads it from standard input, @NAME is an example query) with the reader's account.

    Without a QUERY, on a terminal, it asks for statements, with a history. Views are named without their
    database; `egresslens sql "SELECT * FROM events LIMIT 5"`. JSON is one object per line.

    Exit codes: 65 the statement is wrong or not allowed, 69 ClickHouse cannot be asked.
    """
    if list_saved:
        _list_saved(shape)
        return
    settings = load(file=config)
    if query is None and sys.stdin.isatty():
        with asking(settings) as reader:
            _prompt(reader, settings, shape, limit)
        return
    text = sys.stdin.read() if query in (None, "-") else str(query)
    with asking(settings) as reader:
        if not _answer(reader, settings, _statement(text), shape, limit):
            sys.exit(EX_DATAERR)


def _list_saved(shape: str) -> None:
    for one in saved().values():
        if shape == "json":
            click.echo(json.dumps({"name": one.name, "about": one.about, "query": one.text}))
        else:
            click.secho(f"@{one.name}", bold=True)
            click.echo(f"    {one.about}")
            click.echo("".join(f"    {line}\n" for line in one.text.splitlines()))


def _statement(text: str) -> str:
    """The text, or the example query that it names."""
    name = text.strip()
    if not name.startswith("@"):
        return text
    known = saved()
    if name[1:] not in known:
        raise click.UsageError(f"no example query {name}: {', '.join(f'@{one}' for one in known)}")
    return known[name[1:]].text


def _answer(reader: Client, settings: Settings, statement: str, shape: str, limit: int) -> bool:
    """Run and print; False, with the reason said, for a statement that ClickHouse refuses."""
    try:
        _print(run(reader, settings, statement), shape, limit)
    except ClickHouseError as error:
        if "exception, code:" not in str(error):
            raise
        click.secho(visible(_reason(str(error))), fg="red", err=True)
        return False
    return True


def _reason(text: str) -> str:
    """ClickHouse's own words, without the client's."""
    _, _, own = text.partition("server response: ")
    return (own or text).rpartition(" (for url ")[0] or text


def _print(result: Result, shape: str, limit: int) -> None:
    if shape == "json":
        for row in result.rows:
            click.echo(json.dumps(dict(zip(result.columns, row, strict=True))))
        return
    if shape == "csv":
        for number, part in enumerate(_parts(result)):
            text = to_csv(part)
            click.echo(text if number == 0 else text.partition("\n")[2])
        return
    rows = result.frame(limit + 1)
    more = f"the first {limit:,} rows" if rows.height > limit else f"{rows.height:,} rows"
    print_table(rows.head(limit), more, console())


def _parts(result: Result) -> Iterator[pl.DataFrame]:
    """The rows in frames of some thousands; at least one, for the header."""
    part = result.frame(10_000)
    yield part
    while part.height:
        part = result.frame(10_000)
        if part.height:
            yield part


def _prompt(reader: Client, settings: Settings, shape: str, limit: int) -> None:
    _remember()
    click.echo(_HELP)
    while True:
        try:
            statement = _typed()
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo()
            continue
        if statement in ("\\q", "exit", "quit"):
            return
        if statement == "\\saved":
            _list_saved("table")
        elif statement in ("\\?", "help"):
            click.echo(_HELP)
        elif statement:
            _try(reader, settings, _VIEWS if statement == "\\d" else statement, shape, limit)


def _try(reader: Client, settings: Settings, statement: str, shape: str, limit: int) -> None:
    """One statement of the prompt: whatever is wrong with it, the prompt goes on."""
    try:
        _answer(reader, settings, _statement(statement), shape, limit)
    except (click.UsageError, ClickHouseError) as error:
        click.secho(visible(str(error)), fg="red", err=True)
    except KeyboardInterrupt:
        click.echo()


def _typed() -> str:
    """One statement: up to a ; or an empty line; commands and @NAME are one line."""
    lines: list[str] = []
    while True:
        line = input("egresslens> " if not lines else "        ... ").rstrip()
        lines.append(line)
        text = "\n".join(lines).strip()
        alone = len(lines) == 1 and (not line or line[0] in "\\@" or line in ("exit", "quit", "help"))
        if alone or not line or line.endswith(";"):
            return text.rstrip(";")


def _remember() -> None:
    """Keep a history between sessions, for this user alone; without readline there is none."""
    try:
        import readline  # noqa: PLC0415 - not on every system
    except ImportError:
        return
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    path = home / "egresslens" / "sql_history"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        readline.read_history_file(path)
    readline.set_history_length(_HISTORY_LINES)
    atexit.register(_write_history, path)


def _write_history(path: Path) -> None:
    import readline  # noqa: PLC0415 - as above

    with suppress(OSError):
        readline.write_history_file(path)
