"""ztunnel's access log (Istio ambient): one line per connection, key=value text or JSON.

    2024-08-21T15:32:05.754291Z info access connection complete src.addr=10.42.0.9:33772
    src.workload="sleep-7656cf8794-6lsm4" src.namespace="default" src.identity="spiffe://…/ns/default/sa/sleep"
    dst.addr=10.42.0.5:15008 dst.hbone_addr=10.42.0.5:9080 dst.service="details.default.svc.cluster.local"
    … direction="outbound" bytes_sent=84 bytes_recv=358 duration="15ms" error="…"

What becomes of its fields:

- `direction` stays as it is (`inbound`, `outbound`): ztunnel has no clusters, so it labels the record.
- `authority` is `dst.service`, the service or ServiceEntry asked for; null where nobody knows the
  destination, which ztunnel lets pass.
- `downstream_local_address` is the destination the client wanted: `dst.hbone_addr` (inside the tunnel), else
  `dst.addr`. `upstream_host` is `dst.addr`, `downstream_remote_address` is `src.addr`.
- `source_pod` is `src.workload` (ztunnel prints the pod's name there) and `source_namespace` is
  `src.namespace`, else that of `src.identity`: the shipper's metadata name ztunnel's own pod. Region and zone
  remain the shipper's on outbound lines, because ztunnel is on the source's node.
- `start_time` is the line's time less the duration: ztunnel writes at the end of a connection.
- `bytes_received` is what the source sent, as for a sidecar; on its outbound side ztunnel calls that
  `bytes_sent`, on its inbound side `bytes_recv`.
- `upstream_transport_failure_reason` is `error`. There is no protocol, code or response flag.

The line of an opened connection (debug level) is ztunnel's own log, like everything else it writes: the
connection is counted when it is complete.

Sources: istio/ztunnel src/proxy/metrics.rs and src/telemetry.rs; istio.io "Verify mutual TLS".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import polars as pl

from egresslens.outcome import Filtered, Reject
from egresslens.parse import ndjson, source
from egresslens.parse.stage import Stage, filtered, rejected
from egresslens.parse.values import times, typed
from egresslens.rules import Rules

_K: Final = ndjson.KEY
KEYS: Final = ndjson.texts(
    (
        "time",
        "message",
        "src.addr",
        "src.workload",
        "src.namespace",
        "src.identity",
        "src.cluster",
        "dst.addr",
        "dst.hbone_addr",
        "dst.service",
        "direction",
        "bytes_sent",
        "bytes_recv",
        "duration",
        "error",
    )
)
# What tells these objects from all others.
MARK: Final = '"src.addr":'

# `TIME LEVEL access MESSAGE key=value …`, perhaps behind a prefix, which names ztunnel's own pod.
_LINE: Final = (
    r'(?s)^(?:[^"\[\]{}]{1,256}?\s)?(\d{4}-\d\d-\d\dT\S+)\s+(?i:trace|debug|info|warn|error)\s+'
    r"access:?\s+(connection \w+)((?:\s+[a-z_.]+=.*)?)$"
)
# A value is quoted as Rust quotes strings, or has no spaces.
_PAIR: Final = r'(?s)\s+([a-z_.]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]\S*))'
# Escapes that Rust knows and JSON does not.
_RUST_ESCAPE: Final = r"\\u\{[0-9a-fA-F]{1,6}\}|\\0"


def step(lines: pl.DataFrame, rules: Rules) -> tuple[pl.DataFrame, Stage]:
    """Read ztunnel's text lines: (the other lines, unchanged; what became of ztunnel's)."""
    parts = lines["text"].str.extract_groups(_LINE).struct.unnest()
    mine = parts["1"].is_not_null() if parts.width else pl.Series([], dtype=pl.Boolean)
    if not mine.any():
        return lines, Stage()
    parts = parts.filter(mine)
    # Written as the JSON that ztunnel itself would write, so that both are read in one way.
    pairs = parts["3"].str.replace_all(r"\\'", "'").str.replace_all(_RUST_ESCAPE, "\ufffd")
    pairs = pairs.str.replace_all(_PAIR, ',"$1":"$2$3"')
    text = pl.concat_str(
        pl.lit('{"time":"'), parts["1"], pl.lit('","message":"'), parts["2"], pl.lit('"'), pairs, pl.lit("}")
    )
    objects = lines.filter(mine).with_columns(text.alias("text"))
    return lines.filter(~mine), step_json(objects, rules, "ztunnel_text")


def step_json(lines: pl.DataFrame, rules: Rules, name: str = "ztunnel_json") -> Stage:
    """Read ztunnel's JSON lines (LINES); `name` becomes the records' format."""
    rows, bad = ndjson.read(lines, KEYS)
    stage = rejected(bad, Reject.UNKNOWN_FORMAT if name == "ztunnel_text" else Reject.INVALID_JSON)
    complete = rows.select(
        (pl.col(f"{_K}message") == "connection complete").fill_null(value=False)
    ).to_series()
    stage += filtered(rows.filter(~complete), Filtered.PROXY_LOG)
    return stage + typed(_fields(rows.filter(complete), name), rules)


def _fields(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """Name the values by field, as `values.typed` takes them."""
    out = pl.col(f"{_K}direction") == "outbound"
    sent, received = pl.col(f"{_K}bytes_sent"), pl.col(f"{_K}bytes_recv")
    names = (pl.col(f"{_K}{key}").fill_null("") for key in ("src.workload", "src.namespace", "src.identity"))
    sender = source.resolve(rows.select(pl.concat_str(names, separator="\n")).to_series(), _sender)
    return rows.select(
        "message",
        "seq",
        "envelope_time",
        *(
            pl.lit(sender[column]).alias(column)
            for column in ("source_namespace", "source_workload", "source_pod")
        ),
        pl.coalesce(f"{_K}src.cluster", "source_cluster").alias("source_cluster"),
        *(pl.when(out).then(column).alias(column) for column in ("source_region", "source_zone")),
        pl.lit(None, pl.String).alias("source_role"),
        pl.lit(None, pl.String).alias("source_pod_ip"),
        pl.col(f"{_K}direction").alias("direction"),
        _began(rows).alias("start_time"),
        pl.col(f"{_K}duration").alias("duration"),
        pl.when(out).then(sent).otherwise(received).alias("bytes_received"),
        pl.when(out).then(received).otherwise(sent).alias("bytes_sent"),
        pl.col(f"{_K}dst.service").alias("authority"),
        pl.coalesce(f"{_K}dst.hbone_addr", f"{_K}dst.addr").alias("downstream_local_address"),
        pl.col(f"{_K}dst.addr").alias("upstream_host"),
        pl.col(f"{_K}src.addr").alias("downstream_remote_address"),
        pl.col(f"{_K}error").alias("upstream_transport_failure_reason"),
        pl.lit(name).alias("format"),
        pl.lit(None, pl.String).alias("damage"),
    )


def _began(rows: pl.DataFrame) -> pl.Series:
    """When the connection began, as text; a time or duration that cannot be read stays as it is."""
    ended = times(rows[f"{_K}time"])
    lasted = pl.col(f"{_K}duration").str.strip_suffix("ms").cast(pl.Int64, strict=False)
    began = (ended - rows.select(pl.duration(milliseconds=lasted)).to_series()).dt.strftime(
        "%Y-%m-%dT%H:%M:%S%.3fZ"
    )
    return rows.select(pl.coalesce(pl.lit(began), f"{_K}time")).to_series()


@lru_cache(source.CACHED_TEXTS)
def _sender(text: str) -> source.Source:
    pod, namespace, identity = text.split("\n")
    known = source.from_pod(source.name(pod), source.name(namespace), {})
    return known.over(source.from_spiffe(identity))
