"""Bring a database to this version's schema, or say why not.

Every statement may run twice (IF NOT EXISTS, OR REPLACE, MODIFY to a value), and a migration is recorded
after its last statement. So a migration that was interrupted is repeated whole, and two that run at once do
the same work twice and end alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from egresslens.clickhouse import schema
from egresslens.clickhouse.schema import Script
from egresslens.settings import Settings

_RECORDED: Final = ("number", "name", "checksum")


class MigrateError(Exception):
    """The database cannot be brought to this version; the message says what differs."""


class Client(Protocol):
    """What migrating needs of a clickhouse-connect client."""

    def command(self, cmd: str, /) -> Any:
        """Run a statement."""

    def query(self, query: str, /) -> Any:
        """Run a query; `result_rows` are its rows."""

    def insert(self, table: str, data: Sequence[Sequence[Any]], column_names: Sequence[str], /) -> Any:
        """Insert rows."""


@dataclass(frozen=True)
class Step:
    """A file that is to be applied: its statements and the row that records it."""

    script: Script
    statements: list[str]
    checksum: str


def migrate(client: Client, settings: Settings, directory: Path | None = None) -> list[str]:
    """Apply what is missing; the names of what was applied, in order.

    Raises:
        MigrateError: the database is newer than this program, or a migration in it is not this program's.
    """
    directory = directory or schema.folder()
    for statement in bootstrap(settings, directory):
        client.command(statement)
    steps = list(_missing(_recorded(client, settings), settings, directory))
    for step in steps:
        for statement in step.statements:
            client.command(statement)
        client.insert(
            f"{settings.database}.raw_migrations",
            [(step.script.number, step.script.name, step.checksum)],
            _RECORDED,
        )
    return [_title(step.script) for step in steps]


def missing(client: Client, settings: Settings, directory: Path | None = None) -> list[str]:
    """Name what `migrate` would apply to a database; changes nothing.

    Raises:
        MigrateError: as `migrate`.
    """
    directory = directory or schema.folder()
    exists = client.query(
        f"SELECT 1 FROM system.tables WHERE database = '{settings.database}' AND name = 'raw_migrations'"  # noqa: S608 - a name by its pattern
    ).result_rows
    recorded = _recorded(client, settings) if exists else {}
    return [_title(step.script) for step in _missing(recorded, settings, directory)]


def script(settings: Settings, directory: Path | None = None) -> list[str]:
    """Every statement an empty database would get."""
    directory = directory or schema.folder()
    steps = _missing({}, settings, directory)
    return [*bootstrap(settings, directory), *(statement for step in steps for statement in step.statements)]


def bootstrap(settings: Settings, directory: Path) -> list[str]:
    """Make the statements for the database itself and the table that records the migrations."""
    return schema.render(schema.script(directory, schema.BOOTSTRAP).text, settings)


def _recorded(client: Client, settings: Settings) -> dict[tuple[int, str], str]:
    rows = client.query(
        f"SELECT number, name, checksum FROM {settings.database}.raw_migrations FINAL"  # noqa: S608 - a name by its pattern
    ).result_rows
    return {(number, name): checksum for number, name, checksum in rows}


def _missing(recorded: dict[tuple[int, str], str], settings: Settings, directory: Path) -> Iterator[Step]:
    known = {one.number: one for one in schema.migrations(directory)}
    newest = max((number for number, _ in recorded), default=0)
    if newest > max(known, default=0):
        raise MigrateError(
            f"the database {settings.database} is at migration {newest}, this program knows {max(known)}: "
            "use the newer program"
        )
    applied = {number: (name, checksum) for (number, name), checksum in recorded.items() if number}
    for number, (name, checksum) in sorted(applied.items()):
        one = known.get(number)
        if one is None or one.checksum != checksum:
            raise MigrateError(
                f"migration {number:04}_{name} of the database {settings.database} is not this program's: "
                f"applied with checksum {checksum}, here it is {one.checksum if one else 'unknown'}"
            )
    for number, one in sorted(known.items()):
        if number not in applied:
            yield Step(one, schema.render(one.text, settings), one.checksum)
    for filename in schema.REPEATABLE:
        one = schema.script(directory, filename)
        statements = schema.render(one.text, settings)
        checksum = schema.checksum("\n".join(statements))
        if recorded.get((0, filename)) != checksum:
            yield Step(one, statements, checksum)


def _title(one: Script) -> str:
    return f"{one.number:04}_{one.name}" if one.number else one.name
