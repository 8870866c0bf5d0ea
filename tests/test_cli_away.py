"""What commands say when the store or the broker cannot be asked."""

from __future__ import annotations

import subprocess

import pytest
from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError

from egresslens.cli.away import said
from egresslens.settings import Settings
from functional.deployment import COMMAND
from functional.store_fixture import StoreProcess

NOWHERE = {"EGRESSLENS_CLICKHOUSE_URL": "http://127.0.0.1:9", "EGRESSLENS_KAFKA_BROKERS": "127.0.0.1:9"}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=NOWHERE | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "command",
    [
        ("report", "external"),
        ("migrate",),
        ("dlq", "list"),
        ("purge", "--from", "2026-01-01", "--until", "2026-01-01", "--host", "x", "--dry-run"),
        ("reconcile",),
        ("registry", "show"),
        ("advise",),
    ],
    ids=lambda command: command[0],
)
def test_a_store_that_is_away_is_exit_code_69_and_says_what_to_do(command):
    done = run(*command)
    assert done.returncode == 69
    assert "ClickHouse at http://127.0.0.1:9: " in done.stderr
    assert "EGRESSLENS_CLICKHOUSE_URL" in done.stderr
    assert "egresslens doctor" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (KafkaTimeoutError("Unable to bootstrap"), "EGRESSLENS_KAFKA_BROKERS"),
        (TopicAuthorizationFailedError("egress.windows"), "--no-create-topics"),
    ],
)
def test_what_is_said_of_kafka_follows_from_the_error(error, hint):
    text = said(Settings(), error)
    assert text.startswith("Kafka at 127.0.0.1:9092: ")
    assert hint in text


def test_a_wrong_password_points_to_the_accounts(store: StoreProcess):
    done = run("report", "external", EGRESSLENS_CLICKHOUSE_URL=store.url)
    assert done.returncode == 69
    assert "users and passwords" in done.stderr


def test_a_database_that_is_not_there_points_to_migrate(store: StoreProcess):
    user, password = store.reader
    account = {"EGRESSLENS_CLICKHOUSE_READER_USER": user, "EGRESSLENS_CLICKHOUSE_READER_PASSWORD": password}
    done = run(
        "report", "external", EGRESSLENS_CLICKHOUSE_URL=store.url, EGRESSLENS_DATABASE="nothere", **account
    )
    assert done.returncode == 69
    assert "egresslens migrate" in done.stderr
