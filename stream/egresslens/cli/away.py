"""What commands say when a server cannot be asked, and what to do then."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final, NoReturn

import click
from clickhouse_connect.driver.exceptions import ClickHouseError
from kafka.errors import AuthorizationError, KafkaError

from egresslens.cli import EX_UNAVAILABLE
from egresslens.clickhouse.errors import Reason, sort
from egresslens.kafka.topics import Topic, create_topics
from egresslens.settings import Settings
from egresslens.text import visible

_STORE: Final = {
    Reason.UNREACHABLE: "Is it running, and does EGRESSLENS_CLICKHOUSE_URL name it?",
    Reason.ACCESS: "Are the users and passwords (EGRESSLENS_CLICKHOUSE_…) right, and have they their grants?",
    Reason.SCHEMA: "Are the tables there? `egresslens migrate` makes them.",
}
_RIGHTS: Final = "The user lacks a right. If the topics are there, --no-create-topics asks for no more."
_BROKER: Final = "Is it running, and do EGRESSLENS_KAFKA_BROKERS and EGRESSLENS_KAFKA_… name it rightly?"


def away(settings: Settings, error: Exception) -> NoReturn:
    """Say that ClickHouse or else Kafka cannot be asked and what to do, and end with exit code 69."""
    click.secho(said(settings, error), fg="red", err=True)
    sys.exit(EX_UNAVAILABLE)


def said(settings: Settings, error: Exception) -> str:
    """The same in words: what was asked, what it said, and what to do."""
    if isinstance(error, ClickHouseError):
        trouble = sort(error)
        asked, why = f"ClickHouse at {settings.clickhouse_url}", visible(str(error))
        hint = _STORE.get(trouble.reason) if trouble else None
    else:
        asked, why = f"Kafka at {settings.kafka_brokers}", visible(repr(error))
        hint = _RIGHTS if isinstance(error, AuthorizationError) else _BROKER
    lines = (f"{asked}: {why}", hint, "`egresslens doctor` looks at every part.")
    return "\n".join(line for line in lines if line)


def make_topics(settings: Settings, topics: Iterable[Topic]) -> None:
    """Create those topics that do not exist; a broker that is away or refuses ends the command."""
    try:
        create_topics(settings, topics)
    except KafkaError as error:
        away(settings, error)
