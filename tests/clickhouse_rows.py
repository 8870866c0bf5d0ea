"""Builders of rows, and an empty database with the schema on the session's store."""

import asyncio
import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest
from clickhouse_connect.driver.client import Client

from egresslens import record
from egresslens.clickhouse import frames, rollup
from egresslens.clickhouse.client import connect
from egresslens.clickhouse.migrate import migrate
from egresslens.clickhouse.retry import Retry, log_outages
from egresslens.clickhouse.sink import Sink
from egresslens.settings import Settings
from egresslens.store.process import StoreProcess

# An hour that is over, well inside every tier's retention.
HOUR = (datetime.now(timezone.utc) - timedelta(days=3)).replace(hour=9, minute=0, second=0, microsecond=0)
NOW = datetime.now(timezone.utc)
FAR = NOW + timedelta(days=70)
"""A moment at which every window of the tests is over."""


def minute(number: int) -> datetime:
    """The start of a minute after HOUR."""
    return HOUR + timedelta(minutes=number)


def window(**given: Any) -> dict[str, Any]:
    """A window row, ordinary but for what is given. Measures follow `requests`."""
    requests = given.get("requests", 1)
    start = given.get("window_start", HOUR)
    return {
        **dict.fromkeys(record.WINDOW),
        "stream_epoch": "epoch",
        "topic": "egress.access-log",
        "partition": 0,
        "window_start": start,
        "source_cluster": "prod",
        "source_namespace": "web",
        "source_workload": "idgen",
        "label": "outbound",
        "destination_host": "httpbin.org",
        "destination_host_source": "registry",
        "destination_port": 443,
        "protocol": "HTTP/1.1",
        "hop": "sidecar",
        "response_code": 200,
        "requests": requests,
        "mismatches": 0,
        "bytes_sent": 100 * requests,
        "bytes_received": 10 * requests,
        "duration_ms_sum": 5 * requests,
        "duration_ms_max": 5,
        "duration_buckets": [0, 0, requests, *[0] * 17],
        "destination_ips": ["10.0.0.1"],
        "first_event": start,
        "last_event": start + timedelta(seconds=requests),
        "rules_version": 1,
        "last_offset": 0,
        **given,
    }


def windows(*rows: dict[str, Any]) -> pl.DataFrame:
    """A frame of window rows."""
    return pl.DataFrame(list(rows), schema=record.WINDOW)


def event(offset: int = 0, **given: Any) -> dict[str, Any]:
    """An event at an offset, ordinary but for what is given."""
    when = HOUR + timedelta(milliseconds=offset)
    return {
        **dict.fromkeys(record.SCHEMA),
        "event_time": when,
        "label": "outbound",
        "source_workload": "idgen",
        "destination_host": "httpbin.org",
        "response_flags": [],
        "rules_version": 1,
        "stream_epoch": "epoch",
        "topic": "egress.access-log",
        "partition": 0,
        "offset": offset,
        "seq": 0,
        "kafka_timestamp": when,
        **given,
    }


def events(*rows: dict[str, Any]) -> pl.DataFrame:
    """A frame of events."""
    return pl.DataFrame(list(rows), schema=record.SCHEMA)


def progress(last_offset: int, **given: Any) -> pl.DataFrame:
    """The progress of a partition, one row."""
    row = {
        "stream_epoch": "epoch",
        "topic": "egress.access-log",
        "partition": 0,
        "first_offset": 0,
        "last_offset": last_offset,
        "messages": last_offset + 1,
        "messages_with_records": last_offset + 1,
        "messages_filtered": 0,
        "messages_rejected": 0,
        "records": last_offset + 1,
        "events": last_offset + 1,
        "filtered": [],
        "rejected": [],
        "gaps": 0,
        "past_retention": [],
        "rules_version": 1,
        **given,
    }
    return pl.DataFrame([row], schema=frames.PROGRESS)


@dataclass
class Database:
    """A migrated database and its clients, with the verbs the tests speak in."""

    settings: Settings
    writer: Client
    reader: Client

    def insert(self, table: str, *several: pl.DataFrame) -> None:
        """Insert frames one after the other, as a worker would."""

        async def act() -> None:
            sink = Sink(self.settings, Retry(log_outages(logging.getLogger("test"))))
            try:
                for frame in several:
                    assert (await sink.insert(table, frame)).is_empty()
            finally:
                await sink.close()

        asyncio.run(act())

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Rows of a reader's query; `{db}` stands for the database."""
        result = self.reader.query(query.replace("{db}", self.settings.database))
        return list(result.named_results())

    def view(self, name: str, order: str = "ALL") -> list[dict[str, Any]]:
        """All rows of a published view."""
        return self.rows(f"SELECT * FROM {{db}}.{name} ORDER BY {order}")

    def command(self, statement: str) -> None:
        """A writer's statement; `{db}` stands for the database."""
        self.writer.command(statement.replace("{db}", self.settings.database))

    def roll_up(self, now: datetime = FAR) -> dict[str, int]:
        """Roll up, and let what was rolled up count at once instead of in ten seconds."""
        done = rollup.roll_up(self.writer, self.settings, now)
        self.command(
            "ALTER TABLE {db}.raw_rolled UPDATE rolled_at = rolled_at - 60 WHERE 1 "
            "SETTINGS mutations_sync = 1"
        )
        return done


def settings_of(store: StoreProcess) -> Settings:
    """Settings for a store and a database of one's own."""
    return Settings(
        clickhouse_url=store.url,
        clickhouse_user=store.writer[0],
        clickhouse_password=store.writer[1],
        clickhouse_reader_user=store.reader[0],
        clickhouse_reader_password=store.reader[1],
        database=f"egl_{uuid.uuid4().hex[:8]}",
    )


@pytest.fixture(scope="module")
def migrated(store: StoreProcess) -> Iterator[Database]:
    """A database with the schema, which the tests of a file share: ask for `database`, it is empty."""
    settings = settings_of(store)
    writer, reader = connect(settings, "writer"), connect(settings, "reader")
    migrate(writer, settings)
    yield Database(settings, writer, reader)
    writer.command(f"DROP DATABASE {settings.database}")
    writer.close()
    reader.close()


@pytest.fixture
def database(migrated: Database) -> Database:
    """An empty database with the schema."""
    filled = migrated.rows(
        "SELECT name FROM system.tables "
        "WHERE database = '{db}' AND total_rows > 0 AND name != 'raw_migrations'"
    )
    for row in filled:
        migrated.command(f"TRUNCATE TABLE {{db}}.{row['name']}")
    return migrated
