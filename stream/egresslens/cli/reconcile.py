"""`egresslens reconcile`: prove that nothing was lost and nothing counts twice."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timezone
from typing import Final

import click
import orjson
from clickhouse_connect.driver.exceptions import ClickHouseError
from kafka.errors import KafkaError

from egresslens.cli.away import away
from egresslens.clickhouse.client import connect
from egresslens.reconcile import Report, reconcile
from egresslens.settings import Settings, load

# Each comparison holds also while workers write. What one reading finds is still looked at again, so that a
# mutation or a change of rules that is just under way raises no alarm.
_TRIES: Final = 3
_WAIT_S: Final = 2.0
_SHOWN: Final = 20


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option(
    "--hours",
    type=click.IntRange(0),
    default=24,
    show_default=True,
    help="How far back minutes are compared with events one by one.",
)
def command(as_json: bool, hours: int) -> None:
    """Compare messages, records, windows, progress and committed offsets, as they are now.

    Of each topic and partition: messages = with records + filtered + rejected; offsets passed = messages +
    gaps; records = requests in windows, hours, days and months together, since the beginning and after any
    TTL; events = requests, number and bytes, for each minute of the last --hours; nothing committed beyond
    what is stored. It may run at any time, from cron too.

    Exit codes: 0 all is equal, 1 something is not (and which), 69 ClickHouse or Kafka cannot be reached.
    """
    settings = load()
    try:
        report = _persistent(settings, hours)
    except (ClickHouseError, KafkaError, OSError) as error:
        away(settings, error)
    click.echo(orjson.dumps(report.as_dict()) if as_json else _text(report))
    sys.exit(1 if report.differences else 0)


def _persistent(settings: Settings, hours: int) -> Report:
    """The report, with those differences only that several readings agree on."""
    client = connect(settings, "reader")
    try:
        report = reconcile(client, settings, datetime.now(timezone.utc), hours)
        for _ in range(_TRIES - 1):
            if not report.differences:
                break
            time.sleep(_WAIT_S)
            report = reconcile(client, settings, datetime.now(timezone.utc), hours)
    finally:
        client.close()
    return report


def _text(report: Report) -> str:
    lines = [
        f"{report.messages:,} messages of {report.streams} partitions became {report.records:,} records",
        f"{report.minutes:,} minutes compared with events, {report.minutes_in_flight} of them being written",
        *report.notes,
    ]
    lines += [
        (
            f"{one.topic}/{one.partition} ({one.stream_epoch}): {one.text}: expected {one.expected:,}, "
            f"found {one.found:,} ({one.found - one.expected:+,})"
        )
        for one in report.differences[:_SHOWN]
    ]
    if len(report.differences) > _SHOWN:
        lines.append(f"and {len(report.differences) - _SHOWN} more (--json has all)")
    lines.append("all is equal" if not report.differences else f"{len(report.differences)} differences")
    return "\n".join(lines)
