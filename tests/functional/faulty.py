"""A way to the store that can fail as a big ClickHouse does: errors that the embedded engine never gives."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import SplitResult, unquote_plus, urlsplit

_HOP: Final = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass(frozen=True)
class Fault:
    """What inserts into a table get: ClickHouse's error, or no answer though the rows are stored (code 0).

    `larger_than`: only inserts of more bytes fail.
    """

    table: str
    code: int
    message: str = ""
    larger_than: int = 0

    def hits(self, request: str, size: int) -> bool:
        """Whether a request is to fail."""
        return "INSERT INTO" in request and f".{self.table}" in request and size > self.larger_than


@dataclass
class Faulty:
    """A proxy before a store; `fault` may be set and taken away at any time."""

    url: str
    fault: Fault | None = None
    hits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self) -> None:
        """One more request has failed."""
        with self._lock:
            self.hits += 1


class _Handler(BaseHTTPRequestHandler):
    """Answers with the proxy's fault or with what the store says."""

    protocol_version = "HTTP/1.1"
    proxy: Faulty
    target: SplitResult

    def do_GET(self) -> None:
        self._pass()

    def do_POST(self) -> None:
        self._pass()

    def _pass(self) -> None:
        body = self._body()
        request = unquote_plus(self.path) + body[:500].decode("utf-8", "replace")
        fault = self.proxy.fault
        if fault is None or not fault.hits(request, len(body)):
            self._answer(*self._forward(body))
            return
        self.proxy.count()
        if fault.code:
            said = f"Code: {fault.code}. DB::Exception: {fault.message}".encode()
            self._answer(500, {"X-ClickHouse-Exception-Code": str(fault.code)}, said)
        else:
            self._forward(body)
            self.close_connection = True

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.target.hostname or "", self.target.port, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        # The store checks that it is meant.
        headers["Host"] = self.target.netloc
        try:
            connection.request(self.command, self.path, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went away in the middle: the tests kill some."""


@contextlib.contextmanager
def faulty(store: str) -> Iterator[Faulty]:
    """A proxy before the store at this URL."""
    proxy = Faulty("")
    handler = type("Handler", (_Handler,), {"proxy": proxy, "target": urlsplit(store)})
    server = _Server(("127.0.0.1", 0), handler)
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
