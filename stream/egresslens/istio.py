"""Egress traffic as Istio's standard metrics, from what each flush added to the windows.

Names and labels are those of https://istio.io/latest/docs/reference/config/metrics/ behind the prefix
`egresslens_`: where Prometheus also scrapes the mesh, a dashboard over `istio_requests_total` must not see
the same request twice. Whoever wants Istio's own names, on a Prometheus or a job of its own, takes the prefix
off by relabelling (docs/reference/metrics.md).

Counters begin at 0 with each process and count a record when it is stored, once: records that are read again
after a crash or a rebalance and are in their window already are not counted again. What was stored and not
yet counted when a process died (at most one flush) is missing.

The number of label sets is bounded: when there is room for no more, a new one takes the place of one that has
not changed for an hour, or else is counted with `other` in all labels that have many values.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from egresslens.record import DURATION_BOUNDS_MS, OTHER, WINDOW_KEY
from egresslens.windows import KEY, Advance, aggregate

PREFIX: Final = "egresslens_istio_"
TCP_LABELS: Final = (
    "reporter", "source_workload", "source_workload_namespace", "source_cluster", "destination_service",
    "destination_service_name", "destination_service_namespace", "destination_port", "request_protocol",
    "response_flags", "egress_label",
)  # fmt: skip
HTTP_LABELS: Final = (*TCP_LABELS, "response_code")
# Name -> type and meaning. Histograms of sizes, as Istio has them, would need more than the windows keep.
FAMILIES: Final = {
    "requests_total": ("counter", "HTTP requests"),
    "request_duration_milliseconds": ("histogram", "Duration of HTTP requests"),
    "request_bytes": ("summary", "HTTP request bodies: what the workloads sent out"),
    "response_bytes": ("summary", "HTTP response bodies: what the workloads got"),
    "tcp_received_bytes_total": ("counter", "Bytes of TCP connections that the workloads sent out"),
    "tcp_sent_bytes_total": ("counter", "Bytes of TCP connections that the workloads got"),
    "tcp_connections_closed_total": ("counter", "TCP connections that ended"),
}
# A label set that has not changed for so long may have to give way to a new one.
IDLE_S: Final = 3600.0

# What a label set is made of, in the windows' own terms.
_KEY: Final[dict[str, pl.DataType]] = {
    **{
        name: WINDOW_KEY[name]
        for name in (
            "source_cluster",
            "source_namespace",
            "source_workload",
            "label",
            "destination_host",
            "destination_port",
            "hop",
            "response_code",
        )
    },
    "http": pl.Boolean(),
    "flags": pl.String(),
}
_SUMS: Final = ("requests", "bytes_sent", "bytes_received", "duration_ms_sum")
_BOUNDS: Final = (*(f"{bound:.10g}" for bound in DURATION_BOUNDS_MS), "+Inf")
_BUCKETS: Final = len(_BOUNDS)
_UNKNOWN: Final = "unknown"
_FOLDED: Final = "other"
# Names as DNS, Kubernetes and Envoy know them; what is in a host header may be anything.
# Without quotes and backslashes nothing needs to be escaped.
_VALUE: Final = re.compile(r"[!#-\[\]-~]{1,253}")
_KUBERNETES: Final = re.compile(r"([^.]+)\.([^.]+)\.svc(\..+)?")

Ints = npt.NDArray[np.int64]


def increments(advance: Advance) -> pl.DataFrame:
    """What an advance of the windows adds: _KEY columns, _SUMS and `duration_buckets`; keys may repeat.

    Windows do not tell response flags apart. Few records have any, so these are summed by themselves, and
    taken off what has none by rows that are negative.
    """
    flagged = advance.records.filter(pl.col("response_flags").list.len() > 0)
    if flagged.is_empty():
        return _part(advance.sums)
    flags = pl.col("response_flags").list.join(",").alias("flags")
    sums = aggregate(flagged.with_columns(flags), (*KEY, "flags"))
    buckets = pl.Series(
        "duration_buckets", -sums["duration_buckets"].to_numpy(), sums["duration_buckets"].dtype
    )
    negative = sums.drop("flags").with_columns(*(-pl.col(name) for name in _SUMS), buckets)
    return pl.concat([_part(advance.sums), _part(negative), _part(sums)])


def _part(sums: pl.DataFrame) -> pl.DataFrame:
    if "flags" not in sums.columns:
        sums = sums.with_columns(pl.lit(None, pl.String).alias("flags"))
    http = pl.col("protocol").str.starts_with("HTTP").fill_null(value=False).alias("http")
    return sums.with_columns(http).select(*_KEY, *_SUMS, "duration_buckets")


class IstioMetrics:
    """The counters of up to `limit` label sets, and of what is beyond."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = pl.DataFrame(schema={**_KEY, "series": pl.UInt32()})
        self._labels: list[str] = []
        self._http: list[bool] = []
        self._sums: Ints = np.zeros((0, len(_SUMS)), np.int64)
        self._buckets: Ints = np.zeros((0, _BUCKETS), np.int64)
        self._touched: npt.NDArray[np.float64] = np.zeros(0)
        """When each changed last; of what is beyond the limit: never idle."""
        self._beyond = pl.DataFrame(
            schema={"hop": _KEY["hop"], "label": _KEY["label"], "http": _KEY["http"], "series": pl.UInt32}
        )
        # Prometheus is answered from another thread.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of label sets, without those of what is beyond the limit."""
        return self._held.height

    def add(self, rows: pl.DataFrame, moment: float) -> None:
        """Count what a flush added.

        Args:
            rows: of `increments`.
            moment: seconds on a clock that never goes back.
        """
        if rows.is_empty():
            return
        with self._lock:
            found = self._find(rows)
            new = found["series"].is_null()
            if new.any() and self._admit(found.filter(new), moment):
                found = self._find(rows)
                new = found["series"].is_null()
            if new.any():
                self._count(self._find_beyond(found.filter(new)), moment)
                found = found.filter(~new)
            self._count(found, moment)

    def _find(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Add `series`, the number of each key's counters; null where the key is not held."""
        return rows.join(self._held, on=list(_KEY), how="left", nulls_equal=True, maintain_order="left")

    def _find_beyond(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Add the counters of what is beyond the limit, which are few: by reporter, label and protocol."""
        few = ("hop", "label", "http")
        rows = rows.drop("series")
        # Where all have flags, what has none adds up to nothing, and needs no counters.
        some = rows.group_by(few).agg(pl.col("requests").sum()).filter(pl.col("requests") > 0).select(few)
        new = some.join(self._beyond, on=few, how="anti", nulls_equal=True)
        for row in new.iter_rows(named=True):
            numbers = pl.Series(
                "series", self._make([_text(_beyond(**row))], [row["http"]], np.inf), pl.UInt32
            )
            self._beyond = pl.concat([self._beyond, pl.DataFrame([row], new.schema).with_columns(numbers)])
        return rows.join(self._beyond, on=few, nulls_equal=True)

    def _count(self, found: pl.DataFrame, moment: float) -> None:
        if found.is_empty():
            return
        series = found["series"].to_numpy()
        order = np.argsort(series, kind="stable")
        touched, starts = np.unique(series[order], return_index=True)
        self._sums[touched] += np.add.reduceat(found.select(_SUMS).to_numpy()[order], starts)
        self._buckets[touched] += np.add.reduceat(found["duration_buckets"].to_numpy()[order], starts)
        self._touched[touched] = np.maximum(self._touched[touched], moment)

    def _admit(self, new: pl.DataFrame, moment: float) -> bool:
        """Give the label sets with most requests the places that are free or idle; whether there are any."""
        if len(self) >= self._limit and not (self._touched < moment - IDLE_S).any():
            return False
        wanted = new.group_by(list(_KEY)).agg(pl.col("requests").sum()).filter(pl.col("requests") > 0)
        self._drop(wanted.height - (self._limit - len(self)), moment)
        admitted = wanted.top_k(self._limit - len(self), by="requests").select(
            pl.col(name).cast(dtype) for name, dtype in _KEY.items()
        )
        values = [_text(labels(**row)) for row in admitted.iter_rows(named=True)]
        numbers = pl.Series("series", self._make(values, admitted["http"].to_list(), moment), pl.UInt32)
        self._held = pl.concat([self._held, admitted.with_columns(numbers)])
        return True

    def _drop(self, count: int, moment: float) -> None:
        """Let go of up to `count` label sets that are idle, the longest idle first."""
        idle = np.flatnonzero(self._touched < moment - IDLE_S)
        idle = idle[np.argsort(self._touched[idle], kind="stable")][: max(0, count)]
        if not len(idle):
            return
        kept = np.delete(np.arange(len(self._labels)), idle)
        places = pl.DataFrame({"series": kept}, schema={"series": pl.UInt32}).with_row_index("place")
        self._held, self._beyond = (
            frame.join(places, on="series").drop("series").rename({"place": "series"})
            for frame in (self._held, self._beyond)
        )
        self._labels = [self._labels[one] for one in kept]
        self._http = [self._http[one] for one in kept]
        self._sums, self._buckets, self._touched = self._sums[kept], self._buckets[kept], self._touched[kept]

    def _make(self, values: Sequence[str], https: Sequence[bool], moment: float) -> range:
        """Make room for counters; their numbers."""
        first, count = len(self._labels), len(values)
        self._labels += values
        self._http += https
        self._sums = np.vstack([self._sums, np.zeros((count, len(_SUMS)), np.int64)])
        self._buckets = np.vstack([self._buckets, np.zeros((count, _BUCKETS), np.int64)])
        self._touched = np.append(self._touched, np.full(count, moment))
        return range(first, first + count)

    def exposition(self) -> str:
        """All counters as of now, in Prometheus' text format.

        Written by hand: the client library's takes 12 µs per line, and there are 27 lines per label set.
        """
        with self._lock:
            totals, filled = self._sums.tolist(), np.cumsum(self._buckets, axis=1).tolist()
            series = list(zip(self._labels, totals, filled, strict=True))
            http = [one for one, is_http in zip(series, self._http, strict=True) if is_http]
            tcp = [one for one, is_http in zip(series, self._http, strict=True) if not is_http]
        return "".join(
            (
                *_family("requests_total"),
                *(f"{PREFIX}requests_total{{{of}}} {count}\n" for of, (count, *_), _ in http),
                *_family("request_duration_milliseconds"),
                *chain.from_iterable(_lines(of, filled, sums[0], sums[-1]) for of, sums, filled in http),
                *_family("request_bytes"),
                *(_summary("request_bytes", of, count, up) for of, (count, _, up, _), _ in http),
                *_family("response_bytes"),
                *(_summary("response_bytes", of, count, down) for of, (count, down, *_), _ in http),
                *_family("tcp_received_bytes_total"),
                *(f"{PREFIX}tcp_received_bytes_total{{{of}}} {up}\n" for of, (_, _, up, _), _ in tcp),
                *_family("tcp_sent_bytes_total"),
                *(f"{PREFIX}tcp_sent_bytes_total{{{of}}} {down}\n" for of, (_, down, *_), _ in tcp),
                *_family("tcp_connections_closed_total"),
                *(f"{PREFIX}tcp_connections_closed_total{{{of}}} {count}\n" for of, (count, *_), _ in tcp),
            )
        )


def _family(name: str) -> tuple[str, str]:
    kind, text = FAMILIES[name]
    return f"# HELP {PREFIX}{name} {text}\n", f"# TYPE {PREFIX}{name} {kind}\n"


def _lines(of: str, filled: list[int], count: int, spent: int) -> Iterator[str]:
    name = f"{PREFIX}request_duration_milliseconds"
    for bound, below in zip(_BOUNDS, filled, strict=True):
        yield f'{name}_bucket{{{of},le="{bound}"}} {below}\n'
    yield f"{name}_sum{{{of}}} {spent}\n"
    yield f"{name}_count{{{of}}} {count}\n"


def _summary(name: str, of: str, count: int, total: int) -> str:
    return f"{PREFIX}{name}_sum{{{of}}} {total}\n{PREFIX}{name}_count{{{of}}} {count}\n"


def labels(
    *,
    source_cluster: str | None,
    source_namespace: str | None,
    source_workload: str | None,
    label: str | None,
    destination_host: str | None,
    destination_port: int | None,
    hop: str | None,
    response_code: int | None,
    http: bool,
    flags: str | None,
) -> tuple[str, ...]:
    """Values of HTTP_LABELS, or of TCP_LABELS, as Istio's telemetry would set them.

    Traffic of PassthroughCluster and BlackHoleCluster has the cluster's name for a service name:
    https://istio.io/latest/blog/2019/monitoring-external-service-traffic/
    """
    name, namespace = _service(destination_host, label)
    reporter = "destination" if (label or "").startswith("inbound") else "source"
    values = (
        "waypoint" if hop == "waypoint" else reporter,
        _value(source_workload),
        _value(source_namespace),
        _value(source_cluster),
        _value(destination_host),
        name,
        namespace,
        str(destination_port or _UNKNOWN),
        "http" if http else "tcp",
        _value(flags or "-"),
        label or _UNKNOWN,
    )
    return (*values, str(response_code or 0)) if http else values


def _beyond(*, hop: str | None, label: str | None, http: bool) -> tuple[str, ...]:
    """Labels of what is beyond the limit."""
    values = labels(
        source_cluster=OTHER,
        source_namespace=OTHER,
        source_workload=OTHER,
        label=label,
        destination_host=OTHER,
        destination_port=None,
        hop=hop,
        response_code=None,
        http=http,
        flags=OTHER,
    )
    many = ("destination_port", "response_code", "destination_service_name", "destination_service_namespace")
    return tuple(_FOLDED if name in many else one for name, one in zip(HTTP_LABELS, values, strict=False))


def _service(host: str | None, label: str | None) -> tuple[str, str]:
    """Name and namespace of the destination's service."""
    if label == "passthrough":
        return "PassthroughCluster", _UNKNOWN
    if label == "blackhole":
        return "BlackHoleCluster", _UNKNOWN
    inside = _KUBERNETES.fullmatch(host or "")
    return (_value(inside[1]), _value(inside[2])) if inside else (_value(host), _UNKNOWN)


def _text(values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in zip(HTTP_LABELS, values, strict=False))


def _value(text: str | None) -> str:
    if text is None:
        return _UNKNOWN
    if text == OTHER:
        return _FOLDED
    return text if _VALUE.fullmatch(text) else "invalid"
