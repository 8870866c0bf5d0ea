"""The store as a process: its passwords, its folder, its end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from egresslens.store.process import StoreProcess, embedded_store, start
from functional.store_fixture import ask, require_chdb

pytestmark = pytest.mark.functional

UNAVAILABLE = 69


@pytest.fixture
def own(tmp_path) -> Iterator[StoreProcess]:
    """A store of the test's own, to stop and kill."""
    require_chdb()
    with embedded_store(tmp_path / "store") as running:
        assert ask(running, "CREATE DATABASE t").status == 200
        assert ask(running, "CREATE TABLE t.x (n UInt64) ENGINE = MergeTree ORDER BY n").status == 200
        yield running


def until(true: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def run_store(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "egresslens.store", "--dir", str(folder), "--port", "0", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@contextlib.contextmanager
def stalled_query(store: StoreProcess) -> Iterator[None]:
    """A SELECT without an end, of which only the beginning is read."""
    address = urlsplit(store.url)
    connection = http.client.HTTPConnection(address.hostname, address.port)
    headers = {"X-ClickHouse-User": "reader", "X-ClickHouse-Key": store.reader[1]}
    connection.request("POST", "/", body="SELECT number FROM numbers(10000000000)", headers=headers)
    response = connection.getresponse()
    assert response.read(10)
    yield
    response.close()
    connection.close()


def never_answered(store: StoreProcess) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        ask(store, "SELECT count() FROM numbers(1000000000000) WHERE rand() = 1")


def test_passwords_are_random_private_and_kept(own):
    files = [own.folder / "writer.password", own.folder / "reader.password"]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
    assert stat.S_IMODE(own.folder.stat().st_mode) == 0o700
    words = [file.read_text().strip() for file in files]
    assert words == [own.writer[1], own.reader[1]]
    assert len(set(words)) == 2
    assert min(map(len, words)) >= 40
    own.restart()
    assert [file.read_text().strip() for file in files] == words
    assert ask(own, "SELECT 1").status == 200


def test_passwords_are_nowhere_else(own):
    ask(own, "SELECT nosuch", headers={"Authorization": ""}, user="writer", password=own.writer[1])
    ask(own, "SELECT 1", account=("writer", own.writer[1] + "x"))
    seen = [Path(f"/proc/{own.pid}/cmdline").read_bytes(), Path(f"/proc/{own.pid}/environ").read_bytes()]
    own.stop()
    seen += [
        file.read_bytes() for file in own.folder.rglob("*") if file.is_file() and file.suffix != ".password"
    ]
    for _, word in (own.writer, own.reader):
        assert not any(word.encode() in one for one in seen)
    assert own.writer[1] not in repr(own)


def test_a_password_others_can_read_stops_the_start(own):
    own.stop()
    (own.folder / "reader.password").chmod(0o644)
    ended = run_store(own.folder)
    assert ended.returncode == UNAVAILABLE
    assert "0600" in ended.stderr


def test_a_second_owner_is_refused_with_a_clear_message(own):
    ended = run_store(own.folder)
    assert ended.returncode == UNAVAILABLE
    assert f"process {own.pid}" in ended.stderr
    assert str(own.folder) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ask(own, "SELECT 1").status == 200


def test_a_taken_port_is_named(tmp_path):
    require_chdb()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = run_store(tmp_path / "store", "--port", str(taken.getsockname()[1]))
    assert ended.returncode == UNAVAILABLE
    assert "in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_acknowledged_inserts_outlive_kill_9(own):
    acknowledged: list[int] = []

    def insert() -> None:
        number = 0
        try:
            while True:
                if ask(own, f"INSERT INTO t.x FORMAT TSV\n{number}\n").status == 200:
                    acknowledged.append(number)
                number += 1
        except (OSError, http.client.HTTPException):
            return

    for _ in range(3):
        before = len(acknowledged)
        thread = threading.Thread(target=insert)
        thread.start()
        assert until(lambda before=before: len(acknowledged) >= before + 20)
        own.kill()
        thread.join()
        own.restart()
        stored = set(map(int, ask(own, "SELECT DISTINCT n FROM t.x").text.split()))
        assert set(acknowledged) <= stored


def test_the_url_stays_the_same_over_restarts(own):
    url = own.url
    own.kill()
    own.restart()
    assert own.url == url
    assert ask(own, "SELECT 1").status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(own, number):
    os.kill(own.pid, number)
    assert until(lambda: not own.alive, 10)
    assert own.stop() == 0
    own.restart()
    assert ask(own, "SELECT 1").status == 200


def test_sigterm_ends_it_within_10_seconds_whatever_runs(own):
    busy = threading.Thread(target=never_answered, args=(own,))
    with stalled_query(own):
        busy.start()
        assert until(lambda: "rand" in ask(own, "SELECT query FROM system.processes").text)
        os.kill(own.pid, signal.SIGTERM)
        assert until(lambda: not own.alive, 10)
    assert own.stop() == 0
    busy.join()


def test_it_ends_with_the_process_that_started_it(tmp_path):
    require_chdb()
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from egresslens.store.process import start
        print(start(Path(sys.argv[1])).pid, flush=True)
        time.sleep(60)
    """)
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "store")], stdout=subprocess.PIPE, text=True
    )
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert until(lambda: not Path(f"/proc/{pid}").exists())


def test_what_it_said_is_in_the_error_of_a_failed_start(own):
    with pytest.raises(RuntimeError, match="owns"):
        start(own.folder)


# The engine's own access control, without the guard: the first wall.
BARE = {
    "SELECT * FROM file('/etc/hostname', LineAsString)": 497,
    "SELECT * FROM url('http://127.0.0.1:1/', LineAsString)": 497,
    "SELECT * FROM remote('127.0.0.1', system.one)": 497,
    "SELECT * FROM default.`/etc/hostname`": 497,
    "SELECT * FROM `/etc/hostname`": 497,
    "CREATE TABLE d.f (x String) ENGINE = File(CSV)": 497,
    "SELECT * FROM python(handles)": 446,
    "SYSTEM FLUSH LOGS": 497,
    "BACKUP DATABASE d TO File('x')": 497,
    "CREATE USER u": 497,
    "CREATE FUNCTION f AS x -> x": 497,
    "SET max_memory_usage = 0": 452,
}
READER_BARE = {
    "INSERT INTO d.x VALUES (1)": 164,
    "CREATE TABLE d.y (x Int8) ENGINE = Memory": 164,
    "DROP TABLE d.x": 164,
    "SET readonly = 0": 164,
}


def test_the_engine_itself_grants_no_source_and_its_reader_no_write(tmp_path):
    require_chdb()
    script = textwrap.dedent("""
        import json, sys
        from pathlib import Path
        from egresslens.store.engine import Engine, Limits
        from egresslens.store.errors import StoreError
        engine = Engine(Path(sys.argv[1]), Limits())
        handles = {"writer": engine.handle("writer"), "reader": engine.handle("reader")}
        handles["writer"].command("CREATE DATABASE d")
        handles["writer"].command("CREATE TABLE d.x (x Int8) ENGINE = Memory")
        for account, sql in json.load(sys.stdin):
            try:
                handles[account].query(sql, "TSV", {})
                print(0)
            except StoreError as error:
                print(error.code)
    """)
    asked = [("writer", sql) for sql in BARE] + [("reader", sql) for sql in BARE | READER_BARE]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "store")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    codes = dict(zip(asked, map(int, done.stdout.split()), strict=True))
    expected = {("writer", sql): code for sql, code in BARE.items()}
    expected |= {("reader", sql): code for sql, code in (BARE | READER_BARE).items()}
    # A reader's write is refused before its grants are looked at.
    assert {one: code for one, code in codes.items() if code not in (expected[one], 164)} == {}
