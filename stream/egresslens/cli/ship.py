"""`egresslens ship`: follow log files into Kafka."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType

import click
from kafka import KafkaProducer
from kafka.errors import AuthorizationError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from egresslens.cli import EX_CONFIG, EX_TEMPFAIL, EX_UNAVAILABLE
from egresslens.kafka import client
from egresslens.kafka.topics import Topic, create_topics
from egresslens.settings import Settings, load
from egresslens.ship.delivery import PRODUCER, DeliveryError
from egresslens.ship.envelope import Metadata
from egresslens.ship.positions import Positions, PositionsError
from egresslens.ship.run import Shipped, ship
from egresslens.ship.tail import expand

log = logging.getLogger(__name__)

POSITION_FILE = "ship.json"


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--topic", help="Topic; default: the first of EGRESSLENS_ACCESS_LOG_TOPICS.")
@click.option("--once", is_flag=True, help="Send what is there and exit.")
@click.option(
    "--position",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"File that remembers what was sent; default: `{POSITION_FILE}` in EGRESSLENS_DATA_DIR.",
)
@click.option("--pod", help="Pod that writes the files.")
@click.option("--namespace", help="Its namespace.")
@click.option("--workload", help="Its workload (canonical name).")
@click.option("--cluster", help="Its cluster.")
@click.option("--region", help="Its region.")
@click.option("--zone", help="Its zone.")
@click.option("--node", help="Its node.")
@click.option("--container", help="Its container, such as istio-proxy.")
def command(
    files: tuple[str, ...], topic: str | None, once: bool, position: Path | None, **known: str | None
) -> None:
    """Follow access-log files into Kafka, through rotation, truncation and restarts.

    FILE may be a pattern in quotes, and need not exist yet. With any of --pod … --container the lines are
    sent in an envelope that holds these; without, as they are. What was acknowledged is remembered: the next
    run goes on from there, and after a crash sends the last lines again. A pattern that also names renamed
    files ('access.log*') finds those that came and went while nobody followed.
    """
    settings = load()
    missing = _missing(files)
    if once and missing:
        raise click.UsageError(f"there is no file {missing[0]}")
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    # kafka-python logs every attempt to reach a broker; `ship` says once that it cannot.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    for file in missing:
        log.warning("there is no file %s yet: waiting for it", file)
    topic = topic or settings.access_log_topics[0]
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, _setter(stop))
    try:
        with Positions(position or settings.data_dir / POSITION_FILE) as positions, _bar(once) as progress:
            shipped = ship(
                files,
                topic=topic,
                connect=lambda: _producer(settings, topic),
                metadata=Metadata(**known),
                positions=positions,
                once=once,
                stop=stop,
                now=lambda: datetime.now(timezone.utc),
                progress=progress,
            )
    except PositionsError as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(EX_CONFIG)
    except DeliveryError as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(EX_UNAVAILABLE)
    click.echo(_summary(shipped, topic), err=True)
    if shipped.unacknowledged:
        sys.exit(EX_TEMPFAIL)


def _producer(settings: Settings, topic: str) -> KafkaProducer:
    """Connect; a configured topic that does not exist is made, one named by hand may be a misspelling."""
    producer = KafkaProducer(**client.kafka_python(settings), **PRODUCER)
    if topic in settings.access_log_topics:
        # Without the right to create topics it has to exist.
        with contextlib.suppress(AuthorizationError):
            create_topics(settings, [Topic(topic, settings.topic_partitions, settings.topic_replication)])
    return producer


def _missing(files: tuple[str, ...]) -> list[str]:
    """Those of the names and patterns that name nothing now."""
    return [file for file in files if not any(Path(path).exists() for path in expand(file))]


def _setter(stop: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handle(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signal module's signature
        stop.set()

    return handle


def _summary(shipped: Shipped, topic: str) -> str:
    text = f"lines sent to {topic}: {shipped.acknowledged} (files: {shipped.files})"
    if shipped.unacknowledged:
        text += f"; not acknowledged in time, to be sent at the next start: {shipped.unacknowledged}"
    return text


@contextlib.contextmanager
def _bar(once: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar where a run has an end and somebody watches."""
    if not (once and sys.stderr.isatty()):
        yield lambda done, total: None  # noqa: ARG005 - the progress callback's signature
        return
    columns = (TextColumn("shipping"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("shipping")

        def update(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield update
