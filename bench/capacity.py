"""docs/capacity.md from results.json: `bench/report.py` writes it, and a test holds the two together."""

# ruff: noqa: E501 - a row of a Markdown table is one line
from __future__ import annotations

from math import ceil, log2, log10
from typing import Any

# Parts of results.json that the page needs.
NEEDED = frozenset({"whole", "latency", "workers", "pairs", "partitions", "spans", "stored-1"})

WORKLOADS = 10_000
REQUESTS = 1_000_000
# Assumptions, said on the page.
KEYS_PER_WORKLOAD = 40
OPEN_MINUTES = 3
BUSY = 0.5
REPLICAS = 3
SHARD_CORES = 16
DAY_S = 86_400


def capacity(results: dict[str, Any]) -> str:
    """The page as Markdown."""
    own = results["whole"]["jobs"]["egresslens"]
    # The largest that was measured.
    stored = max(
        (part for name, part in results.items() if name.startswith("stored-")),
        key=lambda one: one["millions"],
    )
    pairs = results["pairs"]
    loads = [part["machine"]["load"] for part in results.values()]
    disk = stored["disk"]
    kafka = results["workers"]["kafka_bytes_per_record"]
    cores = {who: REQUESTS * own[name] / 1e6 for who, name in COSTS.items()}
    workers = ceil(cores["workers"] / BUSY)
    partitions = 2 ** ceil(log2(workers * 1.5))
    store_cores = cores["ClickHouse"] / BUSY
    shards = ceil(store_cores / SHARD_CORES)
    per_minute = WORKLOADS * KEYS_PER_WORKLOAD
    rows = {
        "raw_events": REQUESTS * DAY_S,
        "raw_windows_1m": per_minute * 1_440,
        "raw_windows_1h": per_minute * 24,
    }
    per_day = {name: count * disk[name]["bytes_per_row"] for name, count in rows.items()}
    open_bytes = per_minute * OPEN_MINUTES / 100_000 * pairs["memory_per_100k_keys"]
    topic_day = {name: REQUESTS * DAY_S * size for name, size in kafka.items()}
    rate = results["latency"]["rates"]["20000"]
    (fewest, first), (most, last) = _ends(pairs["runs"])
    (few, four), (many, sixty_four) = _ends(results["partitions"]["runs"])
    day = results["spans"]["runs"][str(DAY_S)]
    slowest = max(one["p50_s"] for one in stored["queries"].values())
    return f"""\
# Capacity

From measured figures to a mesh of your size. `bench/report.py` writes this page from `bench/results.json`: the
measured figures and what is computed from them change together. What is assumed is said so.

## Measured

Two cores that worker, broker and store share; see [the results](../bench/RESULTS.md) for when and how. The load
before each part was {min(loads)} to {max(loads)}: above 0.5 others worked on the machine as well, which burdens times more
than CPU per record.

| what | figure |
|---|---|
| worker, whole job | {own["cpu_us"]:.1f} us of CPU per Istio JSON record |
| store, inserting events and windows, with its merges meanwhile | {own["store_us"]:.1f} us |
| broker, one topic in, two out | {own["broker_us"]:.1f} us |
| windows alone, {int(fewest):,} to {int(most):,} pairs | {first["windows_us"]:.2f} to {last["windows_us"]:.2f} us |
| worker with {few} and {many} partitions | {four["cpu_us"]:.1f} and {sixty_four["cpu_us"]:.1f} us |
| worker on a backfill that spans a day | {day["cpu_us"]:.1f} us, the store {day["store_us"]:.1f} us |
| memory per 100,000 open window keys | {pairs["memory_per_100k_keys"] / 2**20:.0f} MiB |
| from Kafka to every view at 20,000 records/s | p50 {rate["p50_s"]:.2f} s, p99 {rate["p99_s"]:.2f} s |
| disk per event | {disk["raw_events"]["bytes_per_row"]:.0f} bytes |
| disk per row of a minute, of an hour | {disk["raw_windows_1m"]["bytes_per_row"]:.0f}, {disk["raw_windows_1h"]["bytes_per_row"]:.0f} bytes |
| slowest of the measured questions at {stored["millions"]} million events a day | {slowest * 1000:,.0f} ms |
| Kafka, zstd: access log, enriched, windows | {", ".join(f"{size:.0f}" for size in kafka.values())} bytes per record |

## {WORKLOADS:,} workloads, {REQUESTS:,} requests a second

Assumed: each request is one stored record; each workload has {KEYS_PER_WORKLOAD} window keys a minute (destination, port,
protocol, response code); {OPEN_MINUTES} minutes of windows are open; machines are planned for {BUSY:.0%} of their CPU, so that a
backlog of an hour is gone in an hour; Kafka keeps {REPLICAS} copies. Cores are of the kind measured.

| part | needs |
|---|---|
| CPU at full load | {cores["workers"]:.0f} cores for workers, {cores["ClickHouse"]:.0f} for ClickHouse, {cores["Kafka"]:.0f} for Kafka (its leaders; followers copy on top) |
| workers | {workers}, one core each: one event loop, one Polars thread |
| partitions of the access log | {partitions}: one and a half per worker, rounded up to a power of two |
| memory of open windows | {open_bytes / 2**30:.1f} GiB over all workers, {open_bytes / 2**20 / workers:.0f} MiB each, on top of what a worker needs at rest |
| ClickHouse shards of {SHARD_CORES} cores | {shards} for inserting; as many again where dashboards ask all day |
| disk, events | {_size(per_day["raw_events"])} a day; {_size(per_day["raw_events"] * 30)} for 30 days (`EGRESSLENS_EVENTS_TTL_DAYS`) |
| disk, minutes | {_size(per_day["raw_windows_1m"])} a day; {_size(per_day["raw_windows_1m"] * 90)} for 90 days (`EGRESSLENS_WINDOWS_1M_TTL_DAYS`) |
| disk, hours | {_size(per_day["raw_windows_1h"])} a day; {_size(per_day["raw_windows_1h"] * 400)} for 400 days (`EGRESSLENS_WINDOWS_1H_TTL_DAYS`) |
| disk, days and destinations | below a tenth of the hours |
| Kafka, access log | {_size(topic_day["access log"] * REPLICAS)} a day with {REPLICAS} copies; a day's retention outlasts a night without ClickHouse |
| Kafka, enriched and windows | {_size((topic_day["enriched"] + topic_day["windows"]) * REPLICAS)} a day; `EGRESSLENS_PUBLISH_ENRICHED=false` where nobody reads them |

ClickHouse replicas each hold all of that again.

## What breaks first

1. **The CPU of the workers.** Past what the partitions allow no worker can be added: plan partitions first. The lag grows,
   nothing is lost while Kafka keeps the records.
2. **Kafka's retention.** Records that it dropped before they were read are gone; they are counted as gaps.
3. **The disk for events**: {_share(per_day)} of all the disk. Shorten `EGRESSLENS_EVENTS_TTL_DAYS`: windows keep answering.
4. **Many more keys per minute** (a workload that calls thousands of hosts): windows' CPU, rows and memory follow the
   keys. `EGRESSLENS_MAX_DESTINATIONS` bounds them.

One machine is enough up to about {_one_machine(own):,} records a second for each pair of cores like those measured.
"""


# Part -> what a record costs it, in results.json.
COSTS = {"workers": "cpu_us", "ClickHouse": "store_us", "Kafka": "broker_us"}


def _one_machine(own: dict[str, Any]) -> int:
    """Half of what the whole job reached, in thousands."""
    return round(own["rate"] * BUSY / 1000) * 1000


def _share(per_day: dict[str, float]) -> str:
    """The events' part of all the disk, each tier kept as long as its default."""
    kept = {name: size * days for (name, size), days in zip(per_day.items(), (30, 90, 400), strict=True)}
    return f"{kept['raw_events'] / sum(kept.values()):.0%}"


def _size(size: float) -> str:
    power = min(4, max(2, int(log10(size) // 3))) if size >= 1 else 2
    return f"{size / 1000**power:.1f} {('MB', 'GB', 'TB')[power - 2]}"


def _ends(runs: dict[str, Any]) -> tuple[tuple[str, Any], tuple[str, Any]]:
    """The first and the last."""
    every = list(runs.items())
    return every[0], every[-1]
