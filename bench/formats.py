"""CPU per record of parse + label, format by format, in process: clean, odd, and with 1% garbage.

All variants hold the same records; the rounds are interleaved, so that a busy machine burdens all alike.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from statistics import median

import polars as pl

from egresslens.label import label
from egresslens.parse import parse
from egresslens.rules import Rules
from traffic import Traffic

BATCH = 50_000
_GARBAGE = (
    b'{"start_time":"2026-01-02T03:04:05.678Z","upstream_cluster":',
    b"[2026-01-02T03:04:05.678Z] nothing that anybody would log",
    b"\x00\xff\xfe not a record at all",
    b'{"level":"info","nothing":[1,2,3]}',
)


@dataclass(frozen=True)
class Cost:
    """Microseconds of CPU per record; `spread` is (least, most)."""

    parse: float
    label: float
    both: float
    spread: tuple[float, float]
    records: int
    rejects: int


def variants(count: int = BATCH) -> dict[str, list[bytes]]:
    """Name -> messages."""
    first = int(time.time() * 1000) - 3_600_000
    lines = [text.encode() for *_, text in Traffic(first).take(count, "json")]
    texts = [text.encode() for *_, text in Traffic(first).take(count, "text")]
    return {
        "Istio JSON": lines,
        "Istio text": texts,
        "Fluent Bit + JSON": [_fluent_bit(n, line) for n, line in enumerate(lines)],
        "Fluent Bit + text": [_fluent_bit(n, line) for n, line in enumerate(texts)],
        "Filebeat + JSON": [_filebeat(n, line) for n, line in enumerate(lines)],
        "Filebeat + text": [_filebeat(n, line) for n, line in enumerate(texts)],
        "CRI prefix + text": [b"2026-01-02T03:04:05.678901234Z stdout F " + line for line in texts],
        "Istio JSON, 1% garbage": _spoilt(lines),
        "Istio text, 1% garbage": _spoilt(texts),
        "Istio text, 1% odd (quotes in headers)": _odd(texts),
    }


def measure(rounds: int, wanted: dict[str, list[bytes]] | None = None) -> dict[str, Cost]:
    """Median cost of each variant over interleaved rounds."""
    given = wanted or variants()
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in given}
    sizes: dict[str, tuple[int, int]] = {}
    rules = Rules()
    for _ in range(rounds + 1):
        for name, values in given.items():
            at = time.process_time()
            parsed = parse(values, rules)
            between = time.process_time()
            label(parsed.records, rules)
            end = time.process_time()
            seen[name].append(((between - at) / len(values) * 1e6, (end - between) / len(values) * 1e6))
            sizes[name] = (parsed.records.height, parsed.rejects.height)
    costs = {}
    for name, pairs in seen.items():
        warm = pairs[1:]
        both = [a + b for a, b in warm]
        costs[name] = Cost(
            median(a for a, _ in warm),
            median(b for _, b in warm),
            median(both),
            (min(both), max(both)),
            *sizes[name],
        )
    return costs


def _fluent_bit(number: int, line: bytes) -> bytes:
    return json.dumps(
        {
            "@timestamp": "2026-01-02T03:04:05.678Z",
            "log": line.decode() + "\n",
            "stream": "stdout",
            "kubernetes": {
                "pod_name": f"web-7d4b9c6f5-{number % 500:05d}",
                "namespace_name": f"shop-{number % 20}",
                "container_name": "istio-proxy",
                "labels": {"app": f"web-{number % 100}", "pod-template-hash": "7d4b9c6f5"},
                "host": f"node-{number % 50}",
            },
        }
    ).encode()


def _filebeat(number: int, line: bytes) -> bytes:
    return json.dumps(
        {
            "@timestamp": "2026-01-02T03:04:05.678Z",
            "@metadata": {"beat": "filebeat", "type": "_doc", "version": "8.14.0"},
            "message": line.decode(),
            "stream": "stdout",
            "kubernetes": {
                "pod": {"name": f"web-7d4b9c6f5-{number % 500:05d}", "uid": f"{number % 500:036d}"},
                "namespace": f"shop-{number % 20}",
                "container": {"name": "istio-proxy"},
                "deployment": {"name": f"web-{number % 100}"},
                "node": {"name": f"node-{number % 50}"},
            },
            "agent": {"type": "filebeat", "version": "8.14.0"},
        }
    ).encode()


def _spoilt(lines: list[bytes]) -> list[bytes]:
    chance = random.Random(3)
    return [chance.choice(_GARBAGE) if number % 100 == 50 else line for number, line in enumerate(lines)]


def _odd(texts: list[bytes]) -> list[bytes]:
    return [
        line.replace(b"python-requests", b'py"thon" requests').replace(b"Go-http", b'Go"http')
        if number % 25 == 0
        else line
        for number, line in enumerate(texts)
    ]


if __name__ == "__main__":
    for name, cost in measure(5).items():
        spread = f"{cost.spread[0]:.2f}-{cost.spread[1]:.2f}"
        costs = f"{cost.parse:6.2f} {cost.label:6.2f} {cost.both:6.2f}"
        print(f"{name:40} {costs}  {spread}  {cost.records} {cost.rejects}")
    print(pl.thread_pool_size(), "threads")
