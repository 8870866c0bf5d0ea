"""ClickHouse's HTTP interface over the engine, for unmodified clients. One statement per request."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import secrets
import threading
import time
import uuid
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from aiohttp import web

from egresslens.store import codecs, errors, request
from egresslens.store.engine import Answer, Engine, Handle, Limits, Stream
from egresslens.store.errors import StoreError
from egresslens.store.guard import Guard, Verdict, read_catalog
from egresslens.store.passwords import Account, Passwords

log = logging.getLogger(__name__)
T = TypeVar("T")

# Formats whose parts, put one after another, are one whole: no header, footer or schema. Measured: the engine writes
# the header of every other format again in each part.
ROW_FORMATS: Final = frozenset(
    "Native TabSeparated TSV TabSeparatedRaw TSVRaw CSV JSONEachRow JSONLines NDJSON JSONCompactEachRow "
    "JSONStringsEachRow JSONCompactStringsEachRow RowBinary LineAsString Values Null".split()
)
CONTENT_TYPES: Final = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "Native": "application/octet-stream",
    "RowBinary": "application/octet-stream",
    "ArrowStream": "application/octet-stream",
    "Arrow": "application/octet-stream",
    "Parquet": "application/octet-stream",
}
HEAD_BYTES: Final = 256 * 1024
INSERT_CHUNK: Final = 1024 * 1024
WAIT_BYTES: Final = 16 * 1024 * 1024
MAX_SESSION_SECONDS: Final = 3600


@dataclass
class Session:
    """A pinned handle: temporary tables and SET last as long as it does."""

    handle: Handle
    expires: float
    settings: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class Reply:
    """An answer under way: headers and the first parts; `more` brings the next, `finish` gives everything back."""

    headers: dict[str, str]
    parts: list[bytes]
    more: Callable[[], bytes | None]
    finish: Callable[[], None]


class Server:
    """The application. `engine` is closed by whoever opened it, after the application has stopped."""

    def __init__(self, engine: Engine, passwords: Passwords, hosts: frozenset[str], limits: Limits) -> None:
        self._engine = engine
        self._passwords = passwords
        self._hosts = hosts
        self._limits = limits
        self._guard = Guard(engine, read_catalog(engine.rows))
        self._display = str(engine.rows("SELECT displayName()")[0][0])
        self._timezone = str(engine.rows("SELECT timezone()")[0][0])
        self._slots = {name: asyncio.Semaphore(limits.concurrent) for name in ("writer", "reader")}
        self._pool = ThreadPoolExecutor(max_workers=2 * limits.concurrent, thread_name_prefix="query")
        self._sessions: dict[tuple[Account, str], Session] = {}
        self._sessions_lock = threading.Lock()

    def app(self) -> web.Application:
        """The aiohttp application, for an `AppRunner(auto_decompress=False)`: bodies are decoded here."""
        app = web.Application(client_max_size=self._limits.query_bytes)
        app.router.add_get("/ping", self._ping)
        app.router.add_route("*", "/", self._root)
        app.on_cleanup.append(self._cleanup)
        return app

    async def _cleanup(self, _: web.Application) -> None:
        with self._sessions_lock:
            for session in self._sessions.values():
                session.handle.close()
            self._sessions.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _ping(self, http: web.Request) -> web.Response:
        self._check_origin(http)
        return web.Response(text="Ok.\n")

    async def _root(self, http: web.Request) -> web.StreamResponse:
        try:
            self._check_origin(http)
            if http.method == "GET" and not http.query_string:
                return web.Response(text="Ok.\n")
            if http.method not in ("GET", "POST"):
                raise StoreError(errors.NOT_IMPLEMENTED, f"{http.method} is not answered; use GET or POST")
            return await self._answer(http)
        except StoreError as error:
            return self._refuse(http, error)

    def _refuse(self, http: web.Request, error: StoreError) -> web.Response:
        headers = {
            "X-ClickHouse-Exception-Code": str(error.code),
            "X-ClickHouse-Server-Display-Name": self._display,
        }
        if error.status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="Egresslens store"'
        response = web.Response(status=error.status, text=error.text + "\n", headers=headers)
        if not http.content.at_eof():
            # The rest of the body has not been read and will not be.
            response.force_close()
        return response

    def _check_origin(self, http: web.Request) -> None:
        """Refuse a web page that reached this server under a name of its own (DNS rebinding) or from elsewhere."""
        origin = http.headers.get("Origin")
        for name in (f"//{http.headers.get('Host', '')}", *([origin] if origin is not None else [])):
            try:
                host = urlsplit(name).hostname
            except ValueError:
                host = None
            if host is None or host.lower() not in self._hosts:
                raise web.HTTPForbidden(
                    text="this host name or origin is not served here (see --allow-host)\n"
                )

    def _account(self, http: web.Request, values: Mapping[str, str]) -> Account:
        user, password = _credentials(http, values)
        if user is None:
            raise StoreError(
                errors.REQUIRED_PASSWORD, "a user and a password are required (writer or reader)"
            )
        account = self._passwords.account(user, password or "")
        if account is None:
            raise StoreError(
                errors.AUTHENTICATION_FAILED,
                "Authentication failed: password is incorrect, or there is no user with such name",
            )
        return account

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        values = dict(http.query)
        account = self._account(http, values)
        encoding = http.headers.get("Content-Encoding", "").strip().lower()
        if http.content_type == "multipart/form-data":
            values |= await self._form(http)
            raw: io.RawIOBase = io.BytesIO()  # type: ignore[assignment]
            encoding = ""
        else:
            raw = _Body(http, asyncio.get_running_loop(), self._limits.stalled_seconds)
        asked = request.options(values, http.headers)
        readonly = account == "reader"
        async with self._slot(account):
            reply = await self._in_thread(
                partial(
                    self._begin, account, asked, _Source(asked.query, raw, encoding, self._limits), readonly
                )
            )
            try:
                return await self._send(http, asked, reply)
            except (ConnectionError, asyncio.TimeoutError):
                raise web.HTTPRequestTimeout from None  # the client has gone; nobody reads this
            finally:
                await self._in_thread(reply.finish)

    @asynccontextmanager
    async def _slot(self, account: Account) -> Any:
        slots = self._slots[account]
        try:
            await asyncio.wait_for(slots.acquire(), 10)
        except asyncio.TimeoutError:
            raise StoreError(
                errors.TOO_MANY_SIMULTANEOUS_QUERIES, f"Too many simultaneous queries of {account}"
            ) from None
        try:
            yield
        finally:
            slots.release()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run in a thread, to its end: a handle cannot be given back while a thread uses it."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            with suppress(Exception):
                await future
            raise

    async def _form(self, http: web.Request) -> dict[str, str]:
        values: dict[str, str] = {}
        size = 0
        async for part in await http.multipart():
            if part.filename is not None or part.name is None:  # type: ignore[union-attr]
                raise StoreError(errors.SUPPORT_IS_DISABLED, "external data is not supported by this store")
            data = await part.read()  # type: ignore[union-attr]
            size += len(data)
            if size > self._limits.query_bytes:
                raise StoreError(errors.QUERY_IS_TOO_LARGE, "the form is too large")
            values[str(part.name)] = bytes(data).decode()  # type: ignore[union-attr]
        return values

    # From here on in a thread.

    def _begin(self, account: Account, asked: request.Options, source: _Source, readonly: bool) -> Reply:
        query_id = asked.query_id or str(uuid.uuid4())
        head = source.head()
        insert = request.insert(head) if request.is_insert(head) else None
        if insert is not None:
            if readonly:
                raise StoreError(errors.READONLY, "reader: Cannot execute query in readonly mode")
            settings = {**asked.settings, **insert.settings}
            self._check_settings(settings)
            handle, release = self._handle(account, asked, settings)
            try:
                answer = handle.insert(insert.statement, insert.input_format, source.data(insert.data))
            finally:
                release()
            return self._whole(query_id, answer, None)
        sql = source.statement(head)
        verdict = self._guard.check(sql, account)
        self._guard.check_identifiers(verdict.identifiers, asked.parameters, account)
        self._check_settings(asked.settings)
        handle, release = self._handle(account, asked, asked.settings)
        try:
            return self._run(query_id, sql, verdict, asked, handle, release)
        except BaseException:
            release()
            raise

    def _check_settings(self, settings: Mapping[str, str]) -> None:
        for name in settings:
            self._guard.check_setting(name)

    def _run(
        self,
        query_id: str,
        sql: str,
        verdict: Verdict,
        asked: request.Options,
        handle: Handle,
        release: Callable[[], None],
    ) -> Reply:
        output_format = verdict.output_format or asked.default_format
        if not verdict.streams or output_format not in ROW_FORMATS:
            if verdict.has_result and "max_result_bytes" not in asked.settings:
                handle.set("max_result_bytes", str(self._limits.result_bytes))
            answer = handle.query(sql, output_format, asked.parameters)
            release()
            return self._whole(query_id, answer, output_format if verdict.has_result else None)
        stream = handle.stream(sql, output_format, asked.parameters)

        def finish() -> None:
            stream.cancel()
            release()

        try:
            parts, ended = _first_parts(stream, WAIT_BYTES if asked.wait else 0)
        except BaseException:
            stream.cancel()
            raise
        headers = self._headers(query_id, output_format, parts, ended=ended)
        return Reply(headers, [part.data for part in parts], partial(_next_data, stream), finish)

    def _whole(self, query_id: str, answer: Answer, output_format: str | None) -> Reply:
        headers = self._headers(query_id, output_format, [answer], ended=True)
        return Reply(headers, [answer.data], lambda: None, lambda: None)

    def _headers(
        self, query_id: str, output_format: str | None, parts: list[Answer], *, ended: bool
    ) -> dict[str, str]:
        headers = {
            "X-ClickHouse-Server-Display-Name": self._display,
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Timezone": self._timezone,
            "X-ClickHouse-Summary": _summary(parts if ended else []),
            "Content-Type": CONTENT_TYPES.get(output_format or "", "text/plain; charset=UTF-8"),
        }
        if output_format is not None:
            headers["X-ClickHouse-Format"] = output_format
        return headers

    def _handle(
        self, account: Account, asked: request.Options, settings: Mapping[str, str]
    ) -> tuple[Handle, Callable[[], None]]:
        handle = self._engine.handle(account)
        try:
            if asked.database:
                handle.use(asked.database)
            for name, value in settings.items():
                handle.set(name, value)
        except BaseException:
            handle.close()
            raise
        return handle, _once(handle.close)

    # Back in the event loop.

    async def _send(self, http: web.Request, asked: request.Options, reply: Reply) -> web.StreamResponse:
        chosen = codecs.compressor(http.headers.get("Accept-Encoding", "")) if asked.compress else None
        tag = secrets.token_hex(8)
        response = web.StreamResponse(headers={**reply.headers, "X-ClickHouse-Exception-Tag": tag})
        if chosen:
            response.headers["Content-Encoding"] = chosen[0]
        encode = chosen[1].compress if chosen else bytes
        await response.prepare(http)
        try:
            for part in reply.parts:
                await self._write(response, await self._in_thread(partial(encode, part)))
            while (part_ := await self._in_thread(reply.more)) is not None:
                await self._write(response, await self._in_thread(partial(encode, part_)))
        except StoreError as error:
            await self._write(response, encode(_exception_block(error.text, tag)))
        if chosen:
            await self._write(response, chosen[1].flush())
        await response.write_eof()
        return response

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        if data:
            await asyncio.wait_for(response.write(data), self._limits.stalled_seconds)


class _Body(io.RawIOBase):
    """The request's body, read from a thread while the event loop receives it."""

    def __init__(self, http: web.Request, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self._http = http
        self._loop = loop
        self._timeout = timeout
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            future = asyncio.run_coroutine_threadsafe(self._http.content.readany(), self._loop)
            self._rest = future.result(self._timeout)
        taken = self._rest[: len(buffer)]
        self._rest = self._rest[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)


class _Source:
    """Statement and data: the URL's query, a newline, the decoded body. Bounded."""

    def __init__(self, query: str, raw: io.RawIOBase, encoding: str, limits: Limits) -> None:
        self._prefix = query.encode() + b"\n" if query else b""
        self._reader = codecs.reader(raw, encoding)
        self._limits = limits
        self._read = 0

    def head(self) -> bytes:
        """The first bytes: all of a statement that is followed by data."""
        head = self._prefix
        while len(head) < HEAD_BYTES + len(self._prefix) and (more := self._take(HEAD_BYTES)):
            head += more
        return head

    def statement(self, head: bytes) -> str:
        """The whole text, which has no data."""
        text = head
        while len(text) <= self._limits.query_bytes and (more := self._take(HEAD_BYTES)):
            text += more
        if len(text) > self._limits.query_bytes:
            raise StoreError(
                errors.QUERY_IS_TOO_LARGE, f"a statement may have {self._limits.query_bytes} bytes"
            )
        try:
            sql = text.decode()
        except UnicodeDecodeError:
            raise StoreError(errors.SYNTAX_ERROR, "the statement is not UTF-8") from None
        if not sql.strip():
            raise StoreError(errors.SYNTAX_ERROR, "Empty query")
        return sql

    def data(self, first: bytes) -> Callable[[], bytes]:
        """A function that returns the data of an insert piece by piece, then b""."""
        pieces = [first] if first else []

        def take() -> bytes:
            return pieces.pop() if pieces else self._take(INSERT_CHUNK)

        return take

    def _take(self, size: int) -> bytes:
        try:
            data = self._reader.read(size)
        except codecs.BROKEN as error:
            raise StoreError(errors.CANNOT_DECOMPRESS, f"the body cannot be read: {error}") from None
        self._read += len(data)
        if self._read > self._limits.body_bytes:
            raise StoreError(errors.TOO_LARGE_REQUEST, f"a body may have {self._limits.body_bytes} bytes")
        return data


def _credentials(http: web.Request, values: Mapping[str, str]) -> tuple[str | None, str | None]:
    """User and password from ClickHouse's headers, Basic authorization, or the URL, in this order."""
    if "X-ClickHouse-User" in http.headers or "X-ClickHouse-Key" in http.headers:
        return http.headers.get("X-ClickHouse-User", ""), http.headers.get("X-ClickHouse-Key", "")
    kind, _, encoded = http.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            user, _, password = b64decode(encoded, validate=True).decode().partition(":")
        except (Base64Error, UnicodeDecodeError):
            return "", ""
        return user, password
    if "user" in values or "password" in values:
        return values.get("user", ""), values.get("password", "")
    return None, None


def _first_parts(stream: Stream, at_least: int) -> tuple[list[Answer], bool]:
    """Two parts, or as many as make `at_least` bytes: an error in them can still change the status."""
    parts: list[Answer] = []
    while len(parts) < 2 or sum(len(part.data) for part in parts) < at_least:
        part = stream.next()
        if part is None:
            return parts, True
        parts.append(part)
    return parts, False


def _next_data(stream: Stream) -> bytes | None:
    part = stream.next()
    return None if part is None else part.data


def _summary(parts: list[Answer]) -> str:
    """X-ClickHouse-Summary: numbers as strings. Zeros where the query has not ended yet, as ClickHouse does."""
    return json.dumps(
        {
            "read_rows": str(sum(part.read_rows for part in parts)),
            "read_bytes": str(sum(part.read_bytes for part in parts)),
            "written_rows": str(sum(part.written_rows for part in parts)),
            "written_bytes": str(sum(part.written_bytes for part in parts)),
            "total_rows_to_read": "0",
            "result_rows": str(sum(part.result_rows for part in parts)),
            "result_bytes": str(sum(len(part.data) for part in parts)),
            "elapsed_ns": str(int(1e9 * sum(part.elapsed_s for part in parts))),
        }
    )


def _exception_block(text: str, tag: str) -> bytes:
    """How ClickHouse (25.11 and later) ends a response that fails after its headers."""
    message = text.encode() + b"\n"
    return b"\r\n__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (
        tag.encode(),
        message,
        len(message),
        tag.encode(),
    )


def _once(action: Callable[[], None]) -> Callable[[], None]:
    pending = [action]

    def run() -> None:
        if pending:
            pending.pop()()

    return run
