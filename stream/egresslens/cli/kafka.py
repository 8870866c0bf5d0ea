"""`egresslens kafka`: the embedded broker in the foreground."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

import click

from egresslens.cli import EX_UNAVAILABLE
from egresslens.kafka.broker import KAFKA_VERSION, BrokerError, embedded_broker
from egresslens.settings import load


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the broker's data; default: `kafka` in EGRESSLENS_DATA_DIR.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9092, show_default=True, help="0 picks a free one."
)
def command(folder: Path | None, port: int) -> None:
    """Start Apache Kafka on this machine, for trying and testing; Ctrl-C stops it.

    Needs Java 17+, and Maven the first time, to fetch Kafka's jars. It listens on loopback alone.
    """
    folder = folder or load().data_dir / "kafka"
    # A shell starts background jobs with SIGINT ignored, which would leave no way to say Ctrl-C to them.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, _interrupt)
    try:
        with embedded_broker(folder, port) as broker:
            click.echo(
                f"Apache Kafka {KAFKA_VERSION} on {broker.bootstrap} (data: {broker.folder})\n"
                "Use it in another terminal:\n"
                f"  export EGRESSLENS_KAFKA_BROKERS={broker.bootstrap}\n"
                "Ctrl-C stops it."
            )
            code = broker.wait()
        click.secho(f"Kafka ended by itself (code {code}); see {broker.log}", fg="red", err=True)
        sys.exit(EX_UNAVAILABLE)
    except BrokerError as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(EX_UNAVAILABLE)
    except KeyboardInterrupt:
        click.echo("Kafka has stopped.")


def _interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signal module's signature
    raise KeyboardInterrupt
