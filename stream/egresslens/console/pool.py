"""Clients of the reader's account: a few, each for one question at a time, in threads.

Theory of operation. The report's functions block, so each question runs in a thread with a client of its own;
`places` bounds both. ClickHouse ends a query that passes its limits. Where the one who asked goes away, the
client's connections are shut under the thread: it fails at once, and ClickHouse gives the query up
(`cancel_http_readonly_queries_on_client_close`). Such a client is not used again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

import urllib3
from clickhouse_connect.driver.client import Client
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from egresslens.clickhouse.client import connect
from egresslens.console.problems import KINDS, Problem
from egresslens.settings import Settings

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

# How long a question waits for a place.
QUEUE_S: Final = 5.0
# Seconds that ClickHouse gets to say that the time is over, before the connection is given up.
_GRACE_S: Final = 5.0
# Beyond every answer's own limit: a query that would send more is wrong.
MAX_RESULT_ROWS: Final = 1_000_000


class Readers:
    """Clients of the reader's account."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places = asyncio.Semaphore(settings.console_queries)
        self._threads = ThreadPoolExecutor(settings.console_queries, "console-query")
        self._idle: list[_Reader] = []
        self._lent: set[_Lent] = set()

    async def ask(self, question: Callable[[Client], Answer]) -> Answer:
        """Run a blocking function with a client.

        Raises:
            Problem: all places were taken for too long.
            clickhouse_connect.driver.exceptions.Error: the store cannot be asked, or refuses.
        """
        try:
            await asyncio.wait_for(self._places.acquire(), QUEUE_S)
        except asyncio.TimeoutError:
            raise Problem("busy", KINDS["busy"].about, headers={"Retry-After": "5"}) from None
        lent = _Lent(self._idle.pop() if self._idle else None)
        self._lent.add(lent)
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._run, lent, question)
        # The place is free when the thread is, not when nobody waits for it any more.
        work.add_done_callback(lambda _: self._give_back(lent))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            lent.abandon()
            with suppress(Exception):
                await asyncio.shield(work)
            raise

    def close(self) -> None:
        """Let all clients go, and end what they do."""
        for lent in self._lent:
            lent.abandon()
        self._threads.shutdown(wait=False, cancel_futures=True)
        while self._idle:
            self._idle.pop().client.close()

    def _run(self, lent: _Lent, question: Callable[[Client], Answer]) -> Answer:
        if lent.reader is None:
            lent.reader = _Reader(self._settings)
        if lent.abandoned:
            raise ConnectionAbortedError
        return question(lent.reader.client)

    def _give_back(self, lent: _Lent) -> None:
        self._lent.discard(lent)
        # Who goes away just now must not shut a client that the next question gets.
        reader, lent.reader = lent.reader, None
        if reader is not None:
            if lent.abandoned:
                reader.client.close()
            else:
                self._idle.append(reader)
        self._places.release()


class _Lent:
    """A client while a question has it."""

    def __init__(self, reader: _Reader | None) -> None:
        self.reader = reader
        self.abandoned = False

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        self.abandoned = True
        if self.reader is not None:
            self.reader.shut()


class _Reader:
    """A client, and the connections it made."""

    def __init__(self, settings: Settings) -> None:
        self._connections: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()
        self._is_shut = False
        self.client = connect(
            settings,
            "reader",
            dedicated_pool=True,
            send_receive_timeout=settings.console_query_timeout_s + _GRACE_S,
            # The hosts of a domain may be thousands: too long for a URL.
            form_encode_query_params=True,
        )
        _tell_connections(self.client.http, self._note)
        _limit(self.client, settings)

    def shut(self) -> None:
        """Shut its connections, also under a thread that waits for an answer, and let it make no more."""
        self._is_shut = True
        for connection in list(self._connections):
            with suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _note(self, connection: HTTPConnection) -> None:
        if self._is_shut:
            raise ConnectionAbortedError("nobody waits for the answer any more")
        self._connections.add(connection)


def _limit(client: Client, settings: Settings) -> None:
    """Bound its queries, as far as the reader's profile lets them be bounded from here."""
    limits = {
        "max_execution_time": int(settings.console_query_timeout_s) or 1,
        "max_memory_usage": settings.console_query_memory_bytes,
        "max_result_rows": MAX_RESULT_ROWS,
        "result_overflow_mode": "throw",
        "cancel_http_readonly_queries_on_client_close": 1,
    }
    fixed = [
        name for name in limits if (known := client.server_settings.get(name)) is not None and known.readonly
    ]
    for name in limits.keys() - set(fixed):
        client.set_client_setting(name, limits[name])
    if fixed:
        log.info("the reader's profile is readonly=1: its own limits hold for %s", ", ".join(fixed))


def _tell_connections(manager: urllib3.PoolManager, note: Callable[[HTTPConnection], None]) -> None:
    """Have a pool say when it connects, before it does."""

    class Http(HTTPConnection):
        def connect(self) -> None:
            note(self)
            super().connect()

    class Https(HTTPSConnection):
        def connect(self) -> None:
            note(self)
            super().connect()

    class HttpPool(HTTPConnectionPool):
        ConnectionCls = Http

    class HttpsPool(HTTPSConnectionPool):
        ConnectionCls = Https

    manager.pool_classes_by_scheme = {"http": HttpPool, "https": HttpsPool}
    manager.clear()
