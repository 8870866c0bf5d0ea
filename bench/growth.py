"""How the cost of a record grows: with distinct pairs, with partitions, with the time a topic spans.

Windows alone in process, and the whole job by a real worker.
"""

from __future__ import annotations

import gc
import os
import time
from statistics import median
from typing import Any

import jobs
import numpy as np
import polars as pl
from parts import Parts, fill, resident_bytes, say

from egresslens.enrich import enrich, origin
from egresslens.rules import Rules
from egresslens.windows import Windows, keyed
from traffic import Traffic

UNIT = 50_000
UNITS = 4
PAIRS = (10, 100, 1_000, 10_000, 100_000)
PARTITIONS = (4, 16, 64)
SPANS_S = (60, 3_600, 86_400)


def pairs(parts: Parts, records: int) -> dict[str, Any]:
    """By number of distinct pairs: windows alone and the whole job; memory of open window keys."""
    found = {}
    for count in PAIRS:
        keys, rows, cost = curve(count)
        found[str(count)] = {
            "open_keys": keys,
            "rows_per_unit": rows,
            "windows_us": cost,
            **_whole(parts, f"{count:,} pairs", records, pairs_count=count),
        }
    return {"records": records, "memory_per_100k_keys": memory(100_000), "runs": found}


def partitions(parts: Parts, records: int) -> dict[str, Any]:
    """The whole job by number of partitions."""
    runs = {
        str(count): _whole(parts, f"{count} partitions", records, partitions=count) for count in PARTITIONS
    }
    return {"records": records, "runs": runs}


def spans(parts: Parts, records: int) -> dict[str, Any]:
    """The whole job by seconds of event time that the topic spans; the longest is a day's backfill."""
    runs = {
        str(seconds): _whole(parts, f"{seconds} s of events", records, rate=records / seconds)
        for seconds in SPANS_S
    }
    return {"records": records, "runs": runs}


def _whole(parts: Parts, what: str, records: int, **options: Any) -> dict[str, float]:
    """One run of the whole job over a topic of its own."""
    topic = fill(parts, records, **options)
    timing = jobs.run_egresslens(parts, topic)
    parts.drop_topics([topic.name])
    say(f"{what}: {timing.rate:,.0f} records/s, {timing.cpu_us:.1f} us CPU")
    return {
        "rate": timing.rate,
        "cpu_us": timing.cpu_us,
        "broker_us": timing.broker_us,
        "store_us": timing.store_us,
    }


def curve(pairs: int) -> tuple[int, float, float]:
    """(keys held at the end, changed rows per unit, CPU per record) over units of a steady stream."""
    moment = int(time.time() * 1000) - 3_600_000
    traffic, rules, windows = Traffic(moment, pairs_count=pairs), Rules(), Windows(Rules().max_destinations)
    costs, rows = [], []
    for number in range(UNITS):
        values = [text.encode() for *_, text in traffic.take(UNIT, "json")]
        offsets = np.arange(number * UNIT, (number + 1) * UNIT)
        origins = origin("epoch", "topic", 0, offsets, np.full(UNIT, moment + 3_600_000))
        records = enrich(values, origins, rules, 1).records
        at = time.process_time()
        with_keys = keyed(records)
        windows.load(windows.missing(with_keys), pl.DataFrame())
        rows.append(windows.apply(with_keys, 1).rows.height)
        costs.append((time.process_time() - at) / UNIT * 1e6)
    return len(windows), median(rows), median(costs)


def memory(keys: int) -> int:
    """Bytes that a Windows with so many keys adds to the process."""
    moment = int(time.time() * 1000) - 3_600_000
    values = [text.encode() for *_, text in Traffic(moment).take(1_000, "json")]
    origins = origin("epoch", "topic", 0, np.arange(1_000), np.full(1_000, moment + 3_600_000))
    few = enrich(values, origins, Rules(), 1).records
    many = pl.concat([few] * (keys // few.height + 1)).head(keys)
    hosts = pl.Series("destination_host", [f"host-{number}.example.com" for number in range(keys)])
    many = keyed(many.with_columns(hosts, pl.Series("offset", np.arange(keys))))
    windows = Windows(keys)
    windows.load(windows.missing(many), pl.DataFrame())
    gc.collect()
    before = resident_bytes(os.getpid())
    windows.apply(many, 1)
    gc.collect()
    return resident_bytes(os.getpid()) - before
