"""Traffic with its truth: columns of facts first, then lines rendered from them.

The truth of a record is what was drawn, never what a parser read. A message's number is its Kafka key, so
that its offset is found by reading the topic back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]

# Kinds of messages and their shares.
JSON, TEXT, FLUENT_BIT, FILEBEAT, ARRAY, INBOUND, PART, REST, LOST_PART, CRI_PART, CRI_REST = range(11)
BROKEN, NONSENSE, BAD_VALUE, EMPTY, TORN_ARRAY = range(11, 16)
SHARES: Final = {
    JSON: 0.42, TEXT: 0.20, FLUENT_BIT: 0.12, FILEBEAT: 0.12, ARRAY: 0.03, INBOUND: 0.05, PART: 0.008,
    LOST_PART: 0.0002, CRI_PART: 0.004, BROKEN: 0.004, NONSENSE: 0.004, BAD_VALUE: 0.004, EMPTY: 0.002,
    TORN_ARRAY: 0.004,
}  # fmt: skip
REASONS: Final = {
    BROKEN: "invalid_json",
    NONSENSE: "unknown_format",
    BAD_VALUE: "bad_value",
    EMPTY: "empty",
}
# Named by a shipper's envelope; in the others only the address tells the source.
ENVELOPED: Final = (FLUENT_BIT, FILEBEAT, PART, REST, LOST_PART)
SEVERAL: Final = (ARRAY, TORN_ARRAY)
PER_ARRAY: Final = 3
# Parts of a split line stand at most this many messages of their partition apart.
APART: Final = 40
# A part whose rest has not come within this many offsets is given up (parse.partials.SPAN).
SPAN: Final = 5_000
# Destinations per window, workload and partition that the workers are told to admit.
CAP: Final = 20

WORKLOADS: Final = 30
HOSTS: Final = 60
SCANNED: Final = 60
SPAN_MS: Final = 2 * 3_600_000
DAY_MS: Final = 86_400_000
EVENTS_TTL_DAYS: Final = 30
WINDOWS_TTL_DAYS: Final = 90
BOUNDS_MS: Final = (
    0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000,
    1_800_000, 3_600_000,
)  # fmt: skip


@dataclass(frozen=True)
class Traffic:
    """`count` messages over `partitions` partitions, made from a seed. `now` is the time it was made, in ms.

    kinds: of each message. records: one row per record that a message holds, whatever becomes of it.
    """

    seed: int
    count: int
    partitions: int
    now: int
    kinds: npt.NDArray[np.int8]
    records: pl.DataFrame
    first: Ints
    """Message -> its first record."""
    rest: Ints
    """Message that begins a split line -> the one that ends it; -1 for others."""

    def render(self, start: int, stop: int) -> Iterator[tuple[int, bytes | None]]:
        """Number and bytes of messages, in order."""
        first, last = int(self.first[start]), int(self.first[stop])
        rows = self.records.slice(first, last - first).to_dicts()
        for number in range(start, stop):
            at = int(self.first[number]) - first
            kind, mine = int(self.kinds[number]), rows[at : int(self.first[number + 1]) - first]
            if self.rest[number] >= 0:
                rest = int(self.rest[number])
                yield number, _part(kind, self.records.row(int(self.first[rest]), named=True))
            elif kind in (REST, CRI_REST):
                yield number, _rest(kind, mine[0])
            else:
                yield number, _message(kind, number, mine)


def make(seed: int, count: int, partitions: int, now: int | None = None) -> Traffic:
    """Draw traffic; the same arguments give the same."""
    now = now or int(time.time() * 1000)
    chance = np.random.default_rng(seed)
    kinds, rest = _kinds(chance, count, partitions)
    sizes = np.where(np.isin(kinds, SEVERAL), PER_ARRAY, 1)
    first = np.concatenate([[0], np.cumsum(sizes)])
    records = _records(chance, kinds, sizes, now, partitions)
    return Traffic(seed, count, partitions, now, kinds, records, first, rest)


def _kinds(chance: np.random.Generator, count: int, partitions: int) -> tuple[npt.NDArray[np.int8], Ints]:
    kinds = chance.choice(np.array(list(SHARES), np.int8), count, p=_normal(list(SHARES.values())))
    rests = np.full(count, -1)
    for number in np.flatnonzero(np.isin(kinds, (PART, CRI_PART))).tolist():
        if kinds[number] not in (PART, CRI_PART):
            continue  # it has become the rest of another line
        apart = 1 if kinds[number] == CRI_PART else int(chance.integers(1, APART))
        rest = number + apart * partitions
        if rest >= count or kinds[rest] not in (JSON, TEXT):
            kinds[number] = JSON
        else:
            kinds[rest] = REST if kinds[number] == PART else CRI_REST
            rests[number] = rest
    return kinds, rests


def _normal(shares: list[float]) -> Ints:
    return np.array(shares) / sum(shares)


def _records(
    chance: np.random.Generator, kinds: npt.NDArray[np.int8], sizes: Ints, now: int, partitions: int
) -> pl.DataFrame:
    message = np.repeat(np.arange(len(kinds)), sizes)
    kind = np.repeat(kinds, sizes)
    total = len(message)
    workload = chance.integers(1, WORKLOADS, total)
    scans = (kind == JSON) & (chance.random(total) < 0.03)
    workload[scans] = 0
    host = (workload * 7 + chance.integers(0, 5, total)) % HOSTS
    host[scans] = HOSTS + chance.integers(0, SCANNED, int(scans.sum()))
    duration = np.round(chance.lognormal(3.5, 1.5, total)).astype(np.int64)
    frame = pl.DataFrame(
        {
            "message": message,
            "seq": np.arange(total) - np.repeat(np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes),
            "kind": kind,
            "workload": workload,
            "host": host,
            "ended": _times(chance, message, len(kinds), now),
            "duration": duration,
            "code": np.where(chance.random(total) < 0.08, 503, 200),
            "bytes_sent": chance.integers(0, 100_000, total),
            "bytes_received": chance.integers(0, 5_000, total),
            "id": chance.integers(0, 2**62, total),
        }
    )
    # Like the file tailer's that reads a file again: the same line twice is two records.
    again = np.isin(kind, (JSON, TEXT, FLUENT_BIT)) & (chance.random(total) < 0.02)
    at = np.flatnonzero(again)
    before = np.searchsorted(message, message[at] - partitions)
    usable = (message[at] >= partitions) & np.isin(kind[before], (JSON, TEXT, FLUENT_BIT))
    usable &= (kind[before] == kind[at]) & ~again[before]
    rows = np.arange(total)
    rows[at[usable]] = before[usable]
    copied = frame[rows].with_columns(frame["message"], frame["seq"])
    return _described(copied)


def _times(chance: np.random.Generator, message: Ints, count: int, now: int) -> Ints:
    """When each request ended: in order, roughly; some late, and a few far outside of what is kept."""
    total = len(message)
    ended = now - SPAN_MS + message * SPAN_MS // count
    ended += np.clip(chance.normal(0, 20_000, total), -120_000, 120_000).astype(np.int64)
    late = chance.random(total)
    ended -= np.where(late < 0.01, chance.integers(600_000, 36 * 3_600_000, total), 0)
    odd = chance.random(total)
    ended -= np.where(odd < 0.0003, (EVENTS_TTL_DAYS + 10) * DAY_MS, 0)
    ended -= np.where((odd > 0.0003) & (odd < 0.0005), (WINDOWS_TTL_DAYS + 10) * DAY_MS, 0)
    ended += np.where((odd > 0.0005) & (odd < 0.0007), 3 * DAY_MS, 0)
    return ended


def _described(frame: pl.DataFrame) -> pl.DataFrame:
    """Add what follows from the drawn facts: names, addresses, label and what becomes of each record."""
    host, workload, kind = pl.col("host"), pl.col("workload"), pl.col("kind")
    tcp = (host % 10 == 8) & (host < HOSTS)
    label = (
        pl.when((host >= HOSTS) | (host % 10 < 7))
        .then(pl.lit("outbound"))
        .when(host % 10 == 9)
        .then(pl.lit("blackhole"))
        .otherwise(pl.lit("passthrough"))
    )
    enveloped = kind.is_in(ENVELOPED)
    named = pl.concat_str(
        pl.when(host < HOSTS).then(pl.lit("api-")).otherwise(pl.lit("scan-")), host, pl.lit(".example.com")
    )
    blocked = host % 10 == 9
    code = pl.when(tcp).then(0).when(blocked & (host < HOSTS)).then(502).otherwise("code")
    return frame.with_columns(
        label.alias("label"),
        named.alias("name"),
        tcp.alias("tcp"),
        pl.when(host % 2 == 0).then(443).otherwise(80).alias("port"),
        pl.concat_str(pl.lit("203.0.113."), host).alias("address"),
        code.alias("response_code"),
        # This one's clients ask for another host than the cluster is named after.
        ((label == "outbound") & (host % 10 == 6) & (host < HOSTS)).alias("mismatch"),
        pl.when(enveloped).then(pl.concat_str(pl.lit("team-"), workload % 5)).alias("source_namespace"),
        pl.when(enveloped).then(pl.concat_str(pl.lit("app-"), workload)).alias("source_workload"),
        pl.when(~enveloped).then(pl.concat_str(pl.lit("10.1.0."), workload)).alias("source_ip"),
        pl.when(~tcp).then(pl.lit("HTTP/1.1")).alias("protocol"),
    )


# --- rendering ----------------------------------------------------------------------------------------------

BAD_SEQ: Final = 1
_CUT: Final = 200
_CRI_STAMP: Final = "2026-01-02T03:04:05.123456789Z stdout"


def _message(kind: int, number: int, rows: list[dict[str, object]]) -> bytes | None:
    row = rows[0]
    if kind in SEVERAL:
        bad = BAD_SEQ if kind == TORN_ARRAY else None
        return f"[{','.join(_json(one, bad=one['seq'] == bad) for one in rows)}]".encode()
    if kind == FLUENT_BIT:
        return _fluent_bit(_json(row), row, _pod(row), "F")
    if kind == FILEBEAT:
        return _filebeat(_text(row), row)
    if kind == LOST_PART:
        return _fluent_bit(_json(row)[:_CUT], row, _pod(row, number), "P")
    if kind in REASONS:
        return _unreadable(kind, number, row)
    return (_text(row) if kind == TEXT else _json(row, inbound=kind == INBOUND)).encode()


def _unreadable(kind: int, number: int, row: dict[str, object]) -> bytes | None:
    if kind == BAD_VALUE:
        return _json(row, bad=True).encode()
    if kind == EMPTY:
        return (None, b"", b"   ")[number % 3]
    if kind == BROKEN:
        return b'{"start_time": "2026-01-02T03:04:05.678Z", "n": %d, "oops' % number
    return b"what is message %d doing here" % number


def _stamp(row: dict[str, object]) -> str:
    started = int(row["ended"]) - int(row["duration"])  # type: ignore[call-overload]
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(started // 1000)) + f".{started % 1000:03d}Z"


def _cluster(row: dict[str, object]) -> str:
    if row["label"] == "outbound":
        return f"outbound|{row['port']}||{row['name']}"
    return "PassthroughCluster" if row["label"] == "passthrough" else "BlackHoleCluster"


def _asked(row: dict[str, object]) -> str:
    return f"other-{row['host']}.example.com" if row["mismatch"] else str(row["name"])


def _json(row: dict[str, object], *, inbound: bool = False, bad: object = False) -> str:
    tcp, blocked = row["tcp"] and not inbound, row["label"] == "blackhole" and not inbound
    there = f"{row['address']}:{row['port']}"
    return json.dumps(
        {
            "start_time": _stamp(row),
            "route_name": None if tcp else "block_all" if blocked else "default",
            "method": None if tcp else "GET",
            "path": None if tcp else f"/item/{row['id']}",
            "protocol": row["protocol"],
            "response_code": "many" if bad else row["response_code"],
            "response_flags": "-",
            "response_code_details": None if tcp else "direct_response" if blocked else "via_upstream",
            "connection_termination_details": None,
            "upstream_transport_failure_reason": None,
            "bytes_received": row["bytes_received"],
            "bytes_sent": row["bytes_sent"],
            "duration": row["duration"],
            "upstream_service_time": None if tcp or blocked else "12",
            "x_forwarded_for": None,
            "user_agent": None if tcp else "curl/8.5.0",
            "request_id": f"{row['id']:032x}",
            "authority": None if tcp else _asked(row),
            "upstream_host": None if blocked else there,
            "upstream_cluster": "inbound|8080||" if inbound else _cluster(row),
            "upstream_local_address": None if blocked else "10.9.0.9:50000",
            "downstream_local_address": there,
            "downstream_remote_address": f"10.1.0.{row['workload']}:40000",
            "requested_server_name": row["name"] if tcp else None,
        }
    )


def _text(row: dict[str, object]) -> str:
    tcp, blocked = row["tcp"], row["label"] == "blackhole"
    there = f"{row['address']}:{row['port']}"
    request = "- - -" if tcp else f"GET /item/{row['id']} HTTP/1.1"
    details = "-" if tcp else "direct_response" if blocked else "via_upstream"
    served = "-" if tcp or blocked else "12"
    agent, asked = ("-", "-") if tcp else ("curl/8.5.0", _asked(row))
    upstream, local = ("-", "-") if blocked else (there, "10.9.0.9:50000")
    sni, route = (row["name"], "-") if tcp else ("-", "block_all" if blocked else "default")
    return (
        f'[{_stamp(row)}] "{request}" {row["response_code"]} - {details} - "-" {row["bytes_received"]} '
        f'{row["bytes_sent"]} {row["duration"]} {served} "-" "{agent}" "{row["id"]:032x}" "{asked}" '
        f'"{upstream}" {_cluster(row)} {local} {there} 10.1.0.{row["workload"]}:40000 {sni} {route}'
    )


def _pod(row: dict[str, object], number: int | None = None) -> str:
    """A pod of the workload; of a number a pod of its own."""
    random = "x2x7k" if number is None else np.base_repr(number, 36).lower().rjust(5, "0")
    return f"app-{row['workload']}-7d9c6b5f4d-{random}"


def _part(kind: int, row: dict[str, object]) -> bytes:
    """The first part of the line that a container runtime split in two."""
    if kind == CRI_PART:
        return f"{_CRI_STAMP} P {_text(row)[:_CUT]}".encode()
    return _fluent_bit(_json(row)[:_CUT], row, _pod(row, int(row["message"])), "P")  # type: ignore[call-overload]


def _rest(kind: int, row: dict[str, object]) -> bytes:
    """The other part."""
    if kind == CRI_REST:
        return f"{_CRI_STAMP} F {_text(row)[_CUT:]}".encode()
    return _fluent_bit(_json(row)[_CUT:], row, _pod(row, int(row["message"])), "F")  # type: ignore[call-overload]


def _fluent_bit(line: str, row: dict[str, object], pod: str, tag: str) -> bytes:
    kubernetes = {
        "namespace_name": row["source_namespace"],
        "pod_name": pod,
        "container_name": "istio-proxy",
    }
    return json.dumps({"log": line, "stream": "stdout", "logtag": tag, "kubernetes": kubernetes}).encode()


def _filebeat(line: str, row: dict[str, object]) -> bytes:
    kubernetes = {
        "namespace": row["source_namespace"],
        "pod": {"name": _pod(row)},
        "container": {"name": "istio-proxy"},
    }
    return json.dumps(
        {"@timestamp": "2026-01-02T03:04:05.678Z", "message": line, "kubernetes": kubernetes}
    ).encode()
