"""The label: what `upstream_cluster`, the route and the flags say about one record.

Istio puts a mesh in three situations. ALLOW_ANY lets unknown traffic out through `PassthroughCluster`.
REGISTRY_ONLY blocks it: HTTP by the route `block_all`, everything else in `BlackHoleCluster`. Known hosts,
among them every ServiceEntry, have clusters of their own: `outbound|PORT|SUBSET|HOST`.

Each label says what decided it (`label_evidence`) and how sure that is (`confidence`). A 502 or
`direct_response` alone never makes a record a blocked one: gateways answer redirects and health checks so.

Sources: Istio model/service.go (cluster names), networking/core/route/route.go and httproute.go (`block_all`,
`allow_any`), serviceregistry/…/util (reserved clusters); istio#54219 (trailing `;`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

import polars as pl

from egresslens import destination
from egresslens.mapping import map_unique
from egresslens.parse.damage import Damage
from egresslens.parse.markup import bare
from egresslens.rules import Rules

_PASSTHROUGH: Final = frozenset({"PassthroughCluster", "AllowAnyDynamicDNSCluster"})
_INBOUND_PASSTHROUGH: Final = "InboundPassthrough"
_PIPED = re.compile(
    r"^(outbound6?|inbound6?|inbound-vip|inbound-pod|inbound-hbone)\|(\d*)\|([^|\\]*)\|([^|\\]*)$"
)
_SRV = re.compile(r"^(outbound6?|inbound6?)_\.(\d+)_\.(.*?)_\.(.+)$")
# Envoy's and Istio's own clusters (bootstrap, ambient plumbing, telemetry): no workload's traffic.
_INTERNAL: Final = frozenset(
    {
        "agent", "prometheus_stats", "xds-grpc", "sds-grpc", "sds_external", "zipkin", "lightstep",
        "datadog_agent", "envoy_metrics_service", "envoy_accesslog_service", "local_cluster", "main_internal",
        "encap", "connect_originate", "connect_terminate", "inner_connect_originate",
        "outer_connect_originate", "forward_inner_connect", "virtual_inbound",
    }
)  # fmt: skip
_INTERNAL_PREFIXES: Final = ("spiffe://", "outbound_tunnel_clus_", "inbound-pod|", "inbound-hbone|")

_CLUSTER_COLUMNS: Final[dict[str, pl.DataType]] = {
    "kind": pl.String(),
    "cluster_port": pl.Int32(),
    "cluster_subset": pl.String(),
    "cluster_host": pl.String(),
}
_HOST_COLUMNS: Final = ("host", "port", "is_address")


class Cluster(NamedTuple):
    """An Envoy cluster name, read. `kind` is a label, `waypoint`, `none` (no cluster) or `custom`."""

    kind: str
    port: int | None = None
    subset: str | None = None
    host: str | None = None


@lru_cache(maxsize=65_536)
def classify_cluster(name: str | None) -> Cluster:
    """Read Envoy's cluster name: `direction|port|subset|host`, the SRV form, or one of Istio's own names.

    From Istio 1.23 `%UPSTREAM_CLUSTER%` may end in `;` (alt_stat_name); it is no part of the name.
    """
    name = name.rstrip(";") if name else name
    if not name:
        return Cluster("none")
    if name in _PASSTHROUGH:
        return Cluster("passthrough")
    if name == "BlackHoleCluster":
        return Cluster("blackhole")
    if name.startswith(_INBOUND_PASSTHROUGH):
        return Cluster("inbound_passthrough")
    if name in _INTERNAL or name.startswith(_INTERNAL_PREFIXES):
        return _named_cluster(name)._replace(kind="internal", host=None)
    return _named_cluster(name)


def _named_cluster(name: str) -> Cluster:
    match = _PIPED.match(name) or _SRV.match(name)
    if not match:
        # outboundClusterStatName prints an operator's pattern instead of the name: nothing to go by.
        return Cluster("custom")
    direction, port, subset, host = match.groups()
    kind = "waypoint" if direction == "inbound-vip" else direction.rstrip("6")
    return Cluster(
        kind,
        int(port) if port and int(port) <= 65535 else None,
        subset or None,
        destination.normal_host(host) if host else None,
    )


def label(records: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Add what labelling concludes.

    Args:
        records: stage.RECORDS.
        rules: which cluster hosts are egress gateways.

    Returns:
        The records with record.LABELLED columns except `event_time`.
    """
    frame = map_unique(records, "upstream_cluster", classify_cluster, _CLUSTER_COLUMNS)
    if (marked := _marked(frame)) is not None:
        frame = map_unique(marked, "upstream_cluster", classify_cluster, _CLUSTER_COLUMNS)
    frame = map_unique(frame, "authority", destination.host_port, _named("authority"))
    named = {**_named("requested_server_name"), "is_srv": pl.Boolean()}
    frame = map_unique(frame, "requested_server_name", _server_name, named)
    frame = _addresses(frame, "upstream_host")
    frame = _addresses(frame, "downstream_local_address")
    frame = frame.with_columns(
        _ips(frame["upstream_local_address"]).alias("upstream_local_ip"),
        _ips(frame["downstream_remote_address"]).alias("downstream_remote_ip"),
        pl.coalesce(
            pl.when(~pl.col("authority:is_address")).then("authority:host"),
            pl.when(~pl.col("requested_server_name:is_address")).then("requested_server_name:host"),
        ).alias("asked"),
        (_is_egress_gateway(frame, rules) | _is_egress_proxy()).alias("via_gateway"),
    )
    frame = _decide(frame)
    frame = frame.with_columns(_hop().alias("hop"))
    return frame.with_columns(_destination()).with_columns(
        _mismatch().alias("mismatch"),
        # On a sidecar's outbound side the caller is the workload itself; elsewhere it is somebody else.
        pl.col("downstream_remote_ip").alias("source_ip"),
    )


def _marked(frame: pl.DataFrame) -> pl.DataFrame | None:
    """The records without the marks of a web page around names that then mean something; None if none has.

    Only names are looked at that mean nothing as they are.
    """
    nameless = (frame["kind"] == "custom") | (frame["kind"] == "none")
    if not nameless.any():
        return None
    rows = frame.select("upstream_cluster", "route_name").filter(nameless)
    names = {
        column: {name: plain for name in rows[column].unique().drop_nulls() if (plain := known(name)) != name}
        for column, known in (("upstream_cluster", _known_cluster), ("route_name", _known_route))
    }
    if not any(names.values()):
        return None
    mark = Damage.MARKUP.value
    named = pl.any_horizontal(pl.col(column).is_in(list(found)) for column, found in names.items())
    changed = pl.lit(nameless) & named.fill_null(value=False)
    told = pl.col("damage").str.contains(mark, literal=True).fill_null(value=False)
    damage = pl.concat_str("damage", pl.lit(mark), separator=",", ignore_nulls=True)
    return frame.with_columns(
        pl.when(changed & ~told).then(damage).otherwise("damage").alias("damage"),
        *(
            pl.when(changed).then(pl.col(column).replace(found)).otherwise(column).alias(column)
            for column, found in names.items()
        ),
    ).drop(list(_CLUSTER_COLUMNS))


def _known_cluster(name: str) -> str:
    plain = bare(name)
    return name if classify_cluster(plain).kind in ("custom", "none") else plain


def _known_route(name: str) -> str:
    plain = bare(name)
    return plain if plain == "block_all" or plain.startswith("allow_any") else name


def _decide(frame: pl.DataFrame) -> pl.DataFrame:
    """Add label, evidence and confidence, by the first rule that holds."""
    kind = pl.col("kind")
    route = pl.col("route_name")
    flags = pl.col("response_flags")
    direction = pl.col("direction")
    nothing_moved = (pl.col("bytes_received") == 0) & (pl.col("bytes_sent") == 0)
    # Proxies up to 1.9 log a blocked connection without its cluster. The destination of a blocked outbound
    # connection is never the pod's own address, which is also the caller's: that one was inbound.
    old_block = (
        (kind == "none")
        & pl.col("method").is_null()
        & flags.list.contains("UH")
        & nothing_moved
        & (pl.col("downstream_local_address:ip") != pl.col("downstream_remote_ip"))
        & ~_at_own_address()
    )
    allow_any = route.str.starts_with("allow_any") & (kind != "outbound")
    rules = [
        (kind == "passthrough", "passthrough", "cluster", "high"),
        (kind == "blackhole", "blackhole", "cluster", "high"),
        (route == "block_all", "blackhole", "route", "high"),
        (allow_any, "passthrough", "route", "high"),
        (kind == "outbound", "outbound", "cluster", "high"),
        (kind.is_in(["inbound", "waypoint"]), "inbound", "cluster", "high"),
        (kind == "inbound_passthrough", "inbound_passthrough", "cluster", "high"),
        (kind == "internal", "internal", "cluster", "high"),
        (old_block, "blackhole", "flags", "medium"),
        # ztunnel has no clusters: it says the direction, and names the service (`authority`) that it knows.
        (direction == "inbound", "inbound", "direction", "high"),
        ((direction == "outbound") & pl.col("authority").is_not_null(), "outbound", "direction", "high"),
        (direction == "outbound", "passthrough", "direction", "high"),
    ]
    # Found once, as a number; what follows from a rule is looked up.
    number = pl.coalesce(
        *(pl.when(test).then(pl.lit(place, pl.UInt8)) for place, (test, *_) in enumerate(rules)),
        pl.lit(len(rules), pl.UInt8),
    )
    said = pl.DataFrame(
        [*(rule[1:] for rule in rules), ("unknown", "none", "low")],
        schema=["label", "label_evidence", "confidence"],
        orient="row",
    )
    found = frame.select(number).to_series()
    return frame.hstack(said[found])


def _at_own_address() -> pl.Expr:
    """Whether the call came to the proxy's own pod, where the envelope tells the pod's address."""
    own = pl.col("downstream_local_address:ip") == pl.col("source_pod_ip")
    return own.fill_null(value=False)


def _hop() -> pl.Expr:
    """Which proxy wrote the record: the envelope's word first, then the shape of its addresses.

    A gateway's listener is on the pod's own address, a sidecar's outbound listener on the destination's.
    Istio's `outbound_.PORT_.SUBSET_.HOST` as SNI is written by a sidecar, for a gateway to read.
    """
    own_listener = pl.col("downstream_local_address:ip") == pl.col("upstream_local_ip")
    # Where no upstream was chosen there is no local address: a gateway's caller is the first hop of XFF.
    relayed = pl.col("downstream_local_address:port").is_in([8080, 8443, 15443]) & pl.col(
        "x_forwarded_for"
    ).str.starts_with(pl.col("downstream_remote_ip"))
    # Envoy prints port 0 where it took the caller's address from XFF, which it trusts only at the edge.
    relayed = relayed | pl.col("downstream_remote_address").str.ends_with(":0")
    outward = pl.col("label").is_in(["outbound", "unknown"])
    return pl.coalesce(
        pl.col("source_role"),
        pl.when(pl.col("kind") == "waypoint").then(pl.lit("waypoint")),
        pl.when(outward & (own_listener | relayed | pl.col("is_srv") | _at_own_address())).then(
            pl.lit("gateway")
        ),
        pl.lit("sidecar"),
    )


def _destination() -> list[pl.Expr]:
    """Host, where it came from, port and address."""
    label = pl.col("label")
    kind = pl.col("kind")
    authority, sni = pl.col("authority:host"), pl.col("requested_server_name:host")
    # A wildcard's or an egress gateway's cluster names no host: the one asked for does.
    vague = (label == "outbound") & (pl.col("via_gateway") | pl.col("cluster_host").str.starts_with("*"))
    registry = (
        pl.when(
            ((label == "outbound") & ~(vague & pl.col("asked").is_not_null()).fill_null(value=False))
            | ((kind == "inbound") & (label == "inbound"))
        )
        .then("cluster_host")
    )  # fmt: skip
    # A node port's Host is an address; mutual TLS still names the service, in-mesh callers by its short name.
    service = (
        pl.when((label == "inbound") & pl.col("authority:is_address") & pl.col("is_srv"))
        .then(sni.str.split(".").list.first())
    )  # fmt: skip
    named_authority = pl.when(~vague | ~pl.col("authority:is_address")).then(authority)
    waypoint = pl.when(kind == "waypoint").then("cluster_host")
    ip = pl.coalesce(
        "upstream_host:ip",
        # 240.240.0.0/16 are addresses Istio makes up for ServiceEntries: no endpoint's.
        pl.when(~pl.col("downstream_local_address:ip").str.starts_with("240.240.")).then(
            "downstream_local_address:ip"
        ),
    )
    where = pl.coalesce(
        pl.when(label.is_in(["passthrough", "blackhole"])).then("downstream_local_address:ip"),
        ip,
        "downstream_local_address:ip",
    )
    known = pl.when((label == "outbound") & (pl.col("direction") == "outbound")).then(authority)
    sources = [
        (registry, "registry"),
        (known, "registry"),
        (service, "sni"),
        (named_authority, "authority"),
        (sni, "sni"),
        (waypoint, "registry"),
        (where, "address"),
    ]
    port = pl.coalesce(
        pl.when((label == "outbound") & ~pl.col("via_gateway")).then("cluster_port"),
        pl.when(label == "inbound").then("cluster_port"),
        "downstream_local_address:port",
        "authority:port",
        "cluster_port",
    )
    return [
        pl.coalesce(host for host, _ in sources).alias("destination_host"),
        pl.coalesce(pl.when(host.is_not_null()).then(pl.lit(name)) for host, name in sources).alias(
            "destination_host_source"
        ),
        port.cast(pl.Int32).alias("destination_port"),
        ip.alias("destination_ip"),
    ]


def _mismatch() -> pl.Expr:
    """Whether the named cluster and the host asked for disagree.

    In-mesh services are asked for by any prefix of their name (`web`, `web.shop`, `web.shop.svc`). A gateway
    routes public names to in-mesh services by design.
    """
    host, asked = pl.col("cluster_host"), pl.col("asked")
    in_mesh = host.str.contains(".svc", literal=True)
    agrees = (
        (host == asked)
        | (host.str.starts_with("*") & asked.str.ends_with(host.str.strip_prefix("*")))
        | (in_mesh & host.str.starts_with(asked + "."))
    )
    routed = pl.col("via_gateway") | (in_mesh & (pl.col("hop") != "sidecar")) | pl.col("is_srv")
    return ((pl.col("label") == "outbound") & ~agrees & ~routed).fill_null(value=False)


def _named(column: str) -> dict[str, pl.DataType]:
    """The columns that `destination.HostPort` fills."""
    return {
        f"{column}:host": pl.String(),
        f"{column}:port": pl.Int32(),
        f"{column}:is_address": pl.Boolean(),
    }


def _server_name(name: str | None) -> tuple[str | None, int | None, bool, bool]:
    return (*destination.sni_host(name), destination.is_srv_name(name))


def _addresses(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    return map_unique(
        frame, column, destination.address, {f"{column}:ip": pl.String(), f"{column}:port": pl.Int32()}
    )


def _ips(texts: pl.Series) -> pl.Series:
    """The addresses of `ip:port`; every connection has a port of its own, so no value comes twice."""
    halves = texts.str.splitn(":", 2).struct.unnest()
    ips, ports = halves["field_0"], halves["field_1"]
    # IPv6 has more colons, and brackets around it; a path or a URL has slashes.
    if not ports.str.contains("[:/]").any():
        return ips
    text = pl.col("text")
    bare = text.str.strip_chars_end("0123456789").str.strip_suffix(":").str.strip_chars("[]")
    return (
        pl.DataFrame({"text": texts, "ip": ips, "port": ports})
        .select(
            pl.when(text.str.contains("://", literal=True))
            .then(None)
            .when(pl.col("port").str.contains("[:/]"))
            .then(bare)
            .otherwise("ip")
        )
        .to_series()
    )


def _is_egress_proxy() -> pl.Expr:
    """Whether allow_any went to outboundTrafficPolicy.egressProxy, whatever host was asked for."""
    through = pl.col("route_name").str.starts_with("allow_any") & (pl.col("kind") == "outbound")
    return through.fill_null(value=False)


def _is_egress_gateway(frame: pl.DataFrame, rules: Rules) -> pl.Expr:
    hosts = frame["cluster_host"].unique().drop_nulls()
    gateways = [host for host in hosts if any(re.search(pattern, host) for pattern in rules.egress_gateways)]
    return pl.col("cluster_host").is_in(gateways) if gateways else pl.lit(value=False)
