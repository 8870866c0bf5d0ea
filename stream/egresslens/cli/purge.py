"""`egresslens purge`: remove what should never have been stored."""

from __future__ import annotations

import sys
from datetime import datetime

import click
from clickhouse_connect.driver.exceptions import ClickHouseError

from egresslens.cli import EX_USAGE
from egresslens.cli.away import away
from egresslens.clickhouse.client import connect
from egresslens.purge import KEPT, Target, count, purge
from egresslens.settings import Settings, load

_DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.option("--from", "first", type=_DAY, required=True, help="First day (UTC).")
@click.option("--until", "last", type=_DAY, required=True, help="Last day (UTC), included.")
@click.option("--namespace", help="Only this source namespace.")
@click.option("--workload", help="Only this source workload.")
@click.option("--host", help="Only this destination host, as stored.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only count.")
def command(
    first: datetime,
    last: datetime,
    namespace: str | None,
    workload: str | None,
    host: str | None,
    yes: bool,
    dry_run: bool,
) -> None:
    """Remove a workload's or a host's records of whole days from every table, for good.

    Incidents go as a whole. Dead letters have no fields, so those that mention the names go. What it cannot
    reach it says: Kafka's topics, the registry and backups. A worker that still holds a window of the last
    minutes writes it again, and so does the alerts process with an incident that goes on; purge days that are
    over, or stop both first.
    """
    settings = load()
    target = Target(first.date(), last.date(), namespace, workload, host)
    if not target.names:
        click.secho("name a --namespace, a --workload or a --host", fg="red", err=True)
        sys.exit(EX_USAGE)
    try:
        client = connect(settings, "writer")
        rows = count(client, settings, target)
        for table, number in rows.items():
            click.echo(f"{number:>12,}  {table}")
        if dry_run:
            return
        if sum(rows.values()) and not yes:
            click.confirm("Remove these rows for good?", abort=True)
        removed = purge(client, settings, target)
    except ClickHouseError as error:
        away(settings, error)
    for table in sorted(removed.keys() - rows.keys()):
        click.echo(f"{removed[table]:>12,}  {table} (of what is no longer seen)")
    click.echo("removed")
    click.echo(unreached(settings), err=True)


def unreached(settings: Settings) -> str:
    """What a purge does not touch."""
    topics = [
        *settings.access_log_topics,
        settings.enriched_topic,
        settings.windows_topic,
        settings.dead_letter_topic,
        settings.replay_topic,
        settings.alerts_topic,
    ]
    return (
        f"Not reached: the Kafka topics {', '.join(topics)} (their retention removes it; a worker that reads "
        f"them again stores it again), {', '.join(KEPT.values())}, backups of ClickHouse, and whatever "
        "consumers downstream have kept."
    )
