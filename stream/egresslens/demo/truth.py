"""What each access-log line must say, known from what was sent.

Field names are those of the record (`egresslens.record`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from egresslens.demo.client import Exchange
from egresslens.demo.plan import GATEWAY, IDGEN_SERVICE, PUBLIC_HOST, Call, World


@dataclass(frozen=True)
class Line:
    """One expected line. `proxy` is the workload whose Envoy writes it.

    `destination_ip` is the endpoint that was called or would have been, never the address Istio makes up.
    None in `destination_host` and `destination_port`: nothing is claimed (inbound lines name no destination).
    """

    proxy: str
    situation: str
    hop: str
    label: str
    destination_host: str | None
    destination_port: int | None
    destination_ip: str
    upstream_cluster: str | None
    response_code: int
    response_flags: tuple[str, ...]
    route_name: str | None
    method: str | None
    path: str | None
    authority: str | None
    requested_server_name: str | None
    user_agent: str | None
    bytes_received: int
    bytes_sent: int

    @property
    def stored(self) -> bool:
        """Whether it is egress: what another workload's line shows already is counted, not stored."""
        return self.label in ("outbound", "passthrough", "blackhole")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the truth files, as a record has them: no flags are null."""
        return {**self.__dict__, "response_flags": list(self.response_flags) or None}


_ROUTES: Final = {"outbound": "default", "passthrough": "allow_any", "blackhole": "block_all"}


def outbound_line(situation: str, call: Call, exchange: Exchange, world: World) -> Line:
    """The line of the caller's sidecar.

    The name comes from the registry, else from the Host header or the SNI, else it is the address.
    """
    wanted = world.wanted(call.to)
    http = call.kind in ("page", "http")
    # The parties are known by address alone where nothing in the traffic names them.
    named = call.label == "outbound" or call.kind in ("page", "http", "tls")
    # A connection that is not let out, or that nobody took, carried nothing.
    carried = not call.flags or http
    return Line(
        proxy=call.workload,
        situation=situation,
        hop="sidecar",
        label=call.label,
        destination_host=call.to.host if named else wanted.ip,
        destination_port=call.to.port,
        destination_ip=world.serving(call.to).ip,
        upstream_cluster=call.cluster,
        response_code=call.code,
        response_flags=call.flags,
        route_name=_ROUTES[call.label] if http else None,
        method=call.method if http else None,
        path=call.path if http else None,
        authority=call.to.host if http else None,
        requested_server_name=call.to.host if call.kind == "tls" else None,
        user_agent=call.user_agent if http else None,
        bytes_received=exchange.sent if carried else 0,
        bytes_sent=exchange.received if carried else 0,
    )


def gateway_line(situation: str, page: Exchange, world: World, *, path: str, user_agent: str) -> Line:
    """The ingress gateway's line of a page: it calls idgen, a service of the mesh."""
    return Line(
        proxy=GATEWAY,
        situation=situation,
        hop="gateway",
        label="outbound",
        destination_host=IDGEN_SERVICE,
        destination_port=80,
        destination_ip=world.idgen.inbound.ip,
        upstream_cluster=f"outbound|80||{IDGEN_SERVICE}",
        response_code=page.code,
        response_flags=(),
        route_name="default",
        method="GET",
        path=path,
        authority=PUBLIC_HOST,
        requested_server_name=None,
        user_agent=user_agent,
        bytes_received=page.sent,
        bytes_sent=page.received,
    )


def inbound_line(gateway: Line, world: World) -> Line:
    """The line idgen's sidecar writes for the same page, when it receives it."""
    inbound = world.idgen.inbound
    return replace(
        gateway,
        proxy="idgen",
        hop="sidecar",
        label="inbound",
        destination_host=None,
        destination_port=None,
        destination_ip=world.idgen.app.ip,
        upstream_cluster=f"inbound|{inbound.port}||",
    )
