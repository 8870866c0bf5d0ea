"""Envoy bootstraps, as istiod would configure a sidecar and an ingress gateway.

Names of listeners, routes and clusters are Istio's, because the access log shows them: `outbound|80||host`,
`inbound|8080||`, `PassthroughCluster`, `BlackHoleCluster`, routes `allow_any`, `block_all`, `default`.
Everything here is a function from values to a dict; nothing is started.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from egresslens.demo.formats import Format

Json = dict[str, Any]
Mode = Literal["ALLOW_ANY", "REGISTRY_ONLY"]
Protocol = Literal["HTTP", "TLS", "TCP"]

_TYPE: Final = "type.googleapis.com/envoy.extensions."
# A destination that does not answer is given up after this long (Istio's default is 10 s).
_CONNECT_TIMEOUT: Final = "2s"


@dataclass(frozen=True)
class Address:
    """An IPv4 address and a port."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


@dataclass(frozen=True)
class ServiceEntry:
    """A registered external host: what a ServiceEntry with `resolution: STATIC` tells the mesh.

    `vip` is the address Istio allocates to a TCP host (240.240.0.0/16); HTTP goes by the Host header and TLS
    by SNI. `endpoint` None is a host with no endpoint that answers.
    """

    host: str
    port: int
    protocol: Protocol
    endpoint: Address | None
    vip: str | None = None

    @property
    def cluster(self) -> str:
        """Istio's name for the cluster."""
        return f"outbound|{self.port}||{self.host}"


@dataclass(frozen=True)
class Sidecar:
    """One pod's Envoy: where it listens and what it may reach.

    `passthrough_port` replaces the port of connections that are passed through (None: as wanted).
    """

    outbound: Address
    inbound: Address
    app: Address
    admin: Address
    mode: Mode
    entries: tuple[ServiceEntry, ...]
    passthrough_port: int | None


@dataclass(frozen=True)
class Gateway:
    """The ingress gateway: a public listener, and one service behind it."""

    listen: Address
    admin: Address
    public_host: str
    service: str
    service_port: int
    endpoint: Address


def sidecar_bootstrap(sidecar: Sidecar, logs: Mapping[Path, Format]) -> Json:
    """Bootstrap of a sidecar that writes each log file in its format."""
    listeners = [
        _virtual_outbound(sidecar, logs),
        _inbound(sidecar, logs),
        # These two exist in every mesh in which any service uses the port.
        _http_outbound(80, sidecar, logs),
        _tls_outbound(443, sidecar, logs),
        *(_tcp_outbound(entry, logs) for entry in sidecar.entries if entry.protocol == "TCP"),
    ]
    clusters = [
        _passthrough(sidecar.passthrough_port),
        _static("BlackHoleCluster", None),
        # Istio's sidecars call their own application from this address.
        _static(f"inbound|{sidecar.inbound.port}||", sidecar.app) | _bound_to("127.0.0.6"),
        *(_static(entry.cluster, entry.endpoint) for entry in sidecar.entries),
    ]
    return _bootstrap(sidecar.outbound.ip, sidecar.admin, listeners, clusters)


def gateway_bootstrap(gateway: Gateway, logs: Mapping[Path, Format]) -> Json:
    """Bootstrap of an ingress gateway that forwards one host to one service of the mesh."""
    cluster = f"outbound|{gateway.service_port}||{gateway.service}"
    host = _virtual_host(gateway.public_host, [gateway.public_host], [_route("default", cluster)])
    # A gateway is the edge: it takes the client's address from the connection and writes X-Forwarded-For.
    manager = _http_manager("outbound_0.0.0.0_8080", [host], logs, use_remote_address=True)
    listener = _listener("0.0.0.0_8080", gateway.listen, [_chain(manager)], logs)
    return _bootstrap(gateway.listen.ip, gateway.admin, [listener], [_static(cluster, gateway.endpoint)])


def _virtual_outbound(sidecar: Sidecar, logs: Mapping[Path, Format]) -> Json:
    """Istio's catch-all: hands a connection to the listener of its wanted address, or treats it as TCP."""
    listener = _listener("virtualOutbound", sidecar.outbound, [_unknown_tcp(sidecar.mode, logs)], logs)
    return listener | {
        "use_original_dst": True,
        "listener_filters": [
            {
                "name": "envoy.filters.listener.proxy_protocol",
                "typed_config": {"@type": _TYPE + "filters.listener.proxy_protocol.v3.ProxyProtocol"},
            }
        ],
    }


def _inbound(sidecar: Sidecar, logs: Mapping[Path, Format]) -> Json:
    cluster = f"inbound|{sidecar.inbound.port}||"
    host = _virtual_host(f"inbound|http|{sidecar.inbound.port}", ["*"], [_route("default", cluster)])
    manager = _http_manager(f"inbound_{sidecar.inbound}", [host], logs)
    return _listener("virtualInbound", sidecar.inbound, [_chain(manager)], logs)


def _http_outbound(port: int, sidecar: Sidecar, logs: Mapping[Path, Format]) -> Json:
    hosts = [
        _virtual_host(
            f"{entry.host}:{entry.port}",
            [entry.host, f"{entry.host}:{entry.port}"],
            [_route("default", entry.cluster)],
        )
        for entry in sidecar.entries
        if entry.protocol == "HTTP" and entry.port == port
    ]
    manager = _http_manager(f"outbound_0.0.0.0_{port}", [*hosts, _unknown_host(sidecar.mode)], logs)
    return _unbound(f"0.0.0.0_{port}", Address("0.0.0.0", port), [_chain(manager)], logs)  # noqa: S104 - not bound


def _tls_outbound(port: int, sidecar: Sidecar, logs: Mapping[Path, Format]) -> Json:
    chains = [
        _chain(_tcp_proxy(entry.cluster, logs)) | {"filter_chain_match": {"server_names": [entry.host]}}
        for entry in sidecar.entries
        if entry.protocol == "TLS" and entry.port == port
    ]
    listener = _unbound(
        f"0.0.0.0_{port}",
        Address("0.0.0.0", port),  # noqa: S104 - not bound
        [*chains, _unknown_tcp(sidecar.mode, logs)],
        logs,
    )
    return listener | {
        "listener_filters": [
            {
                "name": "envoy.filters.listener.tls_inspector",
                "typed_config": {"@type": _TYPE + "filters.listener.tls_inspector.v3.TlsInspector"},
            }
        ]
    }


def _tcp_outbound(entry: ServiceEntry, logs: Mapping[Path, Format]) -> Json:
    if entry.vip is None:
        raise ValueError(f"the TCP host {entry.host} needs an address")
    address = Address(entry.vip, entry.port)
    return _unbound(f"{address.ip}_{address.port}", address, [_chain(_tcp_proxy(entry.cluster, logs))], logs)


def _unknown_tcp(mode: Mode, logs: Mapping[Path, Format]) -> Json:
    cluster = "PassthroughCluster" if mode == "ALLOW_ANY" else "BlackHoleCluster"
    return _chain(_tcp_proxy(cluster, logs)) | {"name": cluster}


def _unknown_host(mode: Mode) -> Json:
    if mode == "ALLOW_ANY":
        return _virtual_host("allow_any", ["*"], [_route("allow_any", "PassthroughCluster")])
    block = {"name": "block_all", "match": {"prefix": "/"}, "direct_response": {"status": 502}}
    return _virtual_host("block_all", ["*"], [block])


def _virtual_host(name: str, domains: Sequence[str], routes: Sequence[Json]) -> Json:
    return {"name": name, "domains": list(domains), "routes": list(routes)}


def _route(name: str, cluster: str) -> Json:
    return {"name": name, "match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}


def _http_manager(
    stat_prefix: str,
    hosts: Sequence[Json],
    logs: Mapping[Path, Format],
    *,
    use_remote_address: bool = False,
) -> Json:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": _TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": stat_prefix,
            "use_remote_address": use_remote_address,
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "route_config": {"name": stat_prefix, "virtual_hosts": list(hosts)},
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": _TYPE + "filters.http.router.v3.Router"},
                }
            ],
            "access_log": _access_logs(logs),
        },
    }


def _tcp_proxy(cluster: str, logs: Mapping[Path, Format]) -> Json:
    return {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": _TYPE + "filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": cluster,
            "cluster": cluster,
            "access_log": _access_logs(logs),
        },
    }


def _chain(network_filter: Json) -> Json:
    return {"filters": [network_filter]}


def _unbound(name: str, address: Address, chains: Sequence[Json], logs: Mapping[Path, Format]) -> Json:
    """A listener that takes connections from virtualOutbound only."""
    return _listener(name, address, chains, logs) | {"bind_to_port": False}


def _listener(name: str, address: Address, chains: Sequence[Json], logs: Mapping[Path, Format]) -> Json:
    return {
        "name": name,
        "address": _socket(address),
        "filter_chains": list(chains),
        # Istio logs a connection that no filter chain took, and only that, at the listener.
        "access_log": [log | {"filter": _NO_ROUTE} for log in _access_logs(logs)],
    }


_NO_ROUTE: Final[Json] = {"response_flag_filter": {"flags": ["NR"]}}


def _access_logs(logs: Mapping[Path, Format]) -> list[Json]:
    return [
        {
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": _TYPE + "access_loggers.file.v3.FileAccessLog",
                "path": str(path),
                "log_format": (
                    {"text_format_source": {"inline_string": template}}
                    if isinstance(template, str)
                    else {"json_format": template}
                ),
            },
        }
        for path, template in logs.items()
    ]


def _static(name: str, endpoint: Address | None) -> Json:
    endpoints = [{"endpoint": {"address": _socket(endpoint)}}] if endpoint else []
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}] if endpoints else []}
    return _cluster(name) | {"type": "STATIC", "load_assignment": assignment}


def _passthrough(port: int | None) -> Json:
    override = {"original_dst_lb_config": {"upstream_port_override": port}} if port else {}
    base = _cluster("PassthroughCluster")
    return base | {"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"} | override


def _cluster(name: str) -> Json:
    # Since 1.23 Istio gives each cluster this stat name; %UPSTREAM_CLUSTER% prints it, `;` included.
    return {"name": name, "alt_stat_name": f"{name};", "connect_timeout": _CONNECT_TIMEOUT}


def _socket(address: Address) -> Json:
    return {"socket_address": {"address": address.ip, "port_value": address.port}}


def _bound_to(ip: str) -> Json:
    return {"upstream_bind_config": {"source_address": {"address": ip, "port_value": 0}}}


def _bootstrap(pod_ip: str, admin: Address, listeners: Sequence[Json], clusters: Sequence[Json]) -> Json:
    return {
        "admin": {"address": _socket(admin)},
        # What leaves a pod has the pod's address.
        "cluster_manager": _bound_to(pod_ip),
        "static_resources": {"listeners": list(listeners), "clusters": list(clusters)},
    }
