"""From operators' texts to the record's fields.

The source is whoever made the call. On a sidecar's outbound record that is the proxy's own workload: what
ENVIRONMENT, HOSTNAME, CEL's node metadata and the local certificate say of it. Where a record names the peer
that connected (peer metadata or its certificate; at gateways, waypoints and on inbound records), that peer is
the source instead, and nothing of the proxy's own identity, or of the envelope's, which names the same proxy,
is mixed into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import polars as pl

from egresslens.parse import source
from egresslens.parse.template.grammar import Operator
from egresslens.parse.template.operators import Meaning
from egresslens.parse.template.strftime import Time, epoch, rfc3339
from egresslens.parse.values import TEXT_FIELDS, present

# Short names of %RESPONSE_FLAGS_LONG%'s (Envoy's stream_info/utility.h).
SHORT_FLAGS: Final[dict[str, str]] = {
    "NoHealthyUpstream": "UH", "UpstreamConnectionFailure": "UF", "UpstreamOverflow": "UO",
    "NoRouteFound": "NR", "UpstreamRetryLimitExceeded": "URX", "NoClusterFound": "NC",
    "DurationTimeout": "DT", "DownstreamConnectionTermination": "DC", "FailedLocalHealthCheck": "LH",
    "UpstreamRequestTimeout": "UT", "LocalReset": "LR", "UpstreamRemoteReset": "UR",
    "UpstreamConnectionTermination": "UC", "DelayInjected": "DI", "FaultInjected": "FI", "RateLimited": "RL",
    "UnauthorizedExternalService": "UAEX", "RateLimitServiceError": "RLSE",
    "InvalidEnvoyRequestHeaders": "IH", "StreamIdleTimeout": "SI", "DownstreamProtocolError": "DPE",
    "UpstreamProtocolError": "UPE", "UpstreamMaxStreamDurationReached": "UMSDR",
    "ResponseFromCacheFilter": "RFCF", "NoFilterConfigFound": "NFCF", "OverloadManagerTerminated": "OM",
    "DnsResolutionFailed": "DF", "DropOverload": "DO", "UnconditionalDropOverload": "UDO",
    "DownstreamRemoteReset": "DR",
}  # fmt: skip

_SOURCE: Final = ("cluster", "namespace", "workload", "pod", "region", "zone")
# What a pod's name, a node id and a certificate tell.
_TOLD: Final = {
    "pod": ("pod", "workload"),
    "node": ("pod", "workload", "namespace"),
    "spiffe": ("namespace",),
}
_ADDRESSES: Final = ("upstream_host", "downstream_local_address", "downstream_remote_address")
# Target -> units per millisecond.
_DURATIONS: Final = {"duration": 1, "duration:ms": 1, "duration:us": 1_000, "duration:ns": 1_000_000}
_ABSENT: Final = pl.lit(None, pl.String)
_SPIFFE: Final = r"spiffe://[^/,;]+/ns/([^/,;]+)/sa/"

# Fields that no label, host, count or time comes from.
INDIFFERENT: Final = frozenset(
    {"path", "user_agent", "request_id", "x_forwarded_for", "response_code_details",
     "connection_termination_details", "upstream_transport_failure_reason", "upstream_service_time"}
)  # fmt: skip


class Read(NamedTuple):
    """An operator that was read into a column."""

    column: str
    operator: Operator
    meaning: Meaning


Targets = dict[str, list[Read]]


def _targets(reads: Sequence[Read]) -> Targets:
    """The operators of each target, the preferred first."""
    targets: Targets = {}
    for read in sorted(reads, key=lambda read: read.meaning.rank):
        if read.meaning.target:
            targets.setdefault(read.meaning.target, []).append(read)
    return targets


def expressions(reads: Sequence[Read]) -> dict[str, pl.Expr]:
    """TEXT_FIELDS, as text, over the columns of `reads`."""
    targets = _targets(reads)
    found = {name: _first(targets, name) for name in TEXT_FIELDS if name in targets}
    found |= {name: _address(targets, name) for name in _ADDRESSES if targets.keys() & _spellings(name)}
    if targets.keys() & {"start_time", "emit_time"}:
        found["start_time"] = _start_time(targets)
    if targets.keys() & _DURATIONS.keys():
        found["duration"] = _duration(targets)
    if "response_flags_long" in targets:
        found["response_flags"] = _flags(targets)
    if "upstream_host_name" in targets and "authority" not in targets:
        found["authority"] = _host_name(targets)
    return found


def _first(targets: Targets, target: str) -> pl.Expr:
    """The first text of a target that is present, or null."""
    columns = [pl.col(read.column) for read in targets.get(target, ())]
    if len(columns) == 1:
        return columns[0]
    return pl.coalesce([present(read.column) for read in targets[target]]) if columns else _ABSENT


def _start_time(targets: Targets) -> pl.Expr:
    starts = [Time.of(read.operator).iso(pl.col(read.column)) for read in targets.get("start_time", ())]
    if starts:
        return pl.coalesce(starts)
    # A record is emitted when its request has ended.
    read = targets["emit_time"][0]
    emitted = Time.of(read.operator).iso(pl.col(read.column))
    took = _duration(targets).cast(pl.Int64, strict=False).fill_null(0)
    return pl.coalesce(rfc3339(epoch(emitted) - pl.duration(milliseconds=took)), emitted)


def _duration(targets: Targets) -> pl.Expr:
    """Milliseconds: %DURATION%'s, else those of a %COMMON_DURATION% of the whole request."""
    values = [
        pl.col(read.column)
        if per_ms == 1
        else (pl.col(read.column).cast(pl.Int64, strict=False) // per_ms).cast(pl.String)
        for target, per_ms in _DURATIONS.items()
        for read in targets.get(target, ())
    ]
    return pl.coalesce(values) if values else _ABSENT


def _flags(targets: Targets) -> pl.Expr:
    """Short names; a long name that Envoy has added since stays as it is."""
    texts = [pl.col(read.column) for read in targets.get("response_flags", ())]
    for read in targets["response_flags_long"]:
        names = pl.col(read.column).str.split(",")
        texts.append(names.list.eval(pl.element().replace(SHORT_FLAGS)).list.join(","))
    return pl.coalesce(texts)


def _host_name(targets: Targets) -> pl.Expr:
    """The upstream host's name: what was asked for, where a format has no better word for it.

    Envoy prints the address where the host has no name.
    """
    name = _first(targets, "upstream_host_name")
    return pl.when(~name.str.contains(r"^[0-9.]+(:[0-9]+)?$|^\[|/|:.*:")).then(name)


def _spellings(address: str) -> frozenset[str]:
    return frozenset({address, f"{address}:ip", f"{address}:port"})


def _address(targets: Targets, name: str) -> pl.Expr:
    """`ip:port`, put together where a format has them apart; an IPv6 address gets its brackets."""
    whole = _first(targets, name)
    if f"{name}:ip" not in targets:
        return whole
    ip, port = _first(targets, f"{name}:ip"), _first(targets, f"{name}:port")
    # Addresses without a port (Unix sockets, internal listeners) hold slashes.
    bracketed = (
        pl.when(ip.str.contains(r"^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$")).then("[" + ip + "]").otherwise(ip)
    )
    together = pl.when(port.cast(pl.UInt16, strict=False).is_not_null()).then(bracketed + ":" + port)
    parts = together.otherwise(bracketed)
    return pl.coalesce(pl.when(~whole.is_in(["-", ""])).then(whole), parts) if name in targets else parts


def sources(reads: Sequence[Read]) -> frozenset[str]:
    """The source_* columns that `reads` can fill."""
    found: set[str] = set()
    for read in reads:
        whose, _, name = (read.meaning.target or "").partition(":")
        if whose in ("local", "peer"):
            found |= {f"source_{one}" for one in _TOLD.get(name, (name,))}
    return frozenset(found)


def identified(rows: pl.DataFrame, reads: Sequence[Read]) -> pl.DataFrame:
    """Fill the source_* columns from what the operators tell, over what an envelope told."""
    targets = _targets(reads)
    given = {target.split(":")[0] for target in targets if target.startswith(("local:", "peer:"))}
    if "local" in given:
        own = {name: pl.coalesce(_identity(targets, "local", name), f"source_{name}") for name in _SOURCE}
        rows = rows.with_columns(value.alias(f"source_{name}") for name, value in own.items())
        if "local:node" in targets:
            rows = _filled(rows, rows.select(_first(targets, "local:node")).to_series(), source.from_node_id)
        rows = _filled(rows, rows["source_pod"], lambda pod: source.from_pod(pod, None, {}))
        rows = _filled(rows, rows["source_workload"], lambda name: source.from_flat({"workload": name}))
    if "peer" in given:
        peer = {name: _identity(targets, "peer", name) for name in _SOURCE}
        met = pl.any_horizontal(value.is_not_null() for value in peer.values())
        rows = rows.with_columns(
            pl.when(met).then(value).otherwise(f"source_{name}").alias(f"source_{name}")
            for name, value in peer.items()
        )
    return rows


def _filled(rows: pl.DataFrame, texts: pl.Series, read: source.Read) -> pl.DataFrame:
    """Fill what is not known yet from what a text tells."""
    facts = source.resolve(texts, read)
    names = [name for name in source.COLUMNS if name in rows.columns]
    return rows.with_columns(pl.coalesce(name, facts[name]).alias(name) for name in names)


def _identity(targets: Targets, whose: str, name: str) -> pl.Expr:
    """One part of an identity. Certificates give the namespace alone (`source.from_spiffe` says why)."""
    values = [present(read.column) for read in targets.get(f"{whose}:{name}", ())]
    if name == "namespace":
        values += [pl.col(read.column).str.extract(_SPIFFE) for read in targets.get(f"{whose}:spiffe", ())]
    return pl.coalesce(values) if values else _ABSENT
