"""How windows grow: CPU per record from 10 to 100,000 pairs, and memory per 100,000 open keys; in process."""

from __future__ import annotations

import gc
import os
import time
from statistics import median

import numpy as np
import polars as pl
from parts import resident_bytes

from egresslens.enrich import enrich, origin
from egresslens.rules import Rules
from egresslens.windows import Windows, keyed
from traffic import Traffic

UNIT = 50_000
UNITS = 4


def main() -> None:
    print("| pairs | open keys | rows written per unit | windows, us of CPU per record |\n|---|---|---|---|")
    for pairs in (10, 100, 1_000, 10_000, 100_000):
        print("| {:,} | {:,} | {:,.0f} | {:.2f} |".format(pairs, *curve(pairs)), flush=True)
    print(f"\n100,000 open keys hold {memory(100_000) / 2**20:.0f} MiB")


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
        rows.append(windows.apply(with_keys, 1).height)
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


if __name__ == "__main__":
    main()
