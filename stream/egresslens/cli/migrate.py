"""`egresslens migrate`: the schema in ClickHouse."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from clickhouse_connect.driver.exceptions import ClickHouseError

from egresslens.cli import EX_CONFIG
from egresslens.cli.away import away
from egresslens.clickhouse.client import connect
from egresslens.clickhouse.migrate import MigrateError, migrate, script
from egresslens.settings import load


@click.command()
@click.option("--file", type=click.Path(path_type=Path), help="TOML file with settings.")
@click.option("--dry-run", is_flag=True, help="Print every statement an empty database gets, run none.")
def command(file: Path | None, dry_run: bool) -> None:
    """Bring ClickHouse's tables and views to this version.

    May run at any time, also twice at once; applies retention settings that changed. With the setting
    `cluster` the same schema is made ON CLUSTER, replicated and sharded by Kafka partition.
    """
    settings = load(file=file)
    if dry_run:
        for statement in script(settings):
            click.echo(f"{statement};\n")
        return
    try:
        client = connect(settings, "writer")
        applied = migrate(client, settings)
    except MigrateError as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(EX_CONFIG)
    except ClickHouseError as error:
        away(settings, error)
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo(f"the database {settings.database} is up to date")
