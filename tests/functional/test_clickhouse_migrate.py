"""The schema in a real engine: applied once, again, twice at once, from every earlier state."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from clickhouse_connect.driver.client import Client

from clickhouse_rows import settings_of
from egresslens import record
from egresslens.cli import cli
from egresslens.clickhouse import frames, schema
from egresslens.clickhouse.client import connect
from egresslens.clickhouse.migrate import MigrateError, migrate, missing, script
from egresslens.judge import JUDGED
from egresslens.settings import Settings
from egresslens.store.process import StoreProcess

pytestmark = pytest.mark.functional

# The workload behind a bare source address, before the judgements.
SOURCE_ADDRESS = ("source_ip_namespace", "source_ip_workload")
PUBLISHED = (
    "registry",
    "pods",
    "homes",
    "events",
    "windows_1m",
    "windows_1h",
    "windows_1d",
    "destinations",
    "alerts",
    "dead_letters",
    "progress",
)
EVERYTHING = [
    *(f"{one.number:04}_{one.name}" for one in schema.migrations(schema.folder())),
    *schema.REPEATABLE,
]


@pytest.fixture
def settings(store: StoreProcess) -> Settings:
    return settings_of(store)


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    connected = connect(settings, "writer")
    yield connected
    connected.command(f"DROP DATABASE IF EXISTS {settings.database}")
    connected.close()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The schema's folder, to be changed."""
    return Path(shutil.copytree(schema.folder(), tmp_path / "clickhouse"))


def columns(client: Client, settings: Settings, table: str) -> dict[str, str]:
    rows = client.query(f"DESCRIBE TABLE {settings.database}.{table}").result_rows
    return {row[0]: row[1] for row in rows}


def test_an_empty_database_gets_everything(client: Client, settings: Settings):
    assert migrate(client, settings) == EVERYTHING
    for view in PUBLISHED:
        assert client.query(f"SELECT * FROM {settings.database}.{view}").result_rows == [], view


def test_a_second_run_applies_nothing(client: Client, settings: Settings):
    migrate(client, settings)
    assert migrate(client, settings) == []
    assert missing(client, settings) == []


def test_asking_what_is_missing_changes_nothing(client: Client, settings: Settings):
    assert missing(client, settings) == EVERYTHING
    found = client.query(f"SELECT 1 FROM system.databases WHERE name = '{settings.database}'").result_rows
    assert found == []


def test_two_runs_at_once_end_alike(client: Client, settings: Settings):
    failed: list[Exception] = []

    def run() -> None:
        own = connect(settings, "writer")
        try:
            migrate(own, settings)
        except Exception as error:  # noqa: BLE001 - the main thread reports it
            failed.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert missing(client, settings) == []


@pytest.mark.parametrize("state", range(len(schema.migrations(schema.folder()))))
def test_every_earlier_state_is_brought_up_to_date(
    client: Client, settings: Settings, copy: Path, state: int
):
    for one in schema.migrations(copy)[state:]:
        (copy / f"{one.number:04}_{one.name}.sql").unlink()
    for name in schema.REPEATABLE:
        (copy / name).write_text("")
    migrate(client, settings, copy)
    assert migrate(client, settings) == EVERYTHING[state:]
    assert missing(client, settings) == []


def test_a_newer_database_is_refused(client: Client, settings: Settings, copy: Path):
    (copy / "9000_from_the_future.sql").write_text(
        "CREATE TABLE IF NOT EXISTS ${database}.future (x Int8) ENGINE = Log;\n"
    )
    migrate(client, settings, copy)
    with pytest.raises(MigrateError, match="at migration 9000, this program knows"):
        migrate(client, settings)


def test_a_migration_that_was_changed_is_named(client: Client, settings: Settings, copy: Path):
    migrate(client, settings, copy)
    with (copy / "0001_events.sql").open("a") as text:
        text.write("-- changed\n")
    with pytest.raises(MigrateError, match="0001_events"):
        migrate(client, settings, copy)


def test_a_retention_setting_that_changed_is_applied(client: Client, settings: Settings):
    migrate(client, settings)
    changed = settings.model_copy(update={"events_ttl_days": 7, "windows_1h_ttl_days": 500})
    assert migrate(client, changed) == ["retention.sql", "views.sql"]
    engines = dict(
        client.query(
            f"SELECT name, engine_full FROM system.tables WHERE database = '{settings.database}'"
        ).result_rows
    )
    assert "toIntervalDay(7)" in engines["raw_events"]
    assert "toIntervalDay(500)" in engines["raw_windows_1h"]


@pytest.mark.parametrize("table", frames.TABLES)
def test_a_raw_table_has_the_columns_that_are_written(client: Client, settings: Settings, table: str):
    migrate(client, settings)
    written = list(frames.TABLES[table].schema)
    found = client.query(f"DESCRIBE TABLE {settings.database}.{table}").result_rows
    assert [name for name, _, default, *_ in found if name in written or not default] == written


@pytest.mark.parametrize(
    "table", [frames.EVENTS, frames.WINDOWS, frames.DEAD_LETTERS], ids=lambda one: one.name
)
def test_text_is_sent_as_the_table_keeps_it(client: Client, settings: Settings, table: frames.Table):
    migrate(client, settings)
    types = columns(client, settings, table.name)
    plain = {name for name, dtype in table.schema.items() if dtype == pl.String and "LowC" not in types[name]}
    assert plain == table.plain


def test_the_events_view_has_the_fields_of_a_record(client: Client, settings: Settings):
    migrate(client, settings)
    assert tuple(columns(client, settings, "events")) == (*record.ENRICHED, *SOURCE_ADDRESS, *JUDGED)


@pytest.mark.parametrize("view", ["windows_1m", "windows_1h", "windows_1d"])
def test_a_window_view_has_the_key_and_the_measures(client: Client, settings: Settings, view: str):
    migrate(client, settings)
    assert list(columns(client, settings, view)) == [
        *(*record.WINDOW_KEY, *record.WINDOW_MEASURES),
        *(*SOURCE_ADDRESS, *JUDGED),
    ]


def test_every_statement_for_a_cluster_is_valid_sql(client: Client, settings: Settings):
    for statement in script(settings.model_copy(update={"cluster": "main"})):
        formatted = client.query("SELECT formatQuery(%(sql)s)", {"sql": statement}).result_rows[0][0]
        assert "ON CLUSTER main" in formatted, statement


def test_the_command_applies_and_then_finds_nothing_to_do(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    for name in ("clickhouse_url", "clickhouse_user", "database"):
        monkeypatch.setenv(f"EGRESSLENS_{name.upper()}", getattr(settings, name))
    monkeypatch.setenv("EGRESSLENS_CLICKHOUSE_PASSWORD", settings.clickhouse_password.get_secret_value())
    first, second = (CliRunner().invoke(cli, ["migrate"]) for _ in range(2))
    assert first.output.splitlines() == [f"applied {name}" for name in EVERYTHING]
    assert second.output == f"the database {settings.database} is up to date\n"


def test_the_command_says_that_clickhouse_is_away(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EGRESSLENS_CLICKHOUSE_URL", "http://127.0.0.1:1")
    result = CliRunner().invoke(cli, ["migrate"])
    assert result.exit_code == 69
    assert "http://127.0.0.1:1" in result.output
