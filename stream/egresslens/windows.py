"""One-minute windows as absolute state, per Kafka partition.

Theory of operation (design section 3). A window row says what is true of its key at `last_offset`, the last
offset of its partition that was applied to it. Processing is deterministic, so the row at a given
`last_offset` is the same whoever wrote it, and the highest one wins. Three rules keep that true:

* Messages of a partition are applied in order without holes; every assignment begins with empty state.
* A window that is not held is loaded from the store before it is touched. That one rule serves a restart, a
  rebalance and a late record, so no record is ever too late for its window.
* A record at or below its key's `last_offset` was applied before, and is skipped.

The cap on destinations admits the first `max_destinations` of a window, workload and partition in offset
order, and counts the others as `(other)`. Admission never changes afterwards, so a replay admits the same: a
destination in the stored rows was admitted, and the rest arrive in the same order again.

No I/O and no clock in here: the worker loads rows and stores what `apply` returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from egresslens.record import DURATION_BOUNDS_MS, MAX_DESTINATION_IPS, OTHER, TIMESTAMP, WINDOW, WINDOW_KEY

WINDOW_MS: Final = 60_000
PARTITION: Final = ("stream_epoch", "topic", "partition")
KEY: Final[tuple[str, ...]] = (*PARTITION, *WINDOW_KEY)
PLACE: Final[tuple[str, ...]] = (*PARTITION, "window_start")
_WORKLOAD: Final = (*PLACE, "source_cluster", "source_namespace", "source_workload", "source_ip")
_DESTINATION: Final = ("destination_host", "destination_host_source", "destination_port")
_SUMS: Final = ("requests", "mismatches", "bytes_sent", "bytes_received", "duration_ms_sum")
_BUCKETS: Final = len(DURATION_BOUNDS_MS) + 1
_NO_TIME: Final = np.iinfo(np.int64).max

_NOT_OTHER: Final = (pl.col("destination_host") != OTHER).fill_null(value=True)

Ints = npt.NDArray[np.int64]


def keyed(records: pl.DataFrame) -> pl.DataFrame:
    """Give records (record.SCHEMA) their window key.

    Event time is the end of the request, as Istio's istio_requests_total counts it. A source address is part
    of the key only where no workload is known.
    """
    return records.with_columns(
        pl.col("event_time").dt.truncate("1m").alias("window_start"),
        pl.when(pl.col("source_workload").is_null()).then("source_ip").alias("source_ip"),
    )


class Advance(NamedTuple):
    """What records did to the windows."""

    rows: pl.DataFrame
    """Changed rows (record.WINDOW), absolute."""
    records: pl.DataFrame
    """The records that count: those not applied before, over the cap as `(other)`."""
    sums: pl.DataFrame
    """These records' sums by key (`aggregate`)."""


class Windows:
    """The windows that a worker holds: plain data with the verbs missing, load, apply and evict."""

    def __init__(self, max_destinations: int) -> None:
        self._max_destinations = max_destinations
        self._held: dict[tuple[object, ...], None] = {}
        self._keys: dict[object, pl.DataFrame] = {}
        self._touched: dict[object, int] = {}
        self._turn = 0
        self._free: list[int] = []
        self._size = 0
        self._sums: Ints = np.zeros((0, len(_SUMS)), np.int64)
        self._buckets: Ints = np.zeros((0, _BUCKETS), np.int64)
        # Largest duration, first and last event, last offset.
        self._marks: Ints = np.zeros((0, 4), np.int64)
        self._ips: list[tuple[str, ...]] = []
        self._workloads: dict[tuple[object, ...], int] = {}
        # Highest `last_offset` of any loaded row, by partition: above it no record can have been applied.
        self._replay_until: dict[tuple[object, ...], int] = {}

    def __len__(self) -> int:
        """Number of keys held."""
        return self._size - len(self._free)

    @property
    def turn(self) -> int:
        """Number of batches applied; `evict` takes it."""
        return self._turn

    def missing(self, records: pl.DataFrame) -> pl.DataFrame:
        """Places (PLACE columns) that `records` (with window keys) touch and that are not held."""
        places = records.select(PLACE).unique()
        return places.filter(
            pl.Series([row not in self._held for row in places.iter_rows()], dtype=pl.Boolean)
        )

    def load(self, places: pl.DataFrame, rows: pl.DataFrame) -> None:
        """Take over the stored rows (record.WINDOW) of `places`; a place without rows is a new window."""
        for place in places.select(PLACE).iter_rows():
            self._held[place] = None
        if rows.is_empty():
            return
        ids = self._add(rows)
        for *workload, count in rows.filter(_NOT_OTHER).group_by(_WORKLOAD).len().iter_rows():
            self._workloads[tuple(workload)] = min(count, self._max_destinations)
        self._sums[ids] = rows.select(_SUMS).to_numpy()
        self._buckets[ids] = np.array(rows["duration_buckets"].to_list(), np.int64).reshape(-1, _BUCKETS)
        self._marks[ids] = np.column_stack(
            [
                rows["duration_ms_max"].to_numpy(),
                rows["first_event"].to_physical().fill_null(_NO_TIME).to_numpy(),
                rows["last_event"].to_physical().fill_null(0).to_numpy(),
                rows["last_offset"].to_numpy(),
            ]
        )
        for row, ips in zip(ids.tolist(), rows["destination_ips"].to_list(), strict=True):
            self._ips[row] = tuple(ips)
        for *partition, last in rows.group_by(PARTITION).agg(pl.col("last_offset").max()).iter_rows():
            known = self._replay_until.get(tuple(partition), -1)
            self._replay_until[tuple(partition)] = max(known, last)

    def apply(self, records: pl.DataFrame, rules_version: int) -> Advance:
        """Apply records.

        Args:
            records: record.SCHEMA with window keys (`keyed`), of each partition in offset order; every
                window they touch is held.
            rules_version: written into the rows.
        """
        self._turn += 1
        if records.is_empty():
            return Advance(pl.DataFrame(schema=WINDOW), records, aggregate(records))
        touched = records["window_start"].unique().to_list()
        self._touched.update(dict.fromkeys(touched, self._turn))
        records = self._unseen(records, touched)
        changes = self._find(aggregate(records), touched)
        capped = self._admit(records, changes, touched)
        if capped is not None:
            # What is over the cap has another key now, which may have been applied before.
            records = self._unseen(capped, touched)
            changes = self._find(aggregate(records), touched)
        changed = self._merge(changes, rules_version) if changes.height else pl.DataFrame(schema=WINDOW)
        return Advance(changed, records, changes.drop("row"))

    def evict(self, turn: int, keep: int) -> None:
        """Let go of windows last touched at or before `turn`, longest untouched first, down to `keep` keys.

        Only windows whose rows are stored may go; they are loaded again when a record touches them.
        """
        for window, last in sorted(self._touched.items(), key=lambda item: item[1]):
            if len(self) <= keep or last > turn:
                return
            self._forget(window)

    def clear(self) -> None:
        """Discard everything, as every assignment must."""
        self.__init__(self._max_destinations)  # type: ignore[misc]

    def _unseen(self, records: pl.DataFrame, touched: list[object]) -> pl.DataFrame:
        """Leave out records that their key's stored row already counts."""
        if not self._replay_until:
            return records
        limits = pl.DataFrame(
            [(*partition, last) for partition, last in self._replay_until.items()],
            schema={**{name: WINDOW[name] for name in PARTITION}, "replay_until": pl.Int64()},
            orient="row",
        )
        marked = records.join(limits, on=PARTITION, how="left", maintain_order="left")
        again = marked["offset"] <= marked["replay_until"].fill_null(-1)
        if not again.any():
            return records
        found = self._find(records.filter(again), touched)
        ids = found["row"].fill_null(0).to_numpy()
        last = np.where(found["row"].is_not_null().to_numpy(), self._marks[ids, 3] if self._size else -1, -1)
        fresh = found.filter(pl.Series(found["offset"].to_numpy() > last)).drop("row")
        return pl.concat([fresh, records.filter(~again)])

    def _find(self, rows: pl.DataFrame, touched: list[object]) -> pl.DataFrame:
        """Add `row`, the number of each key's row, null where the key is new."""
        frames = [self._keys[window] for window in touched if window in self._keys]
        if not frames:
            return rows.with_columns(pl.lit(None, pl.UInt32).alias("row"))
        return rows.join(pl.concat(frames), on=KEY, how="left", nulls_equal=True, maintain_order="left")

    def _admit(
        self, records: pl.DataFrame, changes: pl.DataFrame, touched: list[object]
    ) -> pl.DataFrame | None:
        """Rewrite records whose destination is over the cap; None where no cap is reached.

        Keys are at least as many as destinations, so counting new keys is enough to know that no cap is near.
        """
        new = changes.filter(pl.col("row").is_null() & _NOT_OTHER)
        if new.is_empty():
            return None
        counts = new.group_by(_WORKLOAD).len()
        crowded = []
        for *workload, count in counts.iter_rows():
            before = self._workloads.get(tuple(workload), 0)
            if before + count > self._max_destinations:
                crowded.append(tuple(workload))
            # At the cap every new key takes the exact way below.
            self._workloads[tuple(workload)] = min(before + count, self._max_destinations)
        if not crowded:
            return None
        return self._rewrite(records, crowded, touched)

    def _rewrite(
        self, records: pl.DataFrame, crowded: list[tuple[object, ...]], touched: list[object]
    ) -> pl.DataFrame:
        """Send destinations beyond the cap of the crowded workloads to `(other)`."""
        schema = {name: WINDOW[name] for name in _WORKLOAD}
        workloads = pl.DataFrame(crowded, schema=schema, orient="row").with_row_index("workload")
        keys = [self._keys[window] for window in touched if window in self._keys]
        held = pl.concat(keys) if keys else pl.DataFrame(schema={name: WINDOW[name] for name in KEY})
        columns = ["workload", *_DESTINATION]

        def of_crowded(frame: pl.DataFrame) -> pl.DataFrame:
            return frame.join(workloads, on=_WORKLOAD, nulls_equal=True, maintain_order="left")

        admitted = of_crowded(held).select(columns).unique().filter(_NOT_OTHER)
        asking = (
            of_crowded(records.with_row_index("at"))
            .group_by(columns)
            .agg(pl.col("at").min().alias("first"))
            .join(admitted, on=columns, how="anti", nulls_equal=True)
            .sort("first")
        )
        room = admitted.group_by("workload").len("admitted")
        rank = pl.int_range(pl.len()).over("workload")
        refused = (
            asking.join(room, on="workload", how="left")
            .filter(rank + pl.col("admitted").fill_null(0) >= self._max_destinations)
            .select(columns)
            .with_columns(pl.lit(value=True).alias("refused"))
        )
        marked = records.join(
            workloads, on=_WORKLOAD, how="left", nulls_equal=True, maintain_order="left"
        ).join(refused, on=columns, how="left", nulls_equal=True, maintain_order="left")
        over = pl.col("refused").is_not_null()
        return marked.with_columns(
            pl.when(over).then(pl.lit(OTHER)).otherwise("destination_host").alias("destination_host"),
            pl.when(over)
            .then(pl.lit("other"))
            .otherwise("destination_host_source")
            .alias("destination_host_source"),
            pl.when(over).then(None).otherwise("destination_port").alias("destination_port"),
            pl.when(over).then(None).otherwise("destination_ip").alias("destination_ip"),
        ).drop("workload", "refused")

    def _merge(self, changes: pl.DataFrame, rules_version: int) -> pl.DataFrame:
        """Add changes to the state and give the changed rows as they now are."""
        new = changes["row"].is_null()
        ids = changes["row"].fill_null(0).to_numpy().astype(np.int64)
        if new.any():
            ids[new.to_numpy()] = self._add(changes.filter(new))
        self._sums[ids] += changes.select(_SUMS).to_numpy()
        self._buckets[ids] += changes["duration_buckets"].to_numpy()
        marks = self._marks[ids]
        self._marks[ids] = np.column_stack(
            [
                np.maximum(marks[:, 0], changes["duration_ms_max"].to_numpy()),
                np.minimum(marks[:, 1], changes["first_event"].to_physical().to_numpy()),
                np.maximum(marks[:, 2], changes["last_event"].to_physical().to_numpy()),
                np.maximum(marks[:, 3], changes["last_offset"].to_numpy()),
            ]
        )
        rows = ids.tolist()
        for row, ips in zip(rows, changes["destination_ips"].to_list(), strict=True):
            known = self._ips[row]
            if ips and len(known) < MAX_DESTINATION_IPS:
                self._ips[row] = tuple(dict.fromkeys([*known, *ips]))[:MAX_DESTINATION_IPS]
        return self._rows(changes.select(KEY), ids, rules_version)

    def _rows(self, keys: pl.DataFrame, ids: Ints, rules_version: int) -> pl.DataFrame:
        marks = self._marks[ids]
        columns = {
            **{name: self._sums[ids, i] for i, name in enumerate(_SUMS)},
            "duration_ms_max": marks[:, 0],
            "duration_buckets": pl.Series(self._buckets[ids], dtype=pl.Array(pl.Int64, _BUCKETS)),
            "destination_ips": _lists([self._ips[row] for row in ids.tolist()]),
            "first_event": pl.Series(marks[:, 1]).cast(TIMESTAMP),
            "last_event": pl.Series(marks[:, 2]).cast(TIMESTAMP),
            "last_offset": marks[:, 3],
        }
        frame = keys.with_columns(
            *(pl.Series(name, values) for name, values in columns.items()),
            pl.lit(rules_version, pl.UInt32).alias("rules_version"),
        )
        return frame.select(pl.col(name).cast(dtype) for name, dtype in WINDOW.items())

    def _add(self, rows: pl.DataFrame) -> Ints:
        """Make room for new keys and remember them; returns their row numbers."""
        reused = self._free[: rows.height]
        del self._free[: rows.height]
        fresh = rows.height - len(reused)
        self._grow(self._size + fresh)
        ids = np.array([*reused, *range(self._size, self._size + fresh)], np.int64)
        self._size += fresh
        self._sums[ids] = 0
        self._buckets[ids] = 0
        self._marks[ids] = (0, _NO_TIME, 0, -1)
        for row in reused:
            self._ips[row] = ()
        self._ips += [()] * (len(self._marks) - len(self._ips))
        keys = rows.select(pl.col(name).cast(WINDOW[name]) for name in KEY).with_columns(
            pl.Series("row", ids, pl.UInt32)
        )
        for (window,), part in keys.partition_by("window_start", as_dict=True).items():
            held = self._keys.get(window)
            self._keys[window] = part if held is None else pl.concat([held, part])
            self._touched.setdefault(window, self._turn)
        return ids

    def _grow(self, size: int) -> None:
        if size <= len(self._marks):
            return
        more = max(size, 2 * len(self._marks), 1024) - len(self._marks)
        self._sums = np.vstack([self._sums, np.zeros((more, len(_SUMS)), np.int64)])
        self._buckets = np.vstack([self._buckets, np.zeros((more, _BUCKETS), np.int64)])
        self._marks = np.vstack([self._marks, np.zeros((more, 4), np.int64)])

    def _forget(self, window: object) -> None:
        keys = self._keys.pop(window, None)
        del self._touched[window]
        for place in [place for place in self._held if place[-1] == window]:
            del self._held[place]
        for workload in [workload for workload in self._workloads if workload[len(PARTITION)] == window]:
            del self._workloads[workload]
        if keys is not None:
            self._free += keys["row"].to_list()


def _lists(addresses: list[tuple[str, ...]]) -> pl.Series:
    """Lists of addresses, which hold no space: Polars takes 3 us for each list that Python gives it."""
    joined = pl.Series([" ".join(one) for one in addresses], dtype=pl.String)
    nothing = pl.lit([], pl.List(pl.String))
    return pl.select(pl.when(joined == "").then(nothing).otherwise(joined.str.split(" "))).to_series()


def aggregate(records: pl.DataFrame, key: Sequence[str] = KEY) -> pl.DataFrame:
    """Sum records by key: the key, the measures of record.WINDOW and `last_offset`; one row per key."""
    duration = records["duration_ms"].fill_null(0).to_numpy()
    bucket = pl.Series("bucket", np.searchsorted(np.array(DURATION_BOUNDS_MS), duration), pl.UInt8)
    sums = records.with_columns(bucket).group_by(key).agg(
        pl.len().cast(pl.Int64).alias("requests"),
        pl.col("mismatch").sum().cast(pl.Int64).alias("mismatches"),
        pl.col("bytes_sent").sum(),
        pl.col("bytes_received").sum(),
        pl.col("duration_ms").sum().alias("duration_ms_sum"),
        pl.col("duration_ms").max().fill_null(0).alias("duration_ms_max"),
        pl.col("event_time").min().alias("first_event"),
        pl.col("event_time").max().alias("last_event"),
        pl.col("offset").max().alias("last_offset"),
        pl.col("destination_ip").drop_nulls().unique(maintain_order=True).head(MAX_DESTINATION_IPS)
        .alias("destination_ips"),
        pl.col("bucket"),
    )  # fmt: skip
    # One number per record, key and bucket together, counts all histograms in one pass.
    row = np.repeat(np.arange(sums.height), sums["bucket"].list.len().to_numpy())
    places = row * _BUCKETS + sums["bucket"].explode().to_numpy() if sums.height else np.zeros(0, np.int64)
    counts = np.bincount(places, minlength=sums.height * _BUCKETS).reshape(-1, _BUCKETS)
    return sums.drop("bucket").with_columns(
        pl.Series("duration_buckets", counts.astype(np.int64), pl.Array(pl.Int64, _BUCKETS))
    )
