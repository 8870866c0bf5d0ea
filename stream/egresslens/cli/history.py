"""What `advise` and `whatif` share: the traffic and the registry they look at, stored or in files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import polars as pl
from clickhouse_connect.driver.exceptions import ClickHouseError

from egresslens import observed
from egresslens.cli import EX_DATAERR
from egresslens.cli.away import away
from egresslens.cli.reading import read
from egresslens.cli.span import Span
from egresslens.clickhouse.client import connect
from egresslens.clickhouse.observed import read_observed
from egresslens.enrich import enrich, origin
from egresslens.record import STORED_LABELS
from egresslens.registry import store
from egresslens.registry.files import read_registry
from egresslens.registry.problems import RegistryError
from egresslens.registry.value import Registries, Registry
from egresslens.settings import Settings
from egresslens.text import visible

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class History:
    """Traffic (observed.OBSERVED), up to when, and the registries in force."""

    traffic: pl.DataFrame
    until: datetime
    registries: Registries


def options(command: Command) -> Command:
    """Add the options that say where traffic and registry come from."""
    log = click.Path(exists=True, dir_okay=False, allow_dash=True)
    for option in (
        click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings."),
        click.option(
            "--registry",
            "registry_paths",
            multiple=True,
            type=click.Path(path_type=Path, exists=True),
            metavar="PATH",
            help="Files or folders with the registry in force, instead of the stored one.",
        ),
        click.option("--cluster", help="Only what this cluster's proxies logged."),
        click.option("--since", type=Span(), default="30d", show_default=True, help="How far to look back."),
        click.option(
            "--file",
            "logs",
            multiple=True,
            type=log,
            metavar="LOG",
            help="Access-log files (`-` is standard input) instead of what is stored; needs no server.",
        ),
    ):
        command = option(command)
    return command


def load_history(
    settings: Settings,
    *,
    logs: Sequence[str],
    registry_paths: Sequence[Path],
    since: timedelta,
    cluster: str | None,
) -> History:
    """Read traffic and registry as the options say. What cannot be read ends the command, with the reason."""
    given = read_files(registry_paths, cluster) if registry_paths else None
    if logs:
        traffic = _of_logs(settings, logs, cluster)
        until = traffic["last_event"].max() if traffic.height else None
        registries = Registries([given] if given else [])
        return History(traffic, _aware(until) or datetime.now(timezone.utc), registries)
    until = datetime.now(timezone.utc)
    try:
        client = connect(settings, "reader")
        traffic = read_observed(client, settings, until - since, until, cluster)
        registries = Registries([given]) if given else store.read(client, settings)
    except ClickHouseError as error:
        away(settings, error)
    return History(traffic, until, registries)


def read_files(paths: Sequence[Path], cluster: str | None = None, *, may_be_empty: bool = False) -> Registry:
    """Read a registry, for any cluster where none is named; mistakes in it end the command."""
    try:
        return read_registry(tuple(paths), cluster or "", may_be_empty=may_be_empty)
    except RegistryError as error:
        wrong(error)


def wrong(error: RegistryError) -> NoReturn:
    """Say what is wrong with the registry's files, and end with exit code 65."""
    for problem in error.problems:
        click.secho(visible(str(problem)), fg="red", err=True)
    sys.exit(EX_DATAERR)


def _of_logs(settings: Settings, logs: Sequence[str], cluster: str | None) -> pl.DataFrame:
    parts = [pl.DataFrame(schema=observed.OBSERVED)]
    for path, chunk in read(logs):
        stamp = int(Path(path).stat().st_mtime * 1000) if path != "-" else None
        origins = origin("", path, 0, range(len(chunk)), [stamp] * len(chunk))
        records = enrich(chunk, origins, settings.rules, keep_all=True).records
        parts.append(observed.of_records(records.filter(pl.col("label").is_in(STORED_LABELS))))
    traffic = observed.combine(parts)
    return traffic.filter(pl.col("source_cluster") == cluster) if cluster else traffic


def _aware(when: Any) -> datetime | None:
    return when if isinstance(when, datetime) else None
