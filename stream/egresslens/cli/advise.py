"""`egresslens advise`: the ServiceEntries and Sidecars that would allow what was seen."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from egresslens.advise import Options, advise, render, render_diff
from egresslens.cli.history import load_history, options
from egresslens.cli.span import Span
from egresslens.observed import clusters
from egresslens.settings import load

_DEFAULT = Options()


@click.command()
@options
@click.option(
    "--into",
    default=_DEFAULT.into,
    show_default=True,
    help="Namespace of new ServiceEntries, exported from there.",
)
@click.option(
    "--min-requests",
    type=click.IntRange(min=1),
    default=_DEFAULT.min_requests,
    show_default=True,
    help="Destinations seen more rarely are listed apart.",
)
@click.option(
    "--min-age",
    type=Span(),
    default="0m",
    show_default=True,
    help="Destinations first seen less long ago are listed apart.",
)
@click.option(
    "--wildcard-hosts",
    type=click.IntRange(min=2),
    default=_DEFAULT.wildcard_hosts,
    show_default=True,
    help="So many hosts of one domain become a wildcard.",
)
@click.option("--include-blocked", is_flag=True, help="Also allow what was blocked. Look at it first.")
@click.option("--sidecars/--no-sidecars", default=True, show_default=True, help="Advise egress scopes.")
@click.option("--registry-only", is_flag=True, help="Have new Sidecars block what they do not list.")
@click.option(
    "--unused-after",
    type=Span(),
    default="30d",
    show_default=True,
    help="Entries without traffic for so long are listed for removal.",
)
@click.option("--diff", "as_diff", is_flag=True, help="Print what would change in the registry, as a diff.")
def command(
    config: Path | None,
    logs: tuple[str, ...],
    registry_paths: tuple[Path, ...],
    since: timedelta,
    cluster: str | None,
    into: str,
    min_requests: int,
    min_age: timedelta,
    wildcard_hosts: int,
    include_blocked: bool,
    sidecars: bool,
    registry_only: bool,
    unused_after: timedelta,
    as_diff: bool,
) -> None:
    """Print the ServiceEntries and Sidecars that would allow the observed traffic, for `kubectl apply`.

    From what is stored, or with --file from access logs without any server. What the registry in force
    allows needs nothing new; where it nearly does, its objects are extended. Comments say who was seen
    calling what, how often and when. Listed apart, with the reasons, is what no entry can or should
    allow: addresses without a name, blocked attempts, names that are no hosts. `egresslens whatif` tells
    what would still be blocked.
    """
    history = load_history(
        load(file=config), logs=logs, registry_paths=registry_paths, since=since, cluster=cluster
    )
    seen = clusters(history.traffic)
    if len(seen) > 1:
        raise click.UsageError(f"entries are for one cluster: name it with --cluster ({', '.join(seen)})")
    chosen = Options(
        into=into,
        min_requests=min_requests,
        min_age=min_age,
        wildcard_hosts=wildcard_hosts,
        include_blocked=include_blocked,
        sidecars=sidecars,
        registry_only=registry_only,
        unused_after=unused_after,
    )
    registry = history.registries.of(cluster or (seen[0] if seen else None))
    advice = advise(history.traffic, registry, chosen, history.until)
    click.echo(render_diff(advice) if as_diff else render(advice), nl=False)
