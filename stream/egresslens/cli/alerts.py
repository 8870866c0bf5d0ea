"""`egresslens alerts`: run, list and try the alerts."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final, NoReturn

import click
import polars as pl
import yaml

from egresslens.alerts.book import Incident, Subject
from egresslens.alerts.deliver import DeliveryError, receivers
from egresslens.alerts.rules import AlertRules, RulesError, read_rules
from egresslens.cli import EX_CONFIG
from egresslens.cli.asking import asking, moments, ranged, selecting
from egresslens.cli.away import make_topics
from egresslens.cli.tables import console, print_table
from egresslens.cli.worker import log_to_stderr
from egresslens.kafka.topics import Topic
from egresslens.report.ask import Selection, query_frame
from egresslens.report.shape import records, to_csv
from egresslens.settings import Settings, load
from egresslens.summary import source_name

_WEEK: Final = timedelta(days=7)
CONFIG = click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings.")


@click.group()
def command() -> None:
    """Incidents: blocked attempts, new destinations, residency, mismatches and sudden volumes."""


@command.command("run")
@CONFIG
@click.option(
    "--create-topics/--no-create-topics", "create", default=True, help="Create missing topics first."
)
def run_command(config: Path | None, create: bool) -> None:
    """Watch the windows topic, and tell the topic, Alertmanager and the webhook of incidents.

    Run as many as the windows topic has partitions; a workload is always seen by one of them. State is in
    ClickHouse. Ctrl-C or SIGTERM ends it.

    Exit codes: 0 stopped, 1 an error (start it again: nothing is lost), 78 the settings or rules are wrong.
    """
    settings = load(file=config)
    rules = _rules(settings)
    if create:
        names = (settings.windows_topic, settings.alerts_topic)
        make_topics(
            settings, [Topic(name, settings.topic_partitions, settings.topic_replication) for name in names]
        )
    # Importing Faust takes half a second, which the other commands need not wait for.
    from egresslens.alerts.app import create_app  # noqa: PLC0415

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    log_to_stderr(settings.log_level.upper())
    try:
        app = create_app(settings, rules)
    except ValueError as error:
        _wrong(error)
    engine = app.Worker(loop=loop, override_logging=False, quiet=True)
    engine.spinner = None
    engine.execute_from_commandline()


@command.command("list")
@ranged("7d")
@selecting
@click.option("--state", type=click.Choice(["firing", "resolved"]), help="Only these.")
@click.option("--rule", help="Only those of this rule.")
@click.option(
    "--format", "shape", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True
)
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(min=1), help="The newest so many."
)
@CONFIG
def list_command(
    since: timedelta | None,
    from_: datetime | None,
    until: datetime | None,
    namespace: str | None,
    workload: str | None,
    host: str | None,
    cluster: str | None,
    state: str | None,
    rule: str | None,
    shape: str,
    limit: int,
    config: Path | None,
) -> None:
    """List incidents with an event in the range, the newest first."""
    settings = load(file=config)
    begin, end = moments(since, from_, until, datetime.now(timezone.utc), _WEEK)
    with asking(settings) as reader:
        found = _listed(
            reader, settings, Selection(namespace, workload, host, cluster), begin, end, state, rule, limit
        )
    if shape == "json":
        for row in records(found):
            click.echo(json.dumps({**row, "details": json.loads(row["details"])}))
    elif shape == "csv":
        click.echo(to_csv(found))
    else:
        shown = found.select(
            "state",
            "severity",
            "rule",
            source_name(),
            pl.col("destination_host").alias("destination"),
            pl.col("destination_port").alias("port"),
            "count",
            "first_seen",
            "last_seen",
            pl.col("details").str.json_path_match("$.summary").alias("summary"),
        )
        print_table(shown, "Alerts", console())


def _listed(
    reader: object,
    settings: Settings,
    selection: Selection,
    begin: datetime,
    end: datetime,
    state: str | None,
    rule: str | None,
    limit: int,
) -> pl.DataFrame:
    columns = {
        "cluster": "source_cluster = {cluster:String}",
        "namespace": "source_namespace = {namespace:String}",
        "workload": "source_workload = {workload:String}",
        "host": "destination_host LIKE {host:String}",
    }
    tests = ["last_seen >= {begin:DateTime64(3, 'UTC')}", "first_seen < {end:DateTime64(3, 'UTC')}"]
    tests += [columns[name] for name in selection.conditions()]
    tests += ["state = {state:String}"] if state else []
    tests += ["rule = {rule:String}"] if rule else []
    statement = (
        f"SELECT * FROM {settings.database}.alerts WHERE {' AND '.join(tests)} "  # noqa: S608 - conditions of ours, values are bound
        "ORDER BY last_seen DESC, id LIMIT {limit:UInt32}"
    )
    given = {
        **selection.parameters(),
        "begin": begin,
        "end": end,
        "limit": limit,
        "state": state,
        "rule": rule,
    }
    return query_frame(reader, statement, {name: value for name, value in given.items() if value is not None})


@command.command("test")
@CONFIG
def test_command(config: Path | None) -> None:
    """Send a test alert, firing and then resolved, to every receiver that is set.

    Exit codes: 0 all took it, 1 one did not.
    """
    settings = load(file=config)
    make_topics(
        settings, [Topic(settings.alerts_topic, settings.topic_partitions, settings.topic_replication)]
    )
    failed = asyncio.run(_test(settings))
    sys.exit(1 if failed else 0)


async def _test(settings: Settings) -> bool:
    now = datetime.now(timezone.utc)
    summary = "This is a test of egresslens' alerts"
    subject = Subject(None, "egresslens", "alerts-test", None, "test.invalid", 443)
    firing = Incident(
        uuid.uuid4().hex, "test", "test", "info", "firing", subject, now, now, 1, summary,
        {"sent_by": "egresslens alerts test"},
    )  # fmt: skip
    resolved = Incident(**{**vars(firing), "state": "resolved"})
    failed = False
    for receiver in receivers(settings):
        try:
            await receiver.tell([firing], now)
            await receiver.tell([resolved], now)
            click.echo(f"{receiver.name}: took it ({firing.id})")
        except DeliveryError as error:
            failed = True
            click.secho(f"{receiver.name}: {error}", fg="red", err=True)
        finally:
            await receiver.close()
    return failed


@command.command("rules")
@CONFIG
def rules_command(config: Path | None) -> None:
    """Print the rules in force as YAML: a file to begin with, and a check of one's own.

    Exit codes: 78 the file is wrong.
    """
    rules = _rules(load(file=config))
    click.echo(
        yaml.safe_dump(rules.model_dump(mode="json", exclude_defaults=True), sort_keys=False), nl=False
    )


def _rules(settings: Settings) -> AlertRules:
    try:
        return read_rules(settings.alert_rules)
    except RulesError as error:
        _wrong(error)


def _wrong(error: ValueError) -> NoReturn:
    click.secho(str(error), fg="red", err=True)
    sys.exit(EX_CONFIG)
