"""`egresslens worker`: run the stream."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import click

from egresslens.cli import EX_DATAERR, EX_TEMPFAIL
from egresslens.cli.away import make_topics
from egresslens.kafka.topics import Topic
from egresslens.settings import Settings, load
from egresslens.worker import tuning
from egresslens.worker.breaker import TooManyRejectsError


@click.command()
@click.option("--file", type=click.Path(path_type=Path), help="TOML file with settings.")
@click.option(
    "--create-topics/--no-create-topics", "create", default=True, help="Create missing topics first."
)
def command(file: Path | None, create: bool) -> None:
    """Read access logs from Kafka, label them, and keep events and windows in ClickHouse.

    Run as many as the topic has partitions; they share the work. Ctrl-C or SIGTERM flushes, commits and
    leaves the group.

    Exit codes: 0 stopped, 1 an error (start it again: nothing is lost), 65 too many messages could not be
    read (nothing of them is stored or committed), 69 no broker answers at the start, 75 stopped while
    ClickHouse or Kafka was away, with records left uncommitted for the next worker.
    """
    settings = load(file=file)
    tuning.begin_anew()
    # Importing Faust takes half a second, which --help need not wait for.
    from egresslens.worker.app import Worker  # noqa: PLC0415

    if create:
        make_topics(settings, topics(settings))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = Worker(settings)
    code = 0
    try:
        log_to_stderr(settings.log_level.upper())
        engine = worker.app.Worker(loop=loop, override_logging=False, quiet=True)
        engine.spinner = None
        engine.execute_from_commandline()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    if worker.pipeline and isinstance(worker.pipeline.error, TooManyRejectsError):
        click.secho(str(worker.pipeline.error), fg="red", err=True)
        code = EX_DATAERR
    if code == 0 and worker.pipeline and worker.pipeline.pending:
        pending = worker.pipeline.pending
        click.echo(f"{pending} batches are not stored; the next worker reads them again", err=True)
        code = EX_TEMPFAIL
    sys.exit(code)


def log_to_stderr(level: str) -> None:
    """One line per event that an operator acts on; the engine's own chatter only when it warns."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    for name in ("aiokafka", "kafka", "faust", "mode", "asyncio", "clickhouse_connect"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def topics(settings: Settings) -> list[Topic]:
    """The topics a worker reads and writes."""
    published = (settings.enriched_topic, settings.windows_topic, settings.dead_letter_topic)
    names = [*settings.access_log_topics, settings.replay_topic, *published]
    return [Topic(name, settings.topic_partitions, settings.topic_replication) for name in names]
