"""What the commands that read the store share: ranges of time, whose traffic, and a store that is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any, Final, TypeVar

import click
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from egresslens.cli.away import away
from egresslens.cli.span import Span
from egresslens.clickhouse.client import connect
from egresslens.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

MOMENT: Final = click.DateTime(
    [
        "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M",
        "%Y-%m-%d",
    ]
)  # fmt: skip


def ranged(default: str) -> Callable[[Command], Command]:
    """Add the options of a range of time: `since`, `from_` and `until`."""

    def add(command: Command) -> Command:
        for option in (
            click.option("--until", type=MOMENT, help="The end, not included (UTC); default now."),
            click.option("--from", "from_", type=MOMENT, help="The beginning (UTC), instead of --since."),
            click.option(
                "--since", type=Span(), help=f"How far to look back: 90m, 24h, 7d; default {default}."
            ),
        ):
            command = option(command)
        return command

    return add


def selecting(command: Command) -> Command:
    """Add the options that say whose traffic, and where to."""
    for option in (
        click.option("--cluster", help="Only this Kubernetes cluster."),
        click.option("--host", help="Only this destination; * stands for any text."),
        click.option("--workload", help="Only this workload."),
        click.option("--namespace", help="Only this namespace."),
    ):
        command = option(command)
    return command


def moments(
    since: timedelta | None, from_: datetime | None, until: datetime | None, now: datetime, default: timedelta
) -> tuple[datetime, datetime]:
    """The range that the options name (UTC, aware).

    Raises:
        click.UsageError: both beginnings, or an end before the beginning.
    """
    if since is not None and from_ is not None:
        raise click.UsageError("--since and --from exclude each other")
    end = until.replace(tzinfo=timezone.utc) if until else now
    begin = from_.replace(tzinfo=timezone.utc) if from_ else end - (since or default)
    if begin >= end:
        raise click.UsageError("the range is empty: its end must be after its beginning")
    return begin, end


@contextmanager
def asking(settings: Settings) -> Iterator[Client]:
    """A client of the reader's account; a store that cannot be asked ends the command with exit code 69."""
    try:
        client = connect(settings, "reader")
        try:
            yield client
        finally:
            client.close()
    except ClickHouseError as error:
        away(settings, error)
