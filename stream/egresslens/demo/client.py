"""The workloads' side: calls that leave a pod through its sidecar.

In a pod, iptables sends every connection to the sidecar and the kernel remembers the wanted address. Here a
PROXY protocol header carries it (see the package). Each function returns what crossed the connection, as
Envoy counts it: HTTP bodies, or the bytes of a TCP connection.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass
from typing import Final

from egresslens.demo.config import Address
from egresslens.demo.servers import mysql_packet, postgres_message

_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True)
class Exchange:
    """What the caller saw: status (0 without HTTP), bytes it sent, bytes it was sent.

    `source_port` is the port it called from, which Envoy logs.
    """

    code: int
    sent: int
    received: int
    source_port: int


@dataclass(frozen=True)
class Via:
    """A pod's way out: its own address and its sidecar's outbound listener."""

    pod_ip: str
    sidecar: Address

    def connect(self, wanted: Address) -> socket.socket:
        """Connect to `wanted`, as far as the application can tell."""
        connection = socket.create_connection(
            (self.sidecar.ip, self.sidecar.port), _TIMEOUT_S, source_address=(self.pod_ip, 0)
        )
        port = connection.getsockname()[1]
        connection.sendall(f"PROXY TCP4 {self.pod_ip} {wanted.ip} {port} {wanted.port}\r\n".encode())
        return connection


def request(
    via: Via, wanted: Address, host: str, *, method: str, path: str, body: bytes, user_agent: str
) -> Exchange:
    """Send one HTTP request to `host` at the address it was looked up to."""
    with via.connect(wanted) as connection:
        return http_exchange(connection, host, method=method, path=path, body=body, user_agent=user_agent)


def http_exchange(
    connection: socket.socket, host: str, *, method: str, path: str, body: bytes, user_agent: str
) -> Exchange:
    """Send one HTTP request over a connection that is open, read the whole answer."""
    port = connection.getsockname()[1]
    client = http.client.HTTPConnection(host)
    client.sock = connection
    headers = {"User-Agent": user_agent, "Connection": "close"}
    client.request(method, path, body=body or None, headers=headers)
    response = client.getresponse()
    return Exchange(response.status, len(body), len(response.read()), port)


def hello(via: Via, wanted: Address, host: str) -> Exchange:
    """Send a TLS ClientHello that names `host`, read what comes until the end."""
    return _talk(via, wanted, [_client_hello(host)])


def amqp(via: Via, wanted: Address) -> Exchange:
    """Open an AMQP connection, of which the server wants another version."""
    return _talk(via, wanted, [b"AMQP\x00\x01\x00\x00"])


def mysql(via: Via, wanted: Address, statement: bytes) -> Exchange:
    """Log in, run one statement and quit."""
    login = b"\x8d\xa2\x0b\x00" + (1 << 24).to_bytes(4, "little") + b"\xff" + bytes(23) + b"shop\x00\x00"
    packets = [mysql_packet(1, login), mysql_packet(0, b"\x03" + statement), mysql_packet(0, b"\x01")]
    return _talk(via, wanted, packets, server_first=True)


def postgres(via: Via, wanted: Address, statement: bytes) -> Exchange:
    """Log in, run one statement and quit."""
    start = (3 << 16).to_bytes(4, "big") + b"user\x00shop\x00\x00"
    parts = [
        (len(start) + 4).to_bytes(4, "big") + start,
        postgres_message(b"Q", statement + b"\x00"),
        postgres_message(b"X", b""),
    ]
    return _talk(via, wanted, parts)


def _talk(via: Via, wanted: Address, parts: list[bytes], *, server_first: bool = False) -> Exchange:
    """Send each part after the answer to the one before, then read to the end.

    A connection that is refused or reset ends the talk: nothing was exchanged, as far as the caller knows.
    """
    received = 0
    with via.connect(wanted) as connection:
        port = connection.getsockname()[1]
        try:
            received += len(connection.recv(4096)) if server_first else 0
            for index, part in enumerate(parts):
                connection.sendall(part)
                if index < len(parts) - 1:
                    received += len(connection.recv(4096))
            while data := connection.recv(4096):
                received += len(data)
        except ConnectionError:
            return Exchange(0, 0, received, port)
    return Exchange(0, sum(map(len, parts)), received, port)


def _client_hello(host: str) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=host)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake cannot end before the server has spoken")
