"""What exists in the demo's mesh and what is sent through it, as data.

A `Call` also says what its access-log line must say. These expectations are Istio's rules for the situation
the call is made in, written down by hand, and never this package's parser.
"""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from typing import Final, Literal

from egresslens.demo.config import Address, Gateway, Mode, Protocol, ServiceEntry, Sidecar

NAMESPACE: Final = "shop"
GATEWAY: Final = "istio-ingressgateway"
GATEWAY_NAMESPACE: Final = "istio-system"
PUBLIC_HOST: Final = "idgen.example.com"
IDGEN_SERVICE: Final = "idgen.shop.svc.cluster.local"

Workload = Literal["idgen", "checkout"]
Kind = Literal["page", "http", "tls", "mysql", "postgres", "amqp"]
Label = Literal["passthrough", "blackhole", "outbound"]


@dataclass(frozen=True)
class External:
    """A party outside the mesh: `host` None has an address only, `serves` False nobody answers.

    `last` is the last part of its address. `vip` is the address Istio allocates to a registered TCP host.
    """

    host: str | None
    last: int
    port: int
    protocol: Protocol
    serves: bool = True
    vip: str | None = None


HTTPBIN: Final = External("httpbin.org", 101, 80, "HTTP")
PAYMENTS: Final = External("api.payments.example.com", 102, 80, "HTTP")
PAYMENTS_TLS: Final = External("api.payments.example.com", 103, 443, "TLS")
TELEMETRY: Final = External("telemetry.vendor.example.net", 104, 443, "TLS")
ORDERS_DB: Final = External("orders-db.mysql.example.com", 105, 3306, "TCP", vip="240.240.0.5")
LEDGER_DB: Final = External("ledger.postgres.example.com", 106, 5432, "TCP", vip="240.240.0.6")
QUEUE: Final = External(None, 107, 5672, "TCP")
CACHE: Final = External(None, 108, 6379, "TCP", serves=False)
RETIRED: Final = External("legacy.partner.example.com", 109, 80, "HTTP", serves=False)
UNLISTED: Final = External("paste.unlisted.example.net", 110, 80, "HTTP", serves=False)
EXTERNALS: Final = (
    HTTPBIN, PAYMENTS, PAYMENTS_TLS, TELEMETRY, ORDERS_DB, LEDGER_DB, QUEUE, CACHE, RETIRED, UNLISTED
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """Every address of one run: pods and external parties, each with an address of its own on loopback.

    `passthrough_port` is None where the external parties listen on the ports the workloads ask for; where
    ports below 1024 are not ours to bind, they all listen on this one and Envoy is told so.
    """

    block: str
    passthrough_port: int | None
    gateway: Gateway
    idgen: Sidecar
    checkout: Sidecar

    @property
    def frontend_ip(self) -> str:
        """Address of the web frontend outside the mesh."""
        return f"{self.block}.1"

    def wanted(self, external: External) -> Address:
        """Where a workload that looked the party up connects to."""
        return Address(external.vip or f"{self.block}.{external.last}", external.port)

    def serving(self, external: External) -> Address:
        """Where the party's stand-in listens."""
        return Address(f"{self.block}.{external.last}", self.passthrough_port or external.port)

    def entry(self, external: External) -> ServiceEntry:
        """Register the party in the mesh."""
        if external.host is None:
            raise ValueError("a party without a name cannot be registered")
        endpoint = self.serving(external) if external.serves else None
        return ServiceEntry(external.host, external.port, external.protocol, endpoint, external.vip)


@dataclass(frozen=True)
class Call:
    """One thing a workload does, `times` times, and what its line in the access log must say.

    `code` is 0 for a TCP connection, `cluster` None where Envoy chose none. A `page` is a request of the web
    frontend through the gateway, for which idgen asks httpbin.org: the expectations are those of that inner
    request.
    """

    workload: Workload
    kind: Kind
    to: External
    label: Label
    code: int
    cluster: str | None
    flags: tuple[str, ...] = ()
    method: str = "GET"
    path: str = "/"
    body: bytes = b""
    user_agent: str = "egresslens-demo/1"
    times: int = 1


@dataclass(frozen=True)
class Phase:
    """A state of idgen's sidecar, and the calls made in it."""

    situation: str
    mode: Mode
    registered: tuple[External, ...]
    calls: tuple[Call, ...]


# checkout's own Sidecar resource is strict from the start, and the hosts it needs are registered.
CHECKOUT_REGISTERED: Final = (PAYMENTS, PAYMENTS_TLS, ORDERS_DB, RETIRED)

_PASSTHROUGH: Final = "PassthroughCluster"
_BLACKHOLE: Final = "BlackHoleCluster"
# Istio's names for registered hosts.
_HTTPBIN: Final = "outbound|80||httpbin.org"
_PAYMENTS: Final = "outbound|80||api.payments.example.com"
_PAYMENTS_TLS: Final = "outbound|443||api.payments.example.com"
_ORDERS_DB: Final = "outbound|3306||orders-db.mysql.example.com"
_LEDGER_DB: Final = "outbound|5432||ledger.postgres.example.com"
_RETIRED: Final = "outbound|80||legacy.partner.example.com"

PHASES: Final = (
    Phase(
        situation="ALLOW_ANY",
        mode="ALLOW_ANY",
        registered=(),
        calls=(
            Call("idgen", "page", HTTPBIN, "passthrough", 200, _PASSTHROUGH, path="/uuid", times=5),
            Call("idgen", "tls", TELEMETRY, "passthrough", 0, _PASSTHROUGH, times=2),
            Call("idgen", "amqp", QUEUE, "passthrough", 0, _PASSTHROUGH, times=2),
            Call("idgen", "amqp", CACHE, "passthrough", 0, _PASSTHROUGH, ("UF", "URX")),
        ),
    ),
    Phase(
        situation="REGISTRY_ONLY without a ServiceEntry",
        mode="REGISTRY_ONLY",
        registered=(),
        calls=(
            # Istio answers an HTTP request to an unknown host itself, by the route block_all: no cluster.
            Call("idgen", "page", HTTPBIN, "blackhole", 502, None, path="/uuid", times=3),
            Call("idgen", "tls", TELEMETRY, "blackhole", 0, _BLACKHOLE, ("UH",), times=2),
            Call("idgen", "amqp", CACHE, "blackhole", 0, _BLACKHOLE, ("UH",), times=2),
        ),
    ),
    Phase(
        situation="REGISTRY_ONLY with a ServiceEntry",
        mode="REGISTRY_ONLY",
        registered=(HTTPBIN, LEDGER_DB),
        calls=(
            Call("idgen", "page", HTTPBIN, "outbound", 200, _HTTPBIN, path="/uuid", times=4),
            Call(
                "idgen", "http", HTTPBIN, "outbound", 200, _HTTPBIN,
                method="POST", path="/post?trace=1", body=b'{"ids": 64}', times=2,
            ),
            Call("idgen", "http", HTTPBIN, "outbound", 404, _HTTPBIN, path="/status/404"),
            # Envoy's text formats do not escape: this client forges what looks like more fields.
            Call(
                "idgen", "http", HTTPBIN, "outbound", 200, _HTTPBIN,
                path="/uuid", user_agent='curl/8" 200 - via_upstream - "forged',
            ),
            Call(
                "idgen", "postgres", LEDGER_DB, "outbound", 0, _LEDGER_DB,
                body=b"INSERT INTO ledger VALUES (64, 'EUR')", times=3,
            ),
            Call("idgen", "tls", TELEMETRY, "blackhole", 0, _BLACKHOLE, ("UH",)),
            Call(
                "checkout", "http", PAYMENTS, "outbound", 201, _PAYMENTS,
                method="POST", path="/charges", body=b'{"amount": 1250, "currency": "EUR"}', times=3,
            ),
            Call(
                "checkout", "http", PAYMENTS, "outbound", 402, _PAYMENTS,
                method="POST", path="/charges", body=b'{"amount": 1250, "card": "declined"}',
            ),
            Call("checkout", "tls", PAYMENTS_TLS, "outbound", 0, _PAYMENTS_TLS, times=2),
            Call(
                "checkout", "mysql", ORDERS_DB, "outbound", 0, _ORDERS_DB,
                body=b"INSERT INTO orders (item, price) VALUES ('id card', 12.50)", times=4,
            ),
            # Registered, but nobody is there: UH with a named cluster is an outage and not a block.
            Call("checkout", "http", RETIRED, "outbound", 503, _RETIRED, ("UH",)),
            Call("checkout", "http", UNLISTED, "blackhole", 502, None, path="/raw/7f3a", times=2),
        ),
    ),
)  # fmt: skip


def random_block() -> str:
    """A block of 256 loopback addresses that no other run is likely to have: `127.x.y`."""
    return f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(254) + 1}"


def new_world(block: str) -> World:
    """Lay the mesh out in a block of loopback addresses, on free ports.

    Raises:
        OSError: this machine's loopback is 127.0.0.1 alone (macOS), where pods cannot have their own.
    """
    privileged = all(_can_bind(f"{block}.101", port) for port in (80, 443))
    passthrough_port = None if privileged else _free(f"{block}.101", 18080).port
    idgen = _sidecar(f"{block}.20", passthrough_port)
    gateway_ip = f"{block}.10"
    gateway = Gateway(
        listen=_free(gateway_ip, 8080),
        admin=_free(gateway_ip, 15000),
        public_host=PUBLIC_HOST,
        service=IDGEN_SERVICE,
        service_port=80,
        endpoint=idgen.inbound,
    )
    return World(block, passthrough_port, gateway, idgen, _sidecar(f"{block}.30", passthrough_port))


def _sidecar(ip: str, passthrough_port: int | None) -> Sidecar:
    return Sidecar(
        outbound=_free(ip, 15001),
        inbound=_free(ip, 8080),
        app=_free(ip, 18080),
        admin=_free(ip, 15000),
        mode="REGISTRY_ONLY",
        entries=(),
        passthrough_port=passthrough_port,
    )


def _free(ip: str, port: int) -> Address:
    """The port, or any other one where somebody listens on it already."""
    if _can_bind(ip, port):
        return Address(ip, port)
    with socket.socket() as probe:
        probe.bind((ip, 0))
        return Address(ip, probe.getsockname()[1])


def _can_bind(ip: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
        except OSError:
            return False
    return True
