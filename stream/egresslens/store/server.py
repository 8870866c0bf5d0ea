"""ClickHouse's HTTP interface over the engine, for unmodified clients. One statement per request."""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import uuid
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, TimeoutError  # noqa: A004 - in 3.10 another than the built-in
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from egresslens.store import codecs, errors, request
from egresslens.store.engine import Answer, Engine, Limits, Stream, quote
from egresslens.store.errors import StoreError
from egresslens.store.guard import Guard, Verdict, read_catalog
from egresslens.store.hello import HELLO, hello
from egresslens.store.passwords import Account, Passwords
from egresslens.store.sessions import Sessions

T = TypeVar("T")

# Formats whose parts, put one after another, are one whole: no header, footer or schema. Measured: the engine
# writes the header of every other format again in each part.
ROW_FORMATS: Final = frozenset(
    {
        "Native",
        "TabSeparated",
        "TSV",
        "TabSeparatedRaw",
        "TSVRaw",
        "CSV",
        "JSONEachRow",
        "JSONLines",
        "NDJSON",
    }
    | {"JSONCompactEachRow", "JSONStringsEachRow", "JSONCompactStringsEachRow", "RowBinary", "LineAsString"}
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
CHUNK_BYTES: Final = 1024 * 1024
WAIT_BYTES: Final = 16 * 1024 * 1024
FORM_PART_BYTES: Final = 100  # what a part counts for beside its value
QUEUE_S: Final = 10.0


@dataclass(frozen=True)
class Hosts:
    """The names this server answers to.

    `addresses`: any address too, for a server that listens on all of them. A page that reaches a server by a
    name of its own (DNS rebinding) has a name there, never an address.
    """

    names: frozenset[str]
    addresses: bool

    def serve(self, host: str) -> bool:
        """Whether a request for this host, or from a page of this host, is answered."""
        return host.lower() in self.names or (self.addresses and _is_address(host))


@dataclass(frozen=True)
class Call:
    """Who asks for what. `may_write` is False for the reader and for the method GET."""

    account: Account
    options: request.Options
    may_write: bool
    query_id: str


@dataclass
class Reply:
    """An answer under way: headers, first parts; `more` brings the next, `finish` gives everything back."""

    headers: dict[str, str]
    parts: list[bytes]
    more: Callable[[], bytes | None]
    finish: Callable[[], None]


class Server:
    """The application's state. Whoever opened the engine closes it, after the application has stopped."""

    def __init__(self, engine: Engine, passwords: Passwords, hosts: Hosts, limits: Limits) -> None:
        self._passwords = passwords
        self._hosts = hosts
        self._limits = limits
        self._guard = Guard(engine, read_catalog(engine.rows))
        self._sessions = Sessions(engine, limits.sessions)
        about = engine.rows("SELECT displayName(), version(), timezone()")[0]
        self._display, self._version, self._timezone = (str(value) for value in about)
        self._slots = {name: asyncio.Semaphore(limits.concurrent) for name in ("writer", "reader")}
        self._pool = ThreadPoolExecutor(max_workers=2 * limits.concurrent, thread_name_prefix="query")

    def app(self) -> web.Application:
        """The aiohttp application, for an `AppRunner(auto_decompress=False)`: bodies are decoded here."""
        app = web.Application()
        app.router.add_get("/ping", self._ping)
        app.router.add_route("*", "/", self._root)
        return app

    def close(self) -> None:
        """End the sessions. Nothing may be at work."""
        self._sessions.close()
        self._pool.shutdown()

    async def _ping(self, _: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _root(self, http: web.Request) -> web.StreamResponse:
        self._check_origin(http)
        if http.method == "GET" and not http.query_string:
            return web.Response(text="Ok.\n")
        try:
            return await self._answer(http)
        except StoreError as error:
            return self._refusal(error)

    def _refusal(self, error: StoreError) -> web.Response:
        headers = {
            "X-ClickHouse-Exception-Code": str(error.code),
            "X-ClickHouse-Server-Display-Name": self._display,
        }
        if error.status == web.HTTPUnauthorized.status_code:
            headers["WWW-Authenticate"] = 'Basic realm="Egresslens store"'
        return web.Response(status=error.status, text=error.text + "\n", headers=headers)

    def _check_origin(self, http: web.Request) -> None:
        """Refuse a web page that came by a name of its own (DNS rebinding) or is of another server."""
        origins = [http.headers["Origin"]] if "Origin" in http.headers else []
        for address in (f"//{http.headers.get('Host', '')}", *origins):
            try:
                host = urlsplit(address).hostname
            except ValueError:
                host = None
            if host is None or not self._hosts.serve(host):
                raise web.HTTPForbidden(text="this host or origin is not served (see --allow-host)\n")

    def _account(self, http: web.Request, values: Mapping[str, str]) -> Account:
        given = _credentials(http.headers, values)
        if given is None:
            raise StoreError(
                errors.REQUIRED_PASSWORD, "a user and a password are required (writer or reader)"
            )
        account = self._passwords.account(*given)
        if account is None:
            raise StoreError(
                errors.AUTHENTICATION_FAILED,
                "Authentication failed: password is incorrect, or there is no user with such name",
            )
        return account

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        values = dict(http.query)
        account = self._account(http, values)
        if http.method not in ("GET", "POST"):
            raise StoreError(errors.NOT_IMPLEMENTED, f"{http.method} is not answered; use GET or POST")
        is_form = http.content_type == "multipart/form-data"
        if is_form:
            values |= await self._form(http)
        options = request.options(values, http.headers)
        call = Call(
            account=account,
            options=options,
            may_write=account == "writer" and http.method == "POST",
            query_id=options.query_id or str(uuid.uuid4()),
        )
        body = _NOTHING if is_form else _Body(http, asyncio.get_running_loop(), self._limits.stalled_seconds)
        encoding = "" if is_form else http.headers.get("Content-Encoding", "").strip().lower()
        source = _Source(options.query, codecs.reader(body, encoding), self._limits)
        async with self._slot(account):
            reply = await self._in_thread(partial(self._begin, call, source))
            try:
                return await self._send(http, options, reply)
            finally:
                await self._in_thread(reply.finish)

    @asynccontextmanager
    async def _slot(self, account: Account) -> AsyncIterator[None]:
        slots = self._slots[account]
        try:
            await asyncio.wait_for(slots.acquire(), QUEUE_S)
        except asyncio.TimeoutError:
            raise StoreError(
                errors.TOO_MANY_SIMULTANEOUS_QUERIES, f"Too many simultaneous queries of {account}"
            ) from None
        try:
            yield
        finally:
            slots.release()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run in a thread, to its end even if the request is cancelled: a handle is not given back in use."""
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
            name, filename = getattr(part, "name", None), getattr(part, "filename", None)
            if name is None or filename is not None:
                raise StoreError(errors.SUPPORT_IS_DISABLED, "external data is not supported by this store")
            text = b""
            size += FORM_PART_BYTES
            while chunk := await part.read_chunk():  # type: ignore[union-attr] # parts with a name are no multiparts
                text += chunk
                size += len(chunk)
                if size > self._limits.query_bytes:
                    raise StoreError(
                        errors.QUERY_IS_TOO_LARGE, f"a form may have {self._limits.query_bytes} bytes"
                    )
            values[name] = _utf8(text)
        return values

    # In a thread.

    def _begin(self, call: Call, source: _Source) -> Reply:
        head = source.head()
        insert = request.insert(head)
        if insert is not None:
            return self._insert(call, insert, source)
        sql = source.statement(head)
        if sql.strip() == HELLO:
            return self._hello(call)
        verdict = self._guard.check(sql, call.account)
        if not verdict.reads and not call.may_write:
            raise StoreError(
                errors.READONLY,
                "Cannot execute query in readonly mode. Queries that change data are sent with POST",
            )
        self._guard.check_identifiers(verdict.identifiers, call.options.parameters, call.account)
        return self._run(call, sql, verdict)

    def _hello(self, call: Call) -> Reply:
        data = hello(self._display, self._version, self._timezone, call.options.protocol_version)
        return self._whole(call, Answer(data, result_rows=1), "Native")

    def _insert(self, call: Call, insert: request.Insert, source: _Source) -> Reply:
        if not call.may_write:
            raise StoreError(errors.READONLY, f"{call.account}: Cannot execute query in readonly mode")
        settings = {**call.options.settings, **insert.settings}
        self._guard.check_settings(settings)
        self._guard.check_target(insert.table)
        input_format = self._guard.input_format(insert.input_format)
        columns = f" ({', '.join(map(quote, insert.columns))})" if insert.columns else ""
        statement = f"INSERT INTO {'.'.join(map(quote, insert.table))}{columns}"
        with ExitStack() as stack:
            lease = self._lease(stack, call)
            lease.prepare(call.options.database, settings)
            answer = lease.handle.insert(statement, input_format, source.data(insert.data))
        return self._whole(call, answer, None)

    def _run(self, call: Call, sql: str, verdict: Verdict) -> Reply:
        options = call.options
        self._guard.check_settings(options.settings)
        output_format = self._guard.output_format(verdict.output_format or options.default_format)
        streams = verdict.streams and output_format in ROW_FORMATS
        whole = (
            {"max_result_bytes": str(self._limits.result_bytes)} if verdict.has_result and not streams else {}
        )
        with ExitStack() as stack:
            lease = self._lease(stack, call)
            lease.prepare(options.database, {**whole, **options.settings, **(verdict.settings or {})})
            if verdict.settings is not None:
                lease.chosen.update(verdict.settings)
                return self._whole(call, Answer(b""), None)
            if not streams:
                answer = lease.handle.query(sql, output_format, options.parameters)
                return self._whole(call, answer, output_format if verdict.has_result else None)
            stream = lease.handle.stream(sql, output_format, options.parameters)
            stack.callback(stream.cancel)
            parts, ended = _first_parts(stream, WAIT_BYTES if options.wait else 0)
            return Reply(
                headers=self._headers(call, output_format, parts if ended else []),
                parts=[part.data for part in parts],
                more=partial(_next_data, stream),
                finish=stack.pop_all().close,
            )

    def _lease(self, stack: ExitStack, call: Call) -> Any:
        options = call.options
        if options.close_session:
            stack.callback(self._sessions.end, call.account, options.session_id)
        return stack.enter_context(
            self._sessions.lease(
                call.account,
                options.session_id,
                seconds=options.session_timeout,
                must_exist=options.session_check,
            )
        )

    def _whole(self, call: Call, answer: Answer, output_format: str | None) -> Reply:
        headers = self._headers(call, output_format, [answer])
        return Reply(headers, [answer.data], more=lambda: None, finish=lambda: None)

    def _headers(self, call: Call, output_format: str | None, parts: list[Answer]) -> dict[str, str]:
        headers = {
            "X-ClickHouse-Server-Display-Name": self._display,
            "X-ClickHouse-Query-Id": call.query_id,
            "X-ClickHouse-Timezone": self._timezone,
            "X-ClickHouse-Summary": _summary(parts),
            "Content-Type": CONTENT_TYPES.get(output_format or "", "text/plain; charset=UTF-8"),
        }
        if output_format is not None:
            # clickhouse-connect tells an empty result from none by this header.
            headers["X-ClickHouse-Format"] = output_format
        return headers

    # In the event loop again.

    async def _send(self, http: web.Request, options: request.Options, reply: Reply) -> web.StreamResponse:
        encoder = codecs.encoder(http.headers.get("Accept-Encoding", "") if options.compress else "")
        tag = secrets.token_hex(8)
        response = web.StreamResponse(headers={**reply.headers, "X-ClickHouse-Exception-Tag": tag})
        if encoder.name:
            response.headers["Content-Encoding"] = encoder.name
        try:
            await response.prepare(http)
            async for data in self._encoded(reply, encoder, tag):
                if data:
                    await asyncio.wait_for(response.write(data), self._limits.stalled_seconds)
            await response.write_eof()
        except (ConnectionError, asyncio.TimeoutError):
            # The client has gone or reads no more; what is left is not for anybody.
            if http.transport:
                http.transport.abort()
        return response

    async def _encoded(self, reply: Reply, encoder: codecs.Encoder, tag: str) -> AsyncIterator[bytes]:
        for part in reply.parts:
            yield await self._in_thread(partial(encoder.encode, part))
        try:
            while (data := await self._in_thread(reply.more)) is not None:
                yield await self._in_thread(partial(encoder.encode, data))
        except StoreError as error:
            yield encoder.encode(_exception_block(error.text, tag))
        yield encoder.end()


class _Body(io.RawIOBase):
    """The request's body, read from a thread while the event loop receives it."""

    def __init__(self, http: web.Request, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        super().__init__()
        self._http = http
        self._loop = loop
        self._timeout = timeout
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(self._receive())
        taken = self._rest[: len(buffer)]
        self._rest = self._rest[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)

    def _receive(self) -> bytes:
        future = asyncio.run_coroutine_threadsafe(self._http.content.readany(), self._loop)
        try:
            return future.result(self._timeout)
        except TimeoutError as error:
            future.cancel()
            raise StoreError(
                errors.SOCKET_TIMEOUT, f"the body did not come for {self._timeout} seconds"
            ) from error
        except (ClientError, HttpProcessingError) as error:
            raise OSError("the body ended early") from error


class _Nothing(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, _: Any) -> int:
        return 0


_NOTHING: Final = _Nothing()


class _Source:
    """Statement and data of a request: the URL's query, a newline, the decoded body. Bounded."""

    def __init__(self, query: str, reader: codecs.Readable, limits: Limits) -> None:
        self._prefix = query.encode() + b"\n" if query else b""
        self._reader = reader
        self._limits = limits
        self._taken = 0

    def head(self) -> bytes:
        """The first bytes: all of a statement that is followed by data."""
        return self._prefix + self._up_to(HEAD_BYTES)

    def statement(self, head: bytes) -> str:
        """The whole text, which has no data."""
        limit = self._limits.query_bytes
        text = head + self._up_to(max(0, limit + 1 - len(head)))
        if len(text) > limit:
            raise StoreError(errors.QUERY_IS_TOO_LARGE, f"a statement may have {limit} bytes")
        sql = _utf8(text)
        if not sql.strip():
            raise StoreError(errors.SYNTAX_ERROR, "Empty query")
        return sql

    def data(self, first: bytes) -> Callable[[], bytes]:
        """A function that returns the data of an insert piece by piece, then b""."""
        pieces = [first] if first else []
        return lambda: pieces.pop() if pieces else self._take(CHUNK_BYTES)

    def _up_to(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size > 0 and (piece := self._take(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _take(self, size: int) -> bytes:
        try:
            data = self._reader.read(size)
        except codecs.BROKEN as error:
            raise StoreError(errors.CANNOT_DECOMPRESS, f"the body cannot be read: {error}") from None
        self._taken += len(data)
        if self._taken > self._limits.body_bytes:
            raise StoreError(errors.TOO_LARGE_REQUEST, f"a body may have {self._limits.body_bytes} bytes")
        return data


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _credentials(headers: Mapping[str, str], values: Mapping[str, str]) -> tuple[str, str] | None:
    """User and password from ClickHouse's headers, Basic authorization, or the URL, in this order."""
    if "X-ClickHouse-User" in headers or "X-ClickHouse-Key" in headers:
        return headers.get("X-ClickHouse-User", ""), headers.get("X-ClickHouse-Key", "")
    kind, _, encoded = headers.get("Authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            user, _, password = b64decode(encoded, validate=True).decode().partition(":")
        except (Base64Error, UnicodeDecodeError):
            return "", ""
        return user, password
    if "user" in values or "password" in values:
        return values.get("user", ""), values.get("password", "")
    return None


def _first_parts(stream: Stream, at_least: int) -> tuple[list[Answer], bool]:
    """Two parts, or as many as make `at_least` bytes: an error in them can still change the status."""
    parts: list[Answer] = []
    size = 0
    while len(parts) < 2 or size < at_least:
        part = stream.next()
        if part is None:
            return parts, True
        parts.append(part)
        size += len(part.data)
    return parts, False


def _next_data(stream: Stream) -> bytes | None:
    part = stream.next()
    return None if part is None else part.data


def _summary(parts: list[Answer]) -> str:
    """X-ClickHouse-Summary: numbers as text. Zeros while the query has not ended, as ClickHouse has it."""
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
    mark = tag.encode()
    return b"\r\n__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (mark, message, len(message), mark)


def _utf8(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise StoreError(errors.SYNTAX_ERROR, "the statement is not UTF-8") from None
