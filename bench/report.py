"""results.json as Markdown and as a plot: `python bench/report.py` writes RESULTS.md, RESULTS.svg and
docs/capacity.md anew from it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jobs
from capacity import NEEDED, capacity

HERE = Path(__file__).resolve().parent
Results = dict[str, Any]
LEAVES_OUT = {
    "egresslens": "nothing: parse, label, events and windows in ClickHouse, two topics",
    "egresslens, text": "nothing; Istio's text format, a topic of its own",
    "flink": "windows topic, other formats, records more than 5 s late",
    "kafka streams": "ClickHouse, windows topic, histograms and addresses of windows, other formats",
    "faust": "windows topic, other formats, exactness after a crash",
    "faust, table": "the same; windows in a Faust table besides the dict",
    "quix": "every sink, histograms and addresses of windows, other formats",
    "bytewax": "every sink, histograms and addresses of windows, other formats, recovery",
    "clickhouse parses": "Kafka topics, most fields, other formats, exactness; CPU is the store's",
    "parsing only": "everything but fetching and parsing, one thread",
    "reading only": "everything but fetching and decompressing, by the worker's own transport",
}
INTRODUCTION = """\
Broker, store and the job share the cores. Each section says when it was measured, at which commit and under
which load before its start: above 0.5 others worked on the machine as well, and ratios say more than figures.
"""
WHOLE = """\
All read the same topic, and each run's counts per label equal the truth (windows, and events where there
are any). Median, and least to most. Start-up is not counted: a peer's clock runs from its first record to
the last acknowledged write, that of Egresslens from its worker being ready until all messages are in
`progress`; a JVM's warming up counts. Slow peers read the first records of each partition only (`read`).
`beside`: how many times as fast Egresslens is, and how many times its CPU the other needs. `broker,
store`: their CPU for each record meanwhile, microseconds.

The whole job is the same for all who do it: 52 columns of each record and 27 of each window into the
same tables of ClickHouse, every field into the enriched topic. Flink runs in local mode with two slots, a
checkpoint every 10 s and reused objects; Kafka Streams with two threads and an in-memory window store
with its changelog; Quix Streams and Bytewax with their own window operators. Flink's and Kafka Streams'
JSON is bound by Jackson; all Python peers use the standard library's.
"""


def write(results: Results) -> str:
    """Write all that shows the results; give the Markdown."""
    text = report(results)
    (HERE / "RESULTS.md").write_text(text)
    if results.keys() >= NEEDED:
        (HERE.parent / "docs" / "capacity.md").write_text(capacity(results))
    subprocess.run([jobs.bench_python(), HERE / "plot.py"], check=True)
    return text


def report(results: Results) -> str:
    """The results as Markdown."""
    lines = ["# Results", "", INTRODUCTION, "![Records per second and CPU per record](RESULTS.svg)", ""]
    for name, (title, section) in SECTIONS.items():
        if part := results.get(name):
            lines += [f"## {title}", "", _measured(part), "", *section(part), ""]
    if stored := [part for name, part in results.items() if name.startswith("stored-")]:
        lines += ["## Stored events", "", *map(_measured, stored), "", *_stored(stored), ""]
    return "\n".join(lines)


def _measured(part: Results) -> str:
    made = part["machine"]
    versions = ", ".join(f"{name} {text}" for name, text in made["versions"].items())
    return (
        f"{made['when']}, commit {made['commit']}{', quick' * made['quick']}, {part['seconds']} s; "
        f"{made['cores']} cores ({made['cpu']}), {made['memory_gb']} GB, load before {made['load']}; "
        f"{versions}."
    )


def table(heads: str, rows: list[tuple[object, ...]]) -> list[str]:
    """A Markdown table; `heads` between bars."""
    lines = [f"| {heads} |", "|" + "---|" * (heads.count("|") + 1)]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def _whole(part: Results) -> Iterator[str]:
    size = f"{part['records']:,} Istio JSON records of {part['bytes_per_record']:.0f} bytes"
    rounds = len(part["jobs"]["egresslens"]["rates"])
    yield f"{size}, {rounds} interleaved rounds."
    yield ""
    yield WHOLE
    own, rows = part["jobs"]["egresslens"], []
    for name, one in part["jobs"].items():
        if "error" in one:
            rows.append((name, "failed", *[""] * 6, one["error"].splitlines()[0][:80]))
            continue
        rows.append((
            name,
            f"{one['records']:,}",
            f"{one['rate']:,.0f}",
            f"{min(one['rates']):,.0f} to {max(one['rates']):,.0f}",
            f"{one['cpu_us']:.1f}",
            f"{min(one['cpus_us']):.1f} to {max(one['cpus_us']):.1f}",
            f"{one['broker_us']:.1f}, {one['store_us']:.1f}",
            f"{own['rate'] / one['rate']:.1f}x, {one['cpu_us'] / own['cpu_us']:.1f}x",
            LEAVES_OUT[name],
        ))  # fmt: skip
    heads = "job | read | records/s | spread | CPU us | spread | broker, store | beside | leaves out"
    yield from table(heads, rows)


def _stages(part: Results) -> Iterator[str]:
    yield "In process, alone on a core, by stage: microseconds of CPU per record."
    yield ""
    rows = [(name, f"{cost:.2f}") for name, cost in part["us"].items()]
    yield from table("stage | us/record", [*rows, ("sum", f"{sum(part['us'].values()):.2f}")])


def _formats(part: Results) -> Iterator[str]:
    yield "In process, microseconds of CPU per record (all threads), median of interleaved rounds."
    yield ""
    found, rows = part["formats"], []
    for name, one in found.items():
        clean = found["Istio text" if "text" in name else "Istio JSON"]["both"]
        low, high = one["spread"]
        costs = [f"{one[what]:.2f}" for what in ("parse", "label", "both")]
        rows.append((name, *costs, f"{low:.2f} to {high:.2f}", f"{one['both'] / clean:.2f}x"))
    yield from table("messages | parse | label | both | spread | beside clean", rows)


def _latency(part: Results) -> Iterator[str]:
    yield (
        "At a steady rate: from handing a record to Kafka's client until it is in every view, seconds. One "
        "look every 50 ms. The worker flushes once a second."
    )
    yield ""
    rows: list[tuple[object, ...]] = []
    for rate, one in part["rates"].items():
        waits = (f"{one[what]:.2f}" for what in ("p50_s", "p99_s", "most_s"))
        cores = ", ".join(f"{one[f'{who}_cores']:.2f}" for who in ("worker", "broker", "store"))
        rows.append((f"{int(rate):,}", f"{one['records']:,}", *waits, cores))
    yield from table("records/s | records | p50 | p99 | longest | cores: worker, broker, store", rows)


def _workers(part: Results) -> Iterator[str]:
    yield (
        "Workers of one group on the topic of four partitions, from the moment the last of them is ready. On "
        "two cores with broker and store more workers cannot be faster; what they show is the CPU a record "
        "costs with more of them (`per core`: records a second for each core of worker CPU)."
    )
    yield ""
    rows = [
        (
            count,
            f"{one['counted']:,.0f}",
            f"{one['rate']:,.0f}",
            f"{one['cpu_us']:.1f}",
            f"{one['broker_us']:.1f}, {one['store_us']:.1f}",
            f"{1e6 / one['cpu_us']:,.0f}",
        )
        for count, one in part["counts"].items()
    ]
    yield from table("workers | counted | records/s | CPU us (all workers) | broker, store | per core", rows)


_COSTS = "records/s | CPU us | broker us | store us"


def _cost(one: Results) -> tuple[str, ...]:
    costs = (f"{one[what]:.1f}" for what in ("cpu_us", "broker_us", "store_us"))
    return (f"{one['rate']:,.0f}", *costs)


def _pairs(part: Results) -> Iterator[str]:
    yield f"The whole job over topics of {part['records']:,} records, one run; windows alone in process."
    yield ""
    rows: list[tuple[object, ...]] = [
        (
            f"{int(count):,}",
            f"{one['open_keys']:,}",
            f"{one['rows_per_unit']:,.0f}",
            f"{one['windows_us']:.2f}",
            *_cost(one),
        )
        for count, one in part["runs"].items()
    ]
    yield from table(f"pairs | open keys | rows per 50,000 | windows us | {_COSTS}", rows)
    yield ""
    yield f"100,000 open window keys hold {part['memory_per_100k_keys'] / 2**20:.0f} MiB."


def _runs(head: str) -> Callable[[Results], Iterator[str]]:
    def section(part: Results) -> Iterator[str]:
        yield f"The whole job over topics of {part['records']:,} records, one run."
        yield ""
        rows: list[tuple[object, ...]] = [
            (f"{int(count):,}", *_cost(one)) for count, one in part["runs"].items()
        ]
        yield from table(f"{head} | {_COSTS}", rows)

    return section


def _stored(found: list[Results]) -> Iterator[str]:
    yield (
        "Real records copied by ClickHouse over the 24 hours before, with their 1-minute windows "
        "(bench/stored.py); hours rolled up. Milliseconds, median of nine (longest); asked as `egresslens "
        "report --since 24h` and `egresslens events` do. The aims: below 100 ms for reports, 300 ms for "
        "single records."
    )
    yield ""
    rows: list[tuple[object, ...]] = []
    for name in found[0]["queries"]:
        asked = [one["queries"][name] for one in found]
        times = (f"{q['p50_s'] * 1000:,.0f} ({q['most_s'] * 1000:,.0f}), {q['rows']:,} rows" for q in asked)
        rows.append((name, *times))
    columns = " | ".join(f"{one['millions']} million events" for one in found)
    yield from table(f"question | {columns}", rows)
    yield ""
    rows = []
    for one in found:
        kept = one["disk"]
        tables = ("raw_events", "raw_windows_1m", "raw_windows_1h")
        sizes = (f"{kept[name]['bytes_per_row']:.0f} ({kept[name]['rows']:,})" for name in tables)
        record = f"{one['record']['cpu_us']:.1f}, {one['record']['store_us']:.1f}"
        rows.append((one["millions"], *sizes, f"{one['roll_up_s']:.1f}", record))
    heads = "million events | bytes per event (rows) | per minute's row | per hour's row | rolling up, s"
    yield from table(f"{heads} | one more record: worker, store us", rows)


SECTIONS: dict[str, tuple[str, Callable[[Results], Iterator[str]]]] = {
    "whole": ("The whole job", _whole),
    "stages": ("Where the CPU of the worker goes", _stages),
    "formats": ("Parse and label by format", _formats),
    "latency": ("Latency", _latency),
    "workers": ("One, two and four workers", _workers),
    "pairs": ("How the cost grows with the pairs of source and destination", _pairs),
    "partitions": ("How it grows with partitions", _runs("partitions")),
    "spans": ("How it grows with the time a topic spans", _runs("seconds of events")),
}


if __name__ == "__main__":
    write(json.loads((HERE / "results.json").read_text()))
