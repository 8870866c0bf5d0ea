"""compose/demo.yaml without Docker: the same commands with the same settings, as processes.

Kafka, the ClickHouse engine (with the grants of compose/clickhouse/users.xml) and Envoy are the real ones.
What only Docker does (images, networks, volumes, health checks) is not tested here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from clickhouse_connect.driver.exceptions import DatabaseError

from compose_files import COMPOSE, ours, services
from egresslens.cli import cli
from egresslens.clickhouse.client import connect
from egresslens.clickhouse.migrate import migrate
from egresslens.kafka.broker import free_port
from egresslens.report.ask import REPORTS
from egresslens.settings import load
from egresslens.store.passwords import password_file
from functional.deployment import COMMAND, until
from functional.store_fixture import require_chdb

pytestmark = [pytest.mark.functional, pytest.mark.extended]

STACK = ours("demo.yaml")
USERS = COMPOSE / "clickhouse/users.xml"
# Of each account, in its settings file.
SETTINGS_FILE = {
    "writer": 'clickhouse_user = "writer"\nclickhouse_password = "{password}"\n',
    "reader": 'clickhouse_reader_user = "reader"\nclickhouse_reader_password = "{password}"\n',
}


@contextmanager
def granted_store(account: str, folder: Path) -> Iterator[str]:
    """A store with the account's grants; gives its URL."""
    program = Path(__file__).with_name("granted_store.py")
    command = [sys.executable, program, USERS, account, folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child.stdout.readline().split()[-1]
        finally:
            child.stdin.close()
            child.wait(30)


def write_settings(home: Path) -> None:
    """Write the accounts' settings files, with the passwords of the store in `home / "store"`."""
    for account, text in SETTINGS_FILE.items():
        password = password_file(home / "store", account).read_text().strip()
        (home / f"{account}.toml").write_text(text.format(password=password))


@dataclass
class Stack:
    """The stack of demo.yaml, its names replaced by what stands for them here."""

    folder: Path
    replaced: dict[str, str]
    variables: dict[str, str]
    ended: ExitStack = field(default_factory=ExitStack)

    def start(self, service: str, program: list[str]) -> subprocess.Popen[bytes]:
        """Run a service's command in its environment, and nothing of ours."""
        values = services("demo.yaml")[service]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.variables}
        environment |= {name: self._here(value) for name, value in values.get("environment", {}).items()}
        command = [*program, *(self._here(argument) for argument in values["command"])]
        log = self.ended.enter_context((self.folder / f"{service}.log").open("wb"))
        child = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder)
        self.ended.callback(_end, service, child)
        return child

    def said(self, service: str) -> str:
        """What it wrote."""
        return (self.folder / f"{service}.log").read_text(errors="replace")[-3000:]

    def _here(self, text: str) -> str:
        for there, here in self.replaced.items():
            text = text.replace(there, here)
        return text


def _end(service: str, child: subprocess.Popen[bytes]) -> None:
    """As Docker stops a container: SIGTERM, which a service has to obey."""
    child.terminate()
    try:
        code = child.wait(30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        raise
    assert code in (0, 75), f"{service} ended with {code}"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    require_chdb()
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="module")
def stack(home, broker) -> Iterator[Stack]:
    """Every part of the stack, running, with the traffic of all three situations in the store."""
    unique = uuid.uuid4().hex[:8]
    with granted_store("writer", home / "store") as url, ExitStack() as ended:
        write_settings(home)
        (home / "console_passwords").write_text("admin:secret\n")
        (home / "mesh").mkdir()
        (home / "data").mkdir()
        replaced = {
            "kafka:19092": broker.bootstrap,
            "http://clickhouse:8123": url,
            "/run/secrets": str(home),
            "/var/log/mesh": str(home / "mesh"),
            "/var/lib/egresslens": str(home / "data"),
            "0.0.0.0": "127.0.0.1",
        }
        # What the image says, and names of our own on the broker that other tests use as well.
        variables = {
            "EGRESSLENS_WEB_PORT": str(free_port()),
            "EGRESSLENS_ALERTS_WEB_PORT": str(free_port()),
            "EGRESSLENS_CONSOLE_PORT": str(free_port()),
            "EGRESSLENS_DATA_DIR": str(home / "data"),
            "EGRESSLENS_KAFKA_GROUP": f"stack-{unique}",
            **{
                f"EGRESSLENS_{name}_TOPIC": f"{name.lower()}-{unique}"
                for name in ("ENRICHED", "WINDOWS", "DEAD_LETTER", "REPLAY", "ALERTS")
            },
            "EGRESSLENS_ACCESS_LOG_TOPICS": f"access-log-{unique}",
        }
        running = Stack(home, replaced, variables, ended)
        migrate = running.start("migrate", COMMAND)
        assert migrate.wait(60) == 0, running.said("migrate")
        children = {
            name: running.start(name, COMMAND)
            for name in STACK
            if name in ("worker", "alerts", "console") or name.startswith("ship-")
        }
        children["mesh"] = running.start("mesh", [sys.executable, "-m", "egresslens.demo.traffic"])
        # As the mesh's health check waits.
        until((home / "mesh/idgen.log").exists, "the mesh runs")
        children["registry"] = running.start("registry", COMMAND)
        reader = connect(reading(home, url), "reader")

        def all_seen() -> bool:
            for name, child in children.items():
                assert child.poll() is None, f"{name}: {running.said(name)}"
            seen = reader.query(
                "SELECT DISTINCT label FROM egresslens.windows_1m WHERE source_workload = 'idgen'"
            )
            return {("passthrough",), ("blackhole",), ("outbound",)} <= set(seen.result_rows)

        until(all_seen, "the traffic of all three situations is in the store")
        yield running


def reading(home: Path, url: str) -> object:
    return load({"EGRESSLENS_CLICKHOUSE_URL": url}, home / "reader.toml")


def command(home: Path, url: str, *arguments: str) -> Result:
    """Run a command as whoever only reads would."""
    given = {"EGRESSLENS_CLICKHOUSE_URL": url, "EGRESSLENS_CONFIG_FILE": str(home / "reader.toml")}
    return CliRunner().invoke(cli, arguments, env=given)


def test_the_parts_of_the_stack_answer_one_another(stack):
    """The fixture waits for the three situations; here a report names who did what."""
    url = stack.replaced["http://clickhouse:8123"]
    run = command(stack.folder, url, "report", "blocked", "--format", "json")
    assert run.exit_code == 0, run.output
    blocked = json.loads(run.stdout)["rows"]
    assert any(row["source_workload"] == "idgen" for row in blocked)


def test_a_blocked_attempt_is_told(stack):
    reader = connect(reading(stack.folder, stack.replaced["http://clickhouse:8123"]), "reader")
    until(
        lambda: reader.query("SELECT 1 FROM egresslens.alerts WHERE rule = 'blackhole'").result_rows,
        "an alert",
    )


@pytest.mark.parametrize(
    ("service", "port"),
    [("worker", "WEB_PORT"), ("alerts", "ALERTS_WEB_PORT"), ("console", "CONSOLE_PORT")],
)
def test_a_health_check_is_answered(stack, service, port):
    url = f"http://127.0.0.1:{stack.variables[f'EGRESSLENS_{port}']}/healthz"
    with urllib.request.urlopen(url, timeout=5) as answer:
        assert answer.status == 200


def test_the_console_asks_who_looks(stack):
    url = f"http://127.0.0.1:{stack.variables['EGRESSLENS_CONSOLE_PORT']}/api/v1/meta"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, timeout=5)
    assert caught.value.code == 401
    caught.value.close()


# --- the accounts -------------------------------------------------------------------------------------------


def test_the_writer_may_remove_what_should_not_have_been_stored(stack):
    """`purge` deletes rows, which needs more than inserting."""
    today = datetime.now(timezone.utc).date()
    run = operate(
        stack, "purge", "--from", str(today - timedelta(days=1)), "--until", str(today),
        "--host", "paste.unlisted.example.net", "--yes",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


def test_what_the_mesh_declares_is_joined_to_what_was_seen(stack):
    reader = connect(reading(stack.folder, stack.replaced["http://clickhouse:8123"]), "reader")
    until(
        lambda: (
            reader.query(
                "SELECT 1 FROM egresslens.windows_1m WHERE service_entry = 'shop/httpbin.org'"
            ).result_rows
        ),
        "the ServiceEntry of httpbin.org stands beside its traffic",
    )


def operate(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "EGRESSLENS_KAFKA_BROKERS": stack.replaced["kafka:19092"],
        "EGRESSLENS_CLICKHOUSE_URL": stack.replaced["http://clickhouse:8123"],
        "EGRESSLENS_CONFIG_FILE": str(stack.folder / "writer.toml"),
    }
    return subprocess.run(
        [*COMMAND, *arguments], check=False, capture_output=True, text=True, timeout=60, env=environment
    )


@pytest.mark.parametrize("report", sorted(REPORTS))
def test_the_reader_may_ask_for_every_report(only_reading, report):
    run = command(*only_reading, "report", report, "--format", "json")
    assert run.exit_code == 0, run.output


def test_the_readers_grants_let_nobody_change_anything(only_reading):
    """Asked by the store's writer, whom nothing stands in the way of but the grants."""
    home, url = only_reading
    with (
        connect(load({"EGRESSLENS_CLICKHOUSE_URL": url}, home / "writer.toml"), "writer") as client,
        pytest.raises(DatabaseError, match="Not enough privileges"),
    ):
        client.command("ALTER TABLE egresslens.raw_events DELETE WHERE 1")


@pytest.fixture(scope="module")
def only_reading(tmp_path_factory):
    """A store with tables, now with the reader's grants alone: its settings' folder and its URL."""
    require_chdb()
    home = tmp_path_factory.mktemp("reading")
    with granted_store("writer", home / "store") as url:
        write_settings(home)
        writing = load({"EGRESSLENS_CLICKHOUSE_URL": url}, home / "writer.toml")
        with connect(writing, "writer") as client:
            migrate(client, writing)
    with granted_store("reader", home / "store") as url:
        yield home, url


def test_the_engine_takes_the_accounts_and_their_hashed_passwords(tmp_path):
    (tmp_path / "users.d").mkdir()
    subprocess.run(["cp", COMPOSE / "secrets.sh", tmp_path], check=True)
    subprocess.run(["sh", tmp_path / "secrets.sh"], check=True, capture_output=True)
    passwords = tmp_path / "secrets/clickhouse_passwords.xml"
    # In process the engine has one account, which has to stay.
    users = USERS.read_text().replace('<default remove="remove"/>', "")
    (tmp_path / "users.d/egresslens.xml").write_text(
        users.replace("/run/secrets/clickhouse_passwords", str(passwords))
    )
    (tmp_path / "users.xml").write_text(
        "<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users><default>"
        "<password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>"
        "<access_management>1</access_management></default></users></clickhouse>"
    )
    (tmp_path / "config.xml").write_text(
        f"<clickhouse><users_config>{tmp_path}/users.xml</users_config></clickhouse>"
    )
    program = (
        "import chdb, sys; c = chdb.connect(sys.argv[1]); "
        "print(c.query('SELECT name, auth_type[1] FROM system.users ORDER BY name', 'CSV').data())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, f"{tmp_path}/data?config-file={tmp_path}/config.xml"],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert [line for line in run.stdout.split() if "sha256_password" in line] == [
        '"reader","sha256_password"',
        '"writer","sha256_password"',
    ]


def test_the_account_without_a_password_is_removed():
    assert '<default remove="remove"/>' in USERS.read_text()
