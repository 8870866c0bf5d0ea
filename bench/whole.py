"""The whole job by every program, interleaved, and the limits: what `make bench` is first of all about."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import jobs
import limits
from clickhouse_connect.driver.exceptions import ClickHouseError
from parts import Filled, Parts, Timing, check, fill, say

Job = Callable[[], Timing]


def whole_jobs(parts: Parts, topic: Filled, texts: Filled, *, quick: bool) -> dict[str, Job]:
    """Name -> one run. Slow peers read fewer records of the same topic."""
    few = 2_500 if quick else 10_000
    faust = jobs.python_peer("faust")
    peer = partial(jobs.run_peer, parts, topic)
    found = {
        "egresslens": lambda: jobs.run_egresslens(parts, topic),
        "flink": partial(peer, jobs.java_peer("Flink"), "flink", topic.total),
        "faust": partial(peer, faust, "faust", few),
        "egresslens, text": lambda: jobs.run_egresslens(parts, texts),
        "clickhouse parses": lambda: limits.clickhouse(parts, topic),
        "parsing only": lambda: limits.only_parsing(parts, topic),
        "reading only": lambda: limits.only_reading(parts, topic),
    }
    if not quick:
        streams = jobs.java_peer("Streams")
        found |= {
            "kafka streams": partial(peer, streams, "kafka-streams", topic.total // 8, sink=False),
            "faust, table": partial(peer, faust, "faust-table", few, table=True),
        }
        python = jobs.bench_python()
        for name in ("quix", "bytewax"):
            found[name] = partial(peer, jobs.python_peer(name, python), name, few, sink=False)
    return found


def hold_together(parts: Parts, records: int = 12_000) -> None:
    """Let all who do the whole job do it on a small topic: every column of every row must be the same.

    Raises:
        RuntimeError: one stores something else than Egresslens.
    """
    topic = fill(parts, records)
    own = jobs.run_egresslens(parts, topic, hashed=True).stored
    for name, command in (("flink", jobs.java_peer("Flink")), ("faust", jobs.python_peer("faust"))):
        found = jobs.run_peer(parts, topic, command, name, topic.total, hashed=True).stored
        check(found, own, f"{name}, all columns")
        say(f"{name} stores what egresslens stores, every column of {sum(own.values())} rows")


def compare(todo: dict[str, Job], rounds: int, budget_s: float) -> dict[str, Any]:
    """Run each job once per round; no more rounds than fit into the budget, but one at least.

    A job that fails is named with its error, and the others go on.
    """
    began = time.monotonic()
    seen: dict[str, list[Timing]] = {name: [] for name in todo}
    failed: dict[str, str] = {}
    for number in range(rounds):
        if number and (time.monotonic() - began) * (number + 1) / number > budget_s:
            say(f"no time for round {number + 1}")
            break
        for name, job in todo.items():
            if name in failed:
                continue
            try:
                timing = job()
            except (RuntimeError, TimeoutError, subprocess.SubprocessError, ClickHouseError) as error:
                failed[name] = str(error)[-1000:]
                say(f"round {number + 1}: {name:17} failed: {error}")
                continue
            seen[name].append(timing)
            say(f"round {number + 1}: {name:17} {timing.rate:9,.0f} records/s {timing.cpu_us:7.1f} us CPU")
    return {name: {"error": failed[name]} if name in failed else _of(seen[name]) for name in todo}


def _of(timings: list[Timing]) -> dict[str, Any]:
    return {
        "records": timings[0].records,
        "rate": median(one.rate for one in timings),
        "rates": [one.rate for one in timings],
        "cpu_us": median(one.cpu_us for one in timings),
        "cpus_us": [one.cpu_us for one in timings],
        "broker_us": median(one.broker_us for one in timings),
        "store_us": median(one.store_us for one in timings),
    }
