"""`make bench`: every job on the same topic in one run, interleaved; writes RESULTS.md and results.json.

`--quick` leaves out the other peers and takes fewer records: under five minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import formats
import jobs
import stages
from parts import HERE, ROOT, Filled, Parts, Timing, fill, running

Job = Callable[[], Timing]


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--quick", action="store_true")
    quick = arguments.parse_args().quick
    began = time.monotonic()
    results: dict[str, Any] = {"machine": machine(), "quick": quick}
    with tempfile.TemporaryDirectory(prefix="egresslens-bench-") as folder, running(Path(folder)) as parts:
        topic = fill(parts, 200_000 if quick else 2_000_000)
        say(
            f"topic: {topic.total} JSON records of {topic.bytes / topic.total:.0f} bytes, {len(topic.labels)} partitions"
        )
        results["topic"] = {
            "records": topic.total,
            "bytes_per_record": topic.bytes / topic.total,
            "truth": topic.truth(),
        }
        results["jobs"] = compare(whole_jobs(parts, topic, quick=quick), 3)
        say("stages")
        results["stages"] = stages.profile(parts, topic, 4 if quick else 10)
    say("formats, in process")
    results["formats"] = {name: asdict(cost) for name, cost in formats.measure(3 if quick else 7).items()}
    results["seconds"] = time.monotonic() - began
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = report(results)
    (HERE / "RESULTS.md").write_text(text)
    print(text)


def whole_jobs(parts: Parts, topic: Filled, *, quick: bool) -> dict[str, Job]:
    """Name -> one run."""
    few = 2_500 if quick else 10_000
    return {
        "egresslens": lambda: jobs.run_egresslens(parts, topic),
        "faust": lambda: jobs.run_peer(parts, topic, jobs.python_peer("faust"), "faust", few),
    }


def compare(todo: dict[str, Job], rounds: int) -> dict[str, Any]:
    """Run each job once per round."""
    seen: dict[str, list[Timing]] = {name: [] for name in todo}
    for number in range(rounds):
        for name, job in todo.items():
            timing = job()
            seen[name].append(timing)
            say(f"round {number + 1}: {name:14} {timing.rate:9,.0f} records/s {timing.cpu_us:7.1f} us CPU")
    return {
        name: {
            "records": timings[0].records,
            "rate": median(one.rate for one in timings),
            "rates": [one.rate for one in timings],
            "cpu_us": median(one.cpu_us for one in timings),
            "cpus_us": [one.cpu_us for one in timings],
        }
        for name, timings in seen.items()
    }


def machine() -> dict[str, Any]:
    """What it ran on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "stream"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {
        "cpu": model[0].partition(":")[2].strip() if model else platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": sys.version.split()[0],
        "commit": commit.stdout.strip() + ("+" if dirty.stdout.strip() else ""),
        "versions": {
            name: version(name)
            for name in ("polars", "aiokafka", "faust-streaming", "clickhouse-connect", "chdb")
        },
        "when": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


LEAVES_OUT = {
    "egresslens": "nothing: parse, label, windows, events and windows in ClickHouse, enriched and windows topics",
    "faust": "windows topic, 25 of the 45 fields, exactness after a crash",
}


def report(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    made, topic, found = results["machine"], results["topic"], results["jobs"]
    own = found["egresslens"]
    lines = [
        "# Results",
        "",
        f"`make bench{' QUICK=1' if results['quick'] else ''}`, {made['when']}, commit {made['commit']}, "
        f"{made['cores']} cores ({made['cpu']}), {made['memory_gb']} GB, load before the start {made['load']:.1f}; "
        f"Python {made['python']}, "
        + ", ".join(f"{name} {text}" for name, text in made["versions"].items())
        + ".",
        "",
        "Broker, store and the job share the cores. A load above 1 before the start means that others worked on the "
        "machine as well: then the ratios say more than the figures.",
        "",
        f"## The whole job: {topic['records']:,} Istio JSON records of {topic['bytes_per_record']:.0f} bytes",
        "",
        "Each job reads the same topic, the runs are interleaved, and each run's counts per label (events and windows) "
        "equal the truth. Median, and least to most.",
        "",
        "| job | records read | records/s | spread | CPU us/record | spread | Egresslens is faster | leaves out |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        lines.append(
            f"| {name} | {one['records']:,} | {one['rate']:,.0f} | {min(one['rates']):,.0f} to {max(one['rates']):,.0f} "
            f"| {one['cpu_us']:.1f} | {min(one['cpus_us']):.1f} to {max(one['cpus_us']):.1f} "
            f"| {own['rate'] / one['rate']:.1f}x (CPU {one['cpu_us'] / own['cpu_us']:.1f}x) | {LEAVES_OUT.get(name, '')} |"
        )
    lines += [
        "",
        "## Where the CPU of the worker goes",
        "",
        "In process, by stage, microseconds per record.",
        "",
        "| stage | us/record |",
        "|---|---|",
    ]
    lines += [f"| {name} | {cost:.2f} |" for name, cost in results["stages"].items()]
    lines += [f"| sum | {sum(results['stages'].values()):.2f} |"]
    lines += [
        "",
        "## Parse and label by format",
        "",
        "In process, microseconds of CPU per record (all threads), median of interleaved rounds.",
        "",
        "| messages | parse | label | both | spread | beside clean |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in results["formats"].items():
        clean = results["formats"]["Istio text" if "text" in name else "Istio JSON"]["both"]
        lines.append(
            f"| {name} | {one['parse']:.2f} | {one['label']:.2f} | {one['both']:.2f} "
            f"| {one['spread'][0]:.2f} to {one['spread'][1]:.2f} | {one['both'] / clean:.2f}x |"
        )
    return "\n".join([*lines, "", f"The run took {results['seconds']:.0f} s.", ""])


if __name__ == "__main__":
    main()
