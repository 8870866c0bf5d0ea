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
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import formats
import jobs
import limits
import stages
from parts import HERE, ROOT, Filled, Parts, Timing, fill, running
from report import report

Job = Callable[[], Timing]


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--records", type=int, help="records in the JSON topic")
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    quick = given.quick
    began = time.monotonic()
    results: dict[str, Any] = {"machine": machine(), "quick": quick, "rounds": given.rounds}
    with tempfile.TemporaryDirectory(prefix="egresslens-bench-") as folder, running(Path(folder)) as parts:
        topic = fill(parts, given.records or (400_000 if quick else 2_000_000))
        size = topic.bytes / topic.total
        say(f"topic: {topic.total} JSON records of {size:.0f} bytes, {len(topic.labels)} partitions")
        results["topic"] = {
            "records": topic.total,
            "bytes_per_record": topic.bytes / topic.total,
            "truth": topic.truth(),
        }
        texts = fill(parts, topic.total // 2, "text")
        results["jobs"] = compare(whole_jobs(parts, topic, texts, quick=quick), given.rounds)
        say("stages")
        results["stages"] = stages.profile(parts, topic, 4 if quick else 10)
    say("formats, in process")
    results["formats"] = {name: asdict(cost) for name, cost in formats.measure(3 if quick else 7).items()}
    results["seconds"] = time.monotonic() - began
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = report(results)
    (HERE / "RESULTS.md").write_text(text)
    print(text)


def whole_jobs(parts: Parts, topic: Filled, texts: Filled, *, quick: bool) -> dict[str, Job]:
    """Name -> one run. Slow peers read fewer records of the same topic."""
    few = 2_500 if quick else 10_000
    faust = jobs.python_peer("faust")
    found = {
        "egresslens": lambda: jobs.run_egresslens(parts, topic),
        "faust": lambda: jobs.run_peer(parts, topic, faust, "faust", few),
        "egresslens, text": lambda: jobs.run_egresslens(parts, texts),
        "clickhouse parses": lambda: limits.clickhouse(parts, topic),
        "reading only": lambda: limits.only_reading(parts, topic),
    }
    if not quick:
        found["faust, table"] = partial(jobs.run_peer, parts, topic, faust, "faust-table", few, table=True)
        python = peers_python()
        for name in ("quix", "bytewax"):
            command = jobs.python_peer(name, python)
            found[name] = partial(jobs.run_peer, parts, topic, command, name, 50_000, sink=False)
        command = kstreams()
        found["kafka-streams"] = partial(
            jobs.run_peer, parts, topic, command, "kafka-streams", topic.total, sink=False
        )
    return found


def peers_python() -> str:
    """The Python of an environment of the peers' own, made when it is missing or out of date."""
    folder, wanted = ROOT / ".cache" / "bench-venv", HERE / "peers" / "requirements.txt"
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [
            str(folder / "bin" / "pip"),
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            str(wanted),
        ]
        subprocess.run(pip, check=True)
        stamp.write_text(wanted.read_text())
    return str(folder / "bin" / "python")


def kstreams() -> list[str]:
    """The command line of the Kafka Streams peer, built when it is missing or older than its source."""
    project, built = HERE / "peers" / "kstreams", ROOT / ".cache" / "bench-kstreams"
    source, classes = project / "src/main/java/bench/Job.java", built / "classes/bench/Job.class"
    if not classes.exists() or classes.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["mvn", "-q", "-B", "package"], cwd=project, check=True)
    return ["java", "-Xmx1g", "-cp", f"{built / 'classes'}:{built / 'lib'}/*", "bench.Job"]


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
            "broker_us": median(one.broker_s / one.records * 1e6 for one in timings),
            "store_us": median(one.store_s / one.records * 1e6 for one in timings),
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


if __name__ == "__main__":
    main()
