"""Purge: what should never have been stored is gone from every table, and nothing else."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from egresslens.kafka.broker import Broker
from egresslens.store.process import StoreProcess
from functional.deployment import COMMAND, Deploy, Deployment, deployments, istio_json

pytestmark = pytest.mark.functional

HOST = "host-1.example.com"


@pytest.fixture
def stored(broker: Broker, store: StoreProcess, tmp_path: Path) -> Iterator[Deployment]:
    makes: Iterator[Deploy] = deployments(broker.bootstrap, store, tmp_path)
    one = next(makes)()
    worker = one.start_worker()
    one.produce([*(istio_json(number) for number in range(100)), f"unread {HOST}".encode(), b"unread"])
    one.wait_for_messages(102)
    assert worker.stop() == 0
    yield one
    next(makes, None)


def purge(one: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A test may run over midnight.
    days = [time.strftime("%Y-%m-%d", time.gmtime(time.time() + shift)) for shift in (-86_400, 86_400)]
    return subprocess.run(
        [*COMMAND, "purge", "--from", days[0], "--until", days[1], *arguments],
        env=one.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def left(one: Deployment, host: str) -> list[int]:
    views = ("events", "windows_1m", "windows_1h", "windows_1d", "destinations")
    return [
        one.value(f"SELECT count() FROM {{db}}.{view} WHERE destination_host = '{host}'") for view in views
    ]


def test_a_host_is_gone_from_every_view_and_the_others_stay(stored):
    done = purge(stored, "--host", HOST, "--yes")
    assert done.returncode == 0, done.stderr
    assert left(stored, HOST) == [0, 0, 0, 0, 0]
    assert all(left(stored, "host-2.example.com"))
    assert stored.value("SELECT count() FROM {db}.events") == 98
    assert stored.value("SELECT sum(requests) FROM {db}.windows_1d") == 98
    assert stored.value("SELECT count() FROM {db}.dead_letters") == 1


def test_it_says_what_it_cannot_reach(stored):
    assert stored.topic in purge(stored, "--host", HOST, "--yes").stderr


def test_a_dry_run_removes_nothing(stored):
    assert purge(stored, "--host", HOST, "--dry-run").returncode == 0
    assert stored.value("SELECT count() FROM {db}.events") == 100


def test_without_a_name_nothing_is_removed(stored):
    assert purge(stored, "--yes").returncode == 64
    assert stored.value("SELECT count() FROM {db}.events") == 100


def test_it_asks_first(stored):
    assert purge(stored, "--host", HOST).returncode != 0
    assert stored.value("SELECT count() FROM {db}.events") == 100


def test_a_hostile_name_is_a_value_and_no_sql(stored):
    assert purge(stored, "--host", "x' OR 1 = 1 --", "--yes").returncode == 0
    assert stored.value("SELECT count() FROM {db}.events") == 100
