"""`egresslens registry`: what people declare about the mesh, into ClickHouse."""

from __future__ import annotations

import signal
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import click
import orjson
import polars as pl
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from rich.console import Console

from egresslens.cli import EX_CONFIG
from egresslens.cli.away import away, said
from egresslens.cli.history import read_files
from egresslens.cli.span import Span
from egresslens.cli.tables import console, print_table
from egresslens.clickhouse.client import connect
from egresslens.judge import Judges
from egresslens.registry import store
from egresslens.registry.files import Loader
from egresslens.registry.geo import open_geo
from egresslens.registry.models import Object, ServiceEntry, Sidecar
from egresslens.registry.problems import RegistryError
from egresslens.registry.refresh import Refreshed, refresh
from egresslens.registry.value import Registry
from egresslens.settings import Settings, load
from egresslens.text import ascii_json, visible

PATHS: Final = click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True), metavar="PATH..."
)
CONFIG: Final = click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings.")
# Seconds until ClickHouse is asked again where it was away.
_RETRY_S: Final = 10.0
CLUSTER: Final = click.option(
    "--cluster", default="", help="What records call the cluster (source_cluster); without, for any cluster."
)


@click.group()
def command() -> None:
    """Keep what people declare: ServiceEntries, Sidecars, Services, pods, nodes, networks, regions.

    It is joined to what was seen when it is read, so that a change applies to the past as well.
    """


@command.command("load")
@PATHS
@CLUSTER
@CONFIG
@click.option("--partial", is_flag=True, help="Keep stored objects that PATH does not have.")
@click.option("--check", is_flag=True, help="Only read the files, and say what is wrong with them.")
def load_command(
    paths: tuple[Path, ...], cluster: str, config: Path | None, partial: bool, check: bool
) -> None:
    """Bring the stored registry of a cluster to what PATH holds, and judge what was seen by it.

    PATH is a file or a folder: the output of `kubectl get serviceentries,sidecars,services,pods,nodes -A -o
    yaml` (or json, which is much faster to read), Istio's ConfigMap, the range files that AWS, Google and
    Azure publish, and files of kind EgressContext. What PATH does not have is marked as removed.

    Exit codes: 0 loaded (also if nothing changed), 65 a file is wrong and nothing was changed,
    69 ClickHouse cannot be asked.
    """
    registry = read_files(paths, cluster)
    if check:
        click.echo(_held(registry))
        return
    settings = load(file=config)
    try:
        client = connect(settings, "writer")
        changes = store.load(client, settings, registry, _now(), partial=partial)
        refreshed = _refresh(client, settings, everything=False)
    except ClickHouseError as error:
        away(settings, error)
    click.echo(f"{_held(registry)}: {_changed(changes)}; {_judged(refreshed)}")


@command.command("show")
@CONFIG
@click.option("--cluster", help="Only this cluster's.")
@click.option("--kind", help="Only this kind, such as ServiceEntry.")
@click.option("--namespace", help="Only of this namespace.")
@click.option("--at", type=click.DateTime(), help="As it was then (UTC).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, whole.")
def show_command(
    config: Path | None,
    cluster: str | None,
    kind: str | None,
    namespace: str | None,
    at: datetime | None,
    as_json: bool,
) -> None:
    """List the stored objects, as they are or as they were."""
    settings = load(file=config)
    try:
        stored = store.read(
            connect(settings, "reader"), settings, at.replace(tzinfo=timezone.utc) if at else None
        )
    except ClickHouseError as error:
        away(settings, error)
    found = [
        (registry.cluster, one)
        for registry in stored
        for one in registry.objects
        if cluster in (None, registry.cluster)
        and (kind or one.kind).lower() == one.kind.lower()
        and namespace in (None, one.namespace)
    ]
    if as_json:
        for name, one in found:
            click.echo(ascii_json(orjson.dumps({"cluster": name, **one.document()}).decode()))
        return
    rows = [(name or None, one.kind, one.namespace or None, one.name, _about(one)) for name, one in found]
    schema = dict.fromkeys(("cluster", "kind", "namespace", "name", "says"), pl.String())
    print_table(pl.DataFrame(rows, schema=schema, orient="row"), "Registry", console())


@command.command("watch")
@PATHS
@CLUSTER
@CONFIG
@click.option(
    "--interval", type=Span(), default="1m", show_default=True, help="Time between looks at what was seen."
)
@click.option("--once", is_flag=True, help="Look once, and end.")
def watch_command(
    paths: tuple[Path, ...], cluster: str, config: Path | None, interval: Any, once: bool
) -> None:
    """Load PATH whenever it changes, and judge new destinations as they are seen.

    Files are looked at every second. A file that is wrong is said once, and the last good registry stays; so
    it does while ClickHouse is away. Ctrl-C or SIGTERM ends it.
    """
    settings = load(file=config)
    # As a container's first process it has no other way to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    loader = Loader(paths, cluster)
    pending = False
    due = 0.0
    while True:
        changed = _reload(loader)
        pending = pending or changed
        if loader.registry is not None and (changed or time.monotonic() >= due):
            done = _look(settings, loader.registry if pending else None)
            pending = pending and not done
            due = time.monotonic() + (interval.total_seconds() if done else _RETRY_S)
        if once:
            sys.exit(0 if loader.registry is not None and not pending else 1)
        time.sleep(1)


@command.command("refresh")
@CONFIG
@click.option(
    "--all", "everything", is_flag=True, help="Judge everything again, as a new geographic database needs."
)
def refresh_command(config: Path | None, everything: bool) -> None:
    """Judge what was seen since the last load or refresh by the stored registry."""
    settings = load(file=config)
    try:
        refreshed = _refresh(connect(settings, "writer"), settings, everything=everything)
    except ClickHouseError as error:
        away(settings, error)
    click.echo(_judged(refreshed))


def _reload(loader: Loader) -> bool:
    """Read the files if they changed; whether there is another registry now. Mistakes are said."""
    try:
        return loader.reload()
    except RegistryError as error:
        for problem in error.problems:
            click.secho(visible(str(problem)), fg="red", err=True)
        return False


def _look(settings: Settings, changed: Registry | None) -> bool:
    """Store a changed registry, and judge what is new; whether ClickHouse took it."""
    try:
        client = connect(settings, "writer")
        if changed is not None:
            changes = store.load(client, settings, changed, _now())
            click.echo(f"{_held(changed)}: {_changed(changes)}")
        refreshed = _refresh(client, settings, everything=False)
        client.close()
    except ClickHouseError as error:
        click.secho(f"{said(settings, error)} It will be tried again.", fg="red", err=True)
        return False
    if refreshed.destinations or refreshed.addresses:
        click.echo(_judged(refreshed))
    return True


def _refresh(client: Client, settings: Settings, *, everything: bool) -> Refreshed:
    try:
        geo = open_geo(settings.geo_database) if settings.geo_database else None
    except ValueError as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(EX_CONFIG)
    stored = store.read(client, settings)
    with Console(stderr=True).status("judging what was seen"):
        return refresh(client, settings, stored, Judges(stored, geo), _now(), everything=everything)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _held(registry: Registry) -> str:
    kinds: dict[str, int] = {}
    for one in registry.objects:
        kinds[one.kind] = kinds.get(one.kind, 0) + 1
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))


def _changed(changes: store.Changes) -> str:
    if not changes:
        return "nothing changed"
    return f"{len(changes.added):,} added, {len(changes.changed):,} changed, {len(changes.removed):,} removed"


def _judged(refreshed: Refreshed) -> str:
    return f"{refreshed.destinations:,} destinations and {refreshed.addresses:,} addresses judged"


def _about(one: Object) -> str:
    """What an object says, in a few words."""
    if isinstance(one, ServiceEntry):
        ports = ", ".join(f"{port.number}/{port.protocol or 'any'}" for port in one.spec.ports)
        return f"{', '.join(one.spec.hosts)} ({ports})"
    if isinstance(one, Sidecar):
        return ", ".join(host for listener in one.spec.egress for host in listener.hosts)
    return ""
