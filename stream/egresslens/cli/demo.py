"""`egresslens demo`: real traffic through the whole pipeline."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click
from clickhouse_connect.driver.exceptions import ClickHouseError

from egresslens.cli import EX_UNAVAILABLE
from egresslens.cli.tables import console


@click.command()
@click.option("--once", is_flag=True, help="Exit after the answers; 1 if one is not what was sent.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep all state in this folder, which must be empty; default: a temporary one, removed at the end.",
)
def command(folder: Path | None, once: bool) -> None:
    r"""Run real traffic through the whole pipeline and print the answers.

    On this machine alone: Apache Kafka, the embedded ClickHouse, a worker, and a small mesh of real Envoys on
    loopback addresses, whose workloads call external services and databases under ALLOW_ANY and
    REGISTRY_ONLY. Needs Linux, Java 17+, and the extras `embedded` and `demo`. Ctrl-C stops everything.

    \b
    Exit codes: 0 every answer is what was sent, 1 one is not, 69 a part is missing or died,
    130 interrupted before the answers.
    """
    _refuse_missing_extras()
    # They need the extras.
    from egresslens.demo.mesh import TrafficError  # noqa: PLC0415
    from egresslens.demo.process import PartError  # noqa: PLC0415
    from egresslens.demo.run import demo  # noqa: PLC0415

    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _interrupt)
    out = console()
    try:
        with _state(folder) as state:
            sys.exit(0 if demo(state, out, once=once) else 1)
    except (PartError, TrafficError, ClickHouseError, OSError) as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(EX_UNAVAILABLE)
    except KeyboardInterrupt:
        sys.exit(130)


@contextlib.contextmanager
def _state(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="egresslens-demo-") as temporary:
            yield Path(temporary)
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise click.UsageError(
            f"{folder} is not empty (for an earlier demo's store: egresslens store --dir {folder}/store)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    yield folder.absolute()


def _refuse_missing_extras() -> None:
    for module, extra in (("envoy", "demo"), ("chdb", "embedded")):
        if importlib.util.find_spec(module) is None:
            click.secho(
                f"the demo needs the extra `{extra}`: pip install 'egresslens[{extra}]'", fg="red", err=True
            )
            sys.exit(EX_UNAVAILABLE)


def _interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signal module's signature
    raise KeyboardInterrupt
