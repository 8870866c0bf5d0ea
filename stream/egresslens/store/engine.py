"""The ClickHouse engine (chdb) in this process, which alone owns its data directory.

Every request gets a handle of its own (opening one costs 0.3 ms): settings end with the request, and
`SET readonly`, which cannot be undone, poisons nothing. A handle is used by one thread at a time; several
handles work at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape as xml

from egresslens.store.allowed import TABLE_ENGINES
from egresslens.store.errors import EngineError
from egresslens.store.guard import Node
from egresslens.store.passwords import Account

MIB: Final = 2**20
GIB: Final = 2**30


class StoreUnavailableError(RuntimeError):
    """The store cannot start; the message says why and what to do."""


@dataclass(frozen=True)
class Limits:
    """What one request and the whole engine may use."""

    query_memory_bytes: int = field(default_factory=lambda: _memory(0.25, 2 * GIB))
    engine_memory_bytes: int = field(default_factory=lambda: _memory(0.5, 8 * GIB))
    reader_seconds: int = 300
    writer_seconds: int = 3600
    query_bytes: int = MIB  # text of one statement
    body_bytes: int = 1 * GIB  # data of one insert, uncompressed
    result_bytes: int = 512 * MIB  # of a result that cannot be streamed
    threads: int = 64  # of one query
    concurrent: int = 16  # requests at once, per account
    sessions: int = 64  # per account
    stalled_seconds: int = 60  # a client that neither sends nor reads for so long is dropped


# The engine's own access control, the first wall: tables and views, and no source (file, url, s3, remote,
# executable, dictionary, …), no SYSTEM, no BACKUP, no users. Measured on chdb 4.4.0: enforced in process.
ACCESS: Final = (
    (
        "GRANT SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE TEMPORARY TABLE, "
        "DROP, TRUNCATE, OPTIMIZE, SHOW ON *.*"
    ),
    *(f"GRANT TABLE ENGINE ON {name}" for name in sorted(TABLE_ENGINES)),
)


class Engine:
    """The engine, started on a folder. Close it last."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        """Start the engine on `folder` (made if missing, mode 0700).

        Raises:
            StoreUnavailableError: chdb is not installed, or the folder is another process's or unusable.
        """
        self._limits = limits
        self._connect = _chdb_connect()
        self._lock = _own(folder)
        self._target = _configure(folder, limits)
        try:
            self._first = self._connect(self._target)
        except RuntimeError as error:
            raise StoreUnavailableError(f"the engine cannot open {folder}: {error}") from error
        self._parsing = threading.Lock()
        self._parser = Handle(self._first, self.rows, close=False)
        self._parser.set({"max_query_size": str(limits.query_bytes + 1)})

    def handle(self, account: Account) -> Handle:
        """A fresh handle with the account's limits; a reader's cannot write."""
        handle = Handle(self._connect(self._target), self.rows)
        if account == "reader":
            handle.set({"profile": "reader", "readonly": "2"})
        return handle

    def rows(self, sql: str) -> list[list[Any]]:
        """The rows of a SELECT of ours."""
        with self._parsing:
            return self._parser.rows(sql)

    def tree(self, sql: str) -> Node | None:
        """See `guard.Parser`."""
        try:
            tree: Node = json.loads(self._ask("parseQueryToJSON", sql))
        except EngineError as error:
            if "JSON" in error.text and error.code in (36, 48):
                return None
            raise
        return tree

    def canonical(self, sql: str) -> str:
        """See `guard.Parser`."""
        return self._ask("formatQuery", sql)

    def _ask(self, function: str, sql: str) -> str:
        with self._parsing:
            answer = self._parser.query(f"SELECT {function}({{sql:String}})", "RawBLOB", {"sql": escape(sql)})
        return answer.data.decode()

    def close(self) -> None:
        """Stop the engine: merges end, the folder is free for another owner."""
        self._first.close()
        os.close(self._lock)


@dataclass(frozen=True)
class Answer:
    """A result or a part of one: bytes in the output format, and what it took."""

    data: bytes
    result_rows: int = 0
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    elapsed_s: float = 0.0

    @classmethod
    def of(cls, result: Any) -> Answer:
        """Take the engine's result object apart."""
        return cls(
            data=result.bytes(),
            result_rows=result.rows_read(),
            read_rows=result.storage_rows_read(),
            read_bytes=result.storage_bytes_read(),
            written_rows=result.rows_written(),
            written_bytes=result.bytes_written(),
            elapsed_s=result.elapsed(),
        )


# Codes of what may go wrong while an insert's blocks are written (ErrorCodes.cpp): no space, too many parts
# or partitions, a constraint, a materialized view's conversions, memory, files.
_WRITING: Final = (6, 27, 53, 70, 75, 76, 117, 241, 242, 243, 252, 321, 349, 395, 469, 774)


@dataclass(frozen=True)
class Refusals:
    """How often the engine refused with a code; name, message and query of the last time."""

    count: int = 0
    name: str = ""
    message: str = ""
    query: str = ""


def raise_own(before: Mapping[int, Refusals], after: Mapping[int, Refusals], query: str | None) -> None:
    """Raise what the engine refused of an insert, by its query id.

    Queries of others fail at the same time, and some fail inside without harm: one more refusal, and that of
    another query, is not ours. With several only the last is known; the insert must be repeated then.
    """
    for code, now in after.items():
        more = now.count - before.get(code, Refusals()).count
        if more and now.query == query:
            raise EngineError(f"Code: {code}. DB::Exception: {now.message}. ({now.name})")
        if more > 1 or (more and not (query and now.query)):
            raise EngineError(
                "Code: 319. DB::Exception: the insert may have failed, as others did at the same time: "
                f"{now.message}. (UNKNOWN_STATUS_OF_INSERT)"
            )


class Handle:
    """One connection to the engine, for one thread at a time. All methods block; errors are `EngineError`."""

    def __init__(
        self, connection: Any, beside: Callable[[str], list[list[Any]]], *, close: bool = True
    ) -> None:
        """Take a connection; `beside` asks the engine while this one is inserting."""
        self._connection = connection
        self._beside = beside
        self._closes = close

    def command(self, sql: str) -> None:
        """Run a statement of ours that has no result."""
        self.query(sql, "Null", {})

    def set(self, settings: Mapping[str, str]) -> None:
        """Change settings of this handle. The names must have been checked."""
        self.command("SET " + ", ".join(f"{name} = '{escape(value)}'" for name, value in settings.items()))

    def settings(self, names: Sequence[str]) -> dict[str, str]:
        """Present values. The names must have been checked."""
        listed = ", ".join(f"'{name}'" for name in names)
        return dict(self.rows(f"SELECT name, value FROM system.settings WHERE name IN ({listed})"))  # noqa: S608

    def use(self, database: str) -> None:
        """Make a database the current one."""
        self.query("USE {name:Identifier}", "Null", {"name": escape(database)})

    def query(self, sql: str, output_format: str, parameters: Mapping[str, str]) -> Answer:
        """Run a statement and take its whole result into memory."""
        with _engine_errors():
            return Answer.of(self._connection.query(sql, output_format, params=dict(parameters)))

    def rows(self, sql: str) -> list[list[Any]]:
        """The rows of a SELECT, as JSON values."""
        lines = self.query(sql, "JSONCompactEachRow", {}).data.splitlines()
        return [json.loads(line) for line in lines]

    def stream(self, sql: str, output_format: str, parameters: Mapping[str, str]) -> Stream:
        """Start a SELECT whose result comes in parts."""
        with _engine_errors():
            started = self._connection.send_query(sql, output_format, params=dict(parameters))
        return Stream(self._connection, started)

    def insert(self, sql: str, input_format: str, chunks: Callable[[], bytes]) -> Answer:
        """Insert what `chunks` returns until it returns b"". `sql` ends before FORMAT.

        The data is never part of a statement's text: measured, 4% of random binary bodies then inserted a
        wrong number of rows. What the engine refuses once it has read the data it only counts.
        """
        before = self._refusals()
        token = uuid.uuid4().hex
        with _engine_errors():
            inserter = self._connection.send_insert(f"/* {token} */ {sql}", input_format)
            try:
                running = f"SELECT query_id FROM system.processes WHERE query LIKE '/* {token} */%'"  # noqa: S608 - ours
                query = self._beside(running)
                while chunk := chunks():
                    self._connection.insert_append(inserter, chunk)
                done = self._connection.insert_done(inserter)
            except BaseException:
                with contextlib.suppress(RuntimeError):
                    self._connection.insert_cancel(inserter)
                raise
        raise_own(before, self._refusals(), query[0][0] if query else None)
        return Answer(
            data=b"",
            written_rows=done.rows_written(),
            written_bytes=done.bytes_written(),
            elapsed_s=done.elapsed(),
        )

    def _refusals(self) -> dict[int, Refusals]:
        """What the engine has refused so far, by code.

        Measured on chdb 4.4.0: an error while blocks are written ends an insert without a word and without a
        row; all that is left of it is here.
        """
        listed = ", ".join(map(str, _WRITING))
        rows = self.rows(
            "SELECT code, value, name, last_error_message, query_id "  # noqa: S608 - numbers of ours
            f"FROM system.errors WHERE code IN ({listed})"
        )
        return {int(code): Refusals(int(count), *rest) for code, count, *rest in rows}

    def close(self) -> None:
        """Give the handle back."""
        if self._closes:
            self._connection.close()


class Stream:
    """A running SELECT."""

    def __init__(self, connection: Any, started: Any) -> None:
        self._connection = connection
        self._started = started
        self._ended = False

    def next(self) -> Answer | None:
        """The next part, or None at the end."""
        if self._ended:
            return None
        try:
            with _engine_errors():
                part = self._connection.streaming_fetch_result(self._started)
        except EngineError:
            self._ended = True
            raise
        if part is None or not part.rows_read():
            self._ended = True
            return None
        return Answer.of(part)

    def cancel(self) -> None:
        """Stop the SELECT if it still runs."""
        if not self._ended:
            self._ended = True
            with contextlib.suppress(RuntimeError):
                self._connection.streaming_cancel_query(self._started)


_ESCAPES: Final = {
    "\\": "\\\\",
    "'": "\\'",
    "\n": "\\n",
    "\t": "\\t",
    "\r": "\\r",
    "\0": "\\0",
    "\b": "\\b",
    "\f": "\\f",
}


def escape(text: str) -> str:
    """Text as ClickHouse's escaped format writes it: safe in single quotes and as a parameter's value."""
    return re.sub(r"[\\'\n\t\r\0\b\f]", lambda found: _ESCAPES[found.group()], text)


def quote(name: str) -> str:
    """A name as an identifier, whatever is in it."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


@contextlib.contextmanager
def _engine_errors() -> Any:
    try:
        yield
    except RuntimeError as error:
        raise EngineError(str(error)) from None


def _chdb_connect() -> Callable[[str], Any]:
    try:
        from chdb import _chdb  # noqa: PLC0415 - an optional extra, 0.4 s to import
    except ImportError as error:
        raise StoreUnavailableError(
            "the embedded store needs chdb: pip install 'egresslens[embedded]' (Linux, macOS; no Windows)"
        ) from error
    return _chdb.connect  # type: ignore[attr-defined,no-any-return] # a C++ module


def _own(folder: Path) -> int:
    """Lock the folder for this process; the lock ends with the process, however it ends."""
    if re.search(r"[?&%#]", str(folder)):
        raise StoreUnavailableError(f"the store's folder cannot have ? & % or # in its path: {folder}")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailableError(f"the store cannot use {folder}: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise StoreUnavailableError(
            f"another store (process {owner}) owns {folder}; stop it, or choose another folder with --dir"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _memory(share: float, most: int) -> int:
    """A share of this machine's memory, in bytes."""
    return min(most, int(share * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))


def _configure(folder: Path, limits: Limits) -> str:
    """Write the engine's configuration and return what to connect to."""
    (folder / "files").mkdir(exist_ok=True, mode=0o700)
    (folder / "config.xml").write_text(_CONFIG.format(folder=xml(str(folder)), limits=limits))
    (folder / "users.xml").write_text(
        _USERS.format(limits=limits, grants="\n".join(f"<query>{grant}</query>" for grant in ACCESS))
    )
    return f"{folder / 'data'}?config-file={folder / 'config.xml'}"


_CONFIG: Final = """<clickhouse>
  <!-- Written at every start. `files` stays empty: nothing may read or write there. -->
  <logger><level>none</level></logger>
  <user_files_path>{folder}/files/</user_files_path>
  <users_config>{folder}/users.xml</users_config>
  <access_control_improvements>
    <table_engines_require_grant>true</table_engines_require_grant>
  </access_control_improvements>
  <max_server_memory_usage>{limits.engine_memory_bytes}</max_server_memory_usage>
  <remote_url_allow_hosts><host>none.invalid</host></remote_url_allow_hosts>
</clickhouse>
"""

_USERS: Final = """<clickhouse>
  <profiles>
    <default>
      <max_memory_usage>{limits.query_memory_bytes}</max_memory_usage>
      <max_execution_time>{limits.writer_seconds}</max_execution_time>
      <allow_introspection_functions>0</allow_introspection_functions>
      <allow_python_table_function>0</allow_python_table_function>
      <constraints>
        <max_memory_usage><min>1</min><max>{limits.query_memory_bytes}</max></max_memory_usage>
        <max_execution_time><min>1</min><max>{limits.writer_seconds}</max></max_execution_time>
        <allow_introspection_functions><const/></allow_introspection_functions>
        <allow_python_table_function><const/></allow_python_table_function>
        <max_threads><max>{limits.threads}</max></max_threads>
        <max_insert_threads><max>{limits.threads}</max></max_insert_threads>
      </constraints>
    </default>
    <reader>
      <max_execution_time>{limits.reader_seconds}</max_execution_time>
      <constraints>
        <max_execution_time><min>1</min><max>{limits.reader_seconds}</max></max_execution_time>
      </constraints>
    </reader>
  </profiles>
  <quotas><default/></quotas>
  <users>
    <default>
      <password></password>
      <networks><ip>::/0</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <grants>
{grants}
      </grants>
    </default>
  </users>
</clickhouse>
"""
