"""The other ends: stand-ins for httpbin.org, a payments service, TLS hosts, databases, and idgen itself.

Each is a small threaded server on one address. They answer just enough to be real traffic: the bytes that
cross Envoy are what the protocol's first exchange looks like.
"""

from __future__ import annotations

import json
import socket
import socketserver
import threading
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from egresslens.demo.config import Address

# A peer that says nothing for this long is given up, so that no thread outlives its connection.
_IDLE_S: Final = 10.0
# TLS alert: handshake_failure. A server that refuses the handshake, without a certificate to keep.
TLS_ALERT: Final = bytes.fromhex("15030300020228")

Answer = tuple[int, bytes]
Application = Callable[[str, str, bytes], Answer]


class _TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True


class Server:
    """A stand-in that serves from `start` to `stop`."""

    def __init__(self, server: socketserver.BaseServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)

    def start(self) -> None:
        """Serve in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; connections that are open end by themselves."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def http_server(address: Address, application: Application) -> Server:
    """Serve `application`, a function (method, path, body) -> (status, JSON body)."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _IDLE_S
        wbufsize = -1  # one segment for headers and body

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, content = application(self.command, self.path, body)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815 - the base class calls these names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing: Envoy's access log is the log here."""

    return Server(_HttpServer((address.ip, address.port), Handler))


def tcp_server(address: Address, talk: Callable[[socket.socket], None]) -> Server:
    """Serve connections with `talk`, which returns when the conversation is over."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(_IDLE_S)
            # The peer may go at any moment (Envoy probes, an interrupted demo): then it is over as well.
            try:
                talk(self.request)
            except (OSError, EOFError):
                return

    return Server(_TcpServer((address.ip, address.port), Handler))


def httpbin(method: str, path: str, body: bytes) -> Answer:
    """Answer `/uuid`, `/status/<code>` and `/post` as httpbin.org does."""
    first, _, rest = path.partition("?")[0].lstrip("/").partition("/")
    if first == "status" and rest.isdigit():
        return int(rest), b"{}"
    if first == "uuid":
        return 200, _json({"uuid": str(uuid.uuid4())})
    if first == "post" and method == "POST":
        return 200, _json({"data": body.decode("utf-8", "replace")})
    return 404, b"{}"


def payments(method: str, path: str, body: bytes) -> Answer:
    """Take a charge, or decline it."""
    if method != "POST" or path != "/charges":
        return 404, b"{}"
    return (402, _json({"error": "declined"})) if b"declined" in body else (201, _json({"charged": True}))


def tls(peer: socket.socket) -> None:
    """Read a ClientHello and refuse the handshake."""
    header = read_exactly(peer, 5)
    read_exactly(peer, int.from_bytes(header[3:5], "big"))
    peer.sendall(TLS_ALERT)


def amqp(peer: socket.socket) -> None:
    """Answer a protocol header with the header this server speaks, and hang up."""
    read_exactly(peer, 8)
    peer.sendall(b"AMQP\x00\x00\x09\x01")


def mysql(peer: socket.socket) -> None:
    """Greet, then answer OK to the login and to every command until COM_QUIT."""
    greeting = (
        b"\x0a8.4.0-demo\x00" + b"\x01\x00\x00\x00" + b"12345678\x00" + b"\x0f\xa2\xff\x02\x00" + bytes(13)
    )
    peer.sendall(mysql_packet(0, greeting))
    while True:
        header = read_exactly(peer, 4)
        payload = read_exactly(peer, int.from_bytes(header[:3], "little"))
        if payload == b"\x01":
            return
        peer.sendall(mysql_packet(header[3] + 1, b"\x00\x01\x00\x02\x00\x00\x00"))


def postgres(peer: socket.socket) -> None:
    """Let anyone in, then answer every query until Terminate."""
    read_exactly(peer, int.from_bytes(read_exactly(peer, 4), "big") - 4)
    ready = postgres_message(b"Z", b"I")
    peer.sendall(postgres_message(b"R", (0).to_bytes(4, "big")) + ready)
    while True:
        header = read_exactly(peer, 5)
        read_exactly(peer, int.from_bytes(header[1:], "big") - 4)
        if header[:1] == b"X":
            return
        peer.sendall(postgres_message(b"C", b"INSERT 0 1\x00") + ready)


def mysql_packet(sequence: int, payload: bytes) -> bytes:
    """One packet of MySQL's protocol."""
    return len(payload).to_bytes(3, "little") + bytes([sequence]) + payload


def postgres_message(kind: bytes, payload: bytes) -> bytes:
    """One message of PostgreSQL's protocol, version 3."""
    return kind + (len(payload) + 4).to_bytes(4, "big") + payload


def read_exactly(peer: socket.socket, count: int) -> bytes:
    """Read `count` bytes.

    Raises:
        EOFError: the peer hung up before.
    """
    data = bytearray()
    while len(data) < count:
        part = peer.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
