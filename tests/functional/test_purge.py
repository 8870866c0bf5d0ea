"""Purge: what should never have been stored is gone from every table, and nothing else."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timezone
from pathlib import Path

import pytest

from egresslens.alerts.book import Incident, Subject
from egresslens.alerts.history import save
from egresslens.clickhouse.client import connect
from egresslens.judge import Judges
from egresslens.kafka.broker import Broker
from egresslens.purge import KEPT, Target
from egresslens.purge import purge as remove
from egresslens.registry.refresh import refresh
from egresslens.registry.value import Registries, Registry
from egresslens.store.process import StoreProcess
from functional.deployment import COMMAND, Deploy, Deployment, deployments, istio_json

pytestmark = pytest.mark.functional

HOST = "host-1.example.com"
DAY = date(2026, 1, 1)
JUDGED = ("raw_judgements", "raw_judged_addresses", "raw_judged_hosts")


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


def incident(id_: str, host: str | None) -> Incident:
    now = datetime.now(timezone.utc)
    subject = Subject(source_namespace="shop", source_workload="cart", destination_host=host)
    return Incident(id_, "blackhole", "blackhole", "info", "firing", subject, now, now, 1, str(host), {})


def judged_hosts(one: Deployment, table: str) -> set[str]:
    return {host for (host,) in one.query(f"SELECT DISTINCT destination_host FROM {{db}}.{table}")}


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


def test_every_table_that_names_hosts_or_workloads_is_purged_or_said_to_be_kept(stored):
    """A table that someone adds must be covered, or named in `purge.KEPT`."""
    naming = "host|workload|namespace|address|_ip|pod|authority|server_name|forwarded|details|^raw$|^object$"
    tables = {
        table
        for (table,) in stored.query(
            "SELECT DISTINCT table FROM system.columns WHERE database = '{db}' "
            f"AND match(name, '{naming}') AND table IN "
            "(SELECT name FROM system.tables WHERE database = '{db}' AND engine LIKE '%MergeTree')"
        )
    }
    written = connect(stored.settings, "writer")
    removed = remove(written, stored.settings, Target(DAY, DAY, source_workload="x"))
    assert {"raw_events", "raw_alerts", "raw_judged_hosts"} <= tables
    assert tables - KEPT.keys() <= removed.keys()


def test_incidents_of_a_host_are_gone_and_what_goes_on_is_not_told_of_it(stored):
    keep, go, storm = incident("keep", "host-2.example.com"), incident("go", HOST), incident("storm", None)
    suppressed = replace(storm, rule="storm", kind="storm", details={"examples": f"a/b -> {HOST}:443"})
    writer = connect(stored.settings, "writer")
    save(writer, stored.settings, [keep, go, suppressed], datetime.now(timezone.utc))
    assert purge(stored, "--host", HOST, "--yes").returncode == 0
    assert stored.query("SELECT id FROM {db}.alerts") == [("keep",)]
    assert stored.query("SELECT id FROM {db}.raw_alert_progress") == [("keep",)]


def test_judgements_of_what_is_no_longer_seen_are_gone(stored):
    registries = Registries([Registry.of([])])
    writer = connect(stored.settings, "writer")
    now = datetime.now(timezone.utc)
    refresh(writer, stored.settings, registries, Judges(registries), now, everything=True)
    hosts = [judged_hosts(stored, table) for table in JUDGED]
    assert all({HOST, "host-2.example.com"} <= found for found in hosts)
    assert purge(stored, "--host", HOST, "--yes").returncode == 0
    assert [judged_hosts(stored, table) for table in JUDGED] == [found - {HOST} for found in hosts]


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
