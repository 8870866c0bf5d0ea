"""`make bench`: measure, part by part, and write RESULTS.md, results.json and the plot.

Each part can be run alone (`--part whole --part latency`); its results replace those of the same part in
results.json, each with the machine, the commit and the load it was measured with. `--quick` takes fewer
records and leaves the slowest peers out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import formats
import growth
import latency
import polars as pl
import stages
import stored
import whole
import workers
from clickhouse_connect.driver.exceptions import ClickHouseError
from parts import HERE, ROOT, Filled, Parts, fill, running, say
from report import write

from egresslens.worker import tuning

RESULTS = HERE / "results.json"


@dataclass
class Bench:
    """What the parts share: broker, store, and topics that are filled when a part first asks for them."""

    parts: Parts
    quick: bool
    rounds: int
    records: int

    @cached_property
    def topic(self) -> Filled:
        """Istio JSON."""
        return self._filled("json", self.records)

    @cached_property
    def texts(self) -> Filled:
        """Istio text."""
        return self._filled("text", self.records // 2)

    def _filled(self, kind: str, records: int) -> Filled:
        say(f"filling a topic with {records:,} {kind} records")
        return fill(self.parts, records, kind)


def _whole(bench: Bench) -> dict[str, Any]:
    whole.hold_together(bench.parts)
    topic = bench.topic
    jobs = whole.whole_jobs(bench.parts, topic, bench.texts, quick=bench.quick)
    return {
        "records": topic.total,
        "bytes_per_record": topic.bytes / topic.total,
        "jobs": whole.compare(jobs, bench.rounds, 150 if bench.quick else 960),
    }


def _formats(bench: Bench) -> dict[str, Any]:
    return {
        "formats": {name: asdict(cost) for name, cost in formats.measure(3 if bench.quick else 7).items()}
    }


def _stages(bench: Bench) -> dict[str, Any]:
    return {"us": stages.profile(bench.parts, bench.topic, 4 if bench.quick else 10)}


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "whole": _whole,
    "stages": _stages,
    "formats": _formats,
    "latency": lambda bench: latency.measure(bench.parts, seconds=12 if bench.quick else 40),
    "workers": lambda bench: workers.measure(bench.parts, bench.topic, 1 if bench.quick else 2),
    "pairs": lambda bench: growth.pairs(bench.parts, bench.records // 4),
    "partitions": lambda bench: growth.partitions(bench.parts, bench.records // 4),
    "spans": lambda bench: growth.spans(bench.parts, bench.records // 4),
    "stored-1": lambda bench: stored.measure(bench.parts, 1),
    "stored-10": lambda bench: stored.measure(bench.parts, 10),
    "stored-50": lambda bench: stored.measure(bench.parts, 50),
}
# What `make bench` measures; the rest takes long and is `make bench-growth`.
USUAL = ("whole", "stages", "formats", "latency", "workers")
GROWTH = ("pairs", "partitions", "spans", "stored-1", "stored-10", "stored-50")
QUICK = ("whole", "stages", "formats", "latency")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--growth", action="store_true", help="how costs grow, instead of the usual parts")
    arguments.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    arguments.add_argument("--records", type=int, help="records in the JSON topic")
    arguments.add_argument("--rounds", type=int)
    given = arguments.parse_args()
    # What is measured in process has the worker's own tuning.
    tuning.begin_anew()
    usual = GROWTH if given.growth else QUICK if given.quick else USUAL
    wanted = given.part or usual
    records = given.records or (300_000 if given.quick else 2_000_000)
    rounds = given.rounds or (2 if given.quick else 3)
    began, failed = time.monotonic(), list[str]()
    # Ended from outside, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with running_bench(quick=given.quick, rounds=rounds, records=records) as bench:
        for name in wanted:
            say(name)
            about, at = machine(quick=given.quick), time.monotonic()
            try:
                found = PARTS[name](bench)
            except (RuntimeError, TimeoutError, subprocess.SubprocessError, ClickHouseError):
                # What the other parts measure is worth keeping; the exit code tells.
                traceback.print_exc()
                failed.append(name)
                continue
            merge(name, {"machine": about, "seconds": round(time.monotonic() - at), **found})
    print(write(json.loads(RESULTS.read_text())))
    print(f"The run took {time.monotonic() - began:.0f} s.")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; their earlier results stay")


@contextmanager
def running_bench(*, quick: bool, rounds: int, records: int) -> Iterator[Bench]:
    """A broker and a store."""
    with tempfile.TemporaryDirectory(prefix="egresslens-bench-") as folder, running(Path(folder)) as parts:
        yield Bench(parts, quick, rounds, records)


def merge(name: str, found: dict[str, Any]) -> None:
    """Put a part's results in the place of its earlier ones."""
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results = {part: found if part == name else before.get(part) for part in PARTS}
    RESULTS.write_text(json.dumps({part: one for part, one in results.items() if one}, indent=1) + "\n")


def machine(*, quick: bool) -> dict[str, Any]:
    """What a part ran on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    dirty = _git("status", "--porcelain", "stream", "schemas")
    return {
        "cpu": model[0].partition(":")[2].strip() if model else platform.processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if dirty else ""),
        "when": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "quick": quick,
        "polars_threads": pl.thread_pool_size(),
        "versions": {
            "python": sys.version.split()[0],
            **{
                name: version(name)
                for name in ("polars", "aiokafka", "faust-streaming", "clickhouse-connect", "chdb")
            },
        },
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
