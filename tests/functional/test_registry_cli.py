"""`egresslens registry`, `advise` and `whatif` against a real engine, as an operator uses them."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from clickhouse_rows import Database, database, migrated, progress, window, windows
from egresslens.cli import cli
from registries import entry, pod

__all__ = ["database", "migrated"]

pytestmark = pytest.mark.functional

RECENT = (datetime.now(timezone.utc) - timedelta(hours=3)).replace(minute=0, second=0, microsecond=0)


@pytest.fixture(autouse=True)
def variables(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the database, as a shell would have them."""
    given = database.settings
    for name in ("clickhouse_url", "clickhouse_user", "clickhouse_reader_user", "database"):
        monkeypatch.setenv(f"EGRESSLENS_{name.upper()}", getattr(given, name))
    for name in ("clickhouse_password", "clickhouse_reader_password"):
        monkeypatch.setenv(f"EGRESSLENS_{name.upper()}", getattr(given, name).get_secret_value())


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)


def write(folder: Path, *documents: dict) -> Path:
    path = folder / "registry.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return path


def see(database: Database, *hosts: str, **given) -> None:
    rows = [
        window(
            **{"window_start": RECENT, **given},
            destination_host=host,
            destination_host_source="sni",
            protocol=None,
            label="passthrough",
            last_offset=at,
        )
        for at, host in enumerate(hosts)
    ]
    database.insert("raw_windows_1m", windows(*rows))
    database.insert("raw_progress", progress(len(hosts)))


def eventually(check: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.2)


def test_a_load_says_what_changed_and_judges_what_was_seen(database: Database, tmp_path: Path):
    see(database, "api.example.com")
    path = write(tmp_path, entry("net/api", "api.example.com"), pod("shop/web-1", "10.0.0.1", app="web"))
    first, second = run("registry", "load", str(path)), run("registry", "load", str(path))
    assert (
        first.stdout
        == "1 Pod, 1 ServiceEntry: 2 added, 0 changed, 0 removed; 1 destinations and 1 addresses judged\n"
    )
    assert second.stdout == "1 Pod, 1 ServiceEntry: nothing changed; 0 destinations and 0 addresses judged\n"
    assert database.view("windows_1m")[0]["service_entry"] == "net/api"


def test_a_wrong_file_changes_nothing(database: Database, tmp_path: Path):
    run("registry", "load", str(write(tmp_path, entry("net/api", "api.example.com"))))
    found = run("registry", "load", str(write(tmp_path, entry("net/api", "not a host"))))
    assert (found.exit_code, "is no host name" in found.stderr) == (65, True)
    assert "api.example.com" in run("registry", "show").stdout


def test_the_stored_objects_are_listed(tmp_path: Path):
    run("registry", "load", "--cluster", "prod", str(write(tmp_path, entry("net/api", "api.example.com"))))
    listed = run("registry", "show", "--kind", "serviceentry", "--namespace", "net").stdout
    assert "api.example.com (443/TLS)" in listed
    [line] = run("registry", "show", "--json").stdout.splitlines()
    assert (json.loads(line)["cluster"], json.loads(line)["kind"]) == ("prod", "ServiceEntry")
    assert "nothing" in run("registry", "show", "--at", "2020-01-01").stdout


def test_a_geographic_database_is_asked_after_a_refresh_of_everything(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    see(database, "api.example.com", destination_ips=["93.184.216.34"])
    run("registry", "load", str(write(tmp_path, entry("net/api", "api.example.com"))))
    writer = MMDBWriter(4, "GeoLite2-Country")
    writer.insert_network(IPSet(["93.184.0.0/16"]), {"country": {"iso_code": "US"}})
    writer.to_db_file(str(tmp_path / "geo.mmdb"))
    monkeypatch.setenv("EGRESSLENS_GEO_DATABASE", str(tmp_path / "geo.mmdb"))
    assert run("registry", "refresh", "--all").stdout == "1 destinations and 1 addresses judged\n"
    assert database.view("windows_1m")[0]["destination_region"] == "US"


def test_advice_from_what_is_stored_leaves_nothing_blocked(database: Database, tmp_path: Path):
    see(database, "api.example.com", "a.example.org", "192.0.2.7")
    path = tmp_path / "advised.yaml"
    path.write_text(run("advise", "--since", "1d").stdout)
    before = json.loads(run("whatif", "--since", "1d", "--format", "json").stdout)
    after = json.loads(run("whatif", str(path), "--since", "1d", "--format", "json").stdout)
    assert (before["requests"]["blocked"], after["requests"]["blocked"]) == (3, 1)
    assert [row["destination_host"] for row in after["rows"] if row["verdict"] == "blocked"] == ["192.0.2.7"]


def test_an_entry_added_today_changes_yesterdays_whatif_and_nothing_stored(
    database: Database, tmp_path: Path
):
    see(database, "api.example.com", window_start=RECENT - timedelta(days=1))
    facts = "SELECT * FROM {db}.raw_windows_1m ORDER BY ALL"
    stored = database.rows(facts)
    assert run("whatif").exit_code == 1
    run("registry", "load", str(write(tmp_path, entry("net/api", "api.example.com"))))
    assert run("whatif").exit_code == 0
    assert database.rows(facts) == stored


@pytest.mark.parametrize("since", ["1d", "30d"])
def test_a_bare_address_is_advised_for_the_workload_behind_it(database: Database, tmp_path: Path, since: str):
    given = pod("shop/web-1", "10.0.0.1", app="web", started="2020-01-01T00:00:00Z")
    see(database, "api.example.com", source_namespace=None, source_workload=None, source_ip="10.0.0.1")
    run("registry", "load", str(write(tmp_path, given)))
    text = run("advise", "--since", since).stdout
    assert "prod/shop/web" in text
    entries = [one for one in yaml.safe_load_all(text) if one and one["kind"] == "ServiceEntry"]
    assert entries[0]["spec"]["exportTo"] == ["shop"]


def test_advice_is_for_one_cluster(database: Database):
    rows = [
        window(window_start=RECENT, source_cluster=name, last_offset=at) for at, name in enumerate(("a", "b"))
    ]
    database.insert("raw_windows_1m", windows(*rows))
    found = run("advise")
    assert (found.exit_code, "name it with --cluster (a, b)" in found.stderr) == (2, True)
    assert "ServiceEntry" in run("advise", "--cluster", "a").stdout


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path, Path]]:
    """`registry watch` as a process: itself, the file it watches, and where it says what is wrong."""
    path, said = write(tmp_path, entry("net/api", "api.example.com")), tmp_path / "said"
    with said.open("w") as out:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from egresslens.cli import main; main()",
                "registry",
                "watch",
                str(path),
                "--interval",
                "1m",
            ],
            stdout=out,
            stderr=out,
            text=True,
        )
    try:
        yield process, path, said
    finally:
        process.terminate()
        process.wait(10)


def test_a_watched_file_is_loaded_when_it_changes_and_the_last_good_one_stays(database: Database, watching):
    process, path, said = watching
    see(database, "api.example.com")

    def entries() -> list[str]:
        return [row["service_entry"] for row in database.view("windows_1m")]

    eventually(lambda: entries() == ["net/api"])
    path.write_text("kind: [")
    eventually(lambda: f"{path}: document 1" in said.read_text())
    assert (entries(), process.poll()) == (["net/api"], None)
    write(path.parent, entry("net/other", "api.example.com"))
    eventually(lambda: entries() == ["net/other"])
