"""results.json as Markdown: `python bench/report.py` writes RESULTS.md anew from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LEAVES_OUT = {
    "egresslens": "nothing: parse, label, events and windows in ClickHouse, two topics",
    "egresslens, text": "nothing; Istio's text format, a topic of its own",
    "faust": "windows topic, 25 of the 45 fields, other formats, exactness after a crash",
    "faust, table": "the same; windows in a Faust table besides the dict",
    "clickhouse parses": "Kafka topics, 25 fields, other formats, exactness; CPU is the store's",
    "reading only": "everything but fetching and decompressing, by the worker's own transport",
    "kafka-streams": "events, ClickHouse, topics, 25 fields, state stores; one thread",
    "quix": "events, ClickHouse, topics, 25 fields, other formats, exactness",
    "bytewax": "events, ClickHouse, topics, 25 fields, other formats, exactness",
}
NOTES = """\
Broker, store and the job share the cores. A load above 1 before the start means that others worked on the
machine as well: then the ratios say more than the figures.

Each job reads the same topic, the runs are interleaved, and each run's counts per label (events and windows)
equal the truth. Median, and least to most. `beside`: how many times as fast Egresslens is, and how many times
its CPU the other needs. `broker, store`: their CPU for each record meanwhile.
"""


def report(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    topic = results["topic"]
    lines = [
        "# Results",
        "",
        _machine(results),
        "",
        NOTES,
        f"## The whole job: {topic['records']:,} Istio JSON records of {topic['bytes_per_record']:.0f} bytes",
        "",
        *_jobs(results["jobs"]),
        "",
        "## Where the CPU of the worker goes",
        "",
        "In process, by stage, microseconds per record.",
        "",
        "| stage | us/record |",
        "|---|---|",
        *(f"| {name} | {cost:.2f} |" for name, cost in results["stages"].items()),
        f"| sum | {sum(results['stages'].values()):.2f} |",
        "",
        "## Parse and label by format",
        "",
        "In process, microseconds of CPU per record (all threads), median of interleaved rounds.",
        "",
        *_formats(results["formats"]),
        "",
        f"The run took {results['seconds']:.0f} s.",
        "",
    ]
    return "\n".join(lines)


def _machine(results: dict[str, Any]) -> str:
    made = results["machine"]
    versions = ", ".join(f"{name} {text}" for name, text in made["versions"].items())
    command = f"`make bench{' QUICK=1' if results['quick'] else ''}`"
    return (
        f"{command}, {made['when']}, commit {made['commit']}, {made['cores']} cores ({made['cpu']}), "
        f"{made['memory_gb']} GB, load before the start {made['load']:.1f}; "
        f"Python {made['python']}, {versions}."
    )


def _jobs(found: dict[str, Any]) -> list[str]:
    own = found["egresslens"]
    lines = [
        "| job | read | records/s | spread | CPU us | spread | broker, store | beside | leaves out |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        aside = f"{one['broker_us']:.1f}, {one['store_us']:.1f}" if one["broker_us"] else ""
        cells = (
            name,
            f"{one['records']:,}",
            f"{one['rate']:,.0f}",
            f"{min(one['rates']):,.0f} to {max(one['rates']):,.0f}",
            f"{one['cpu_us']:.1f}",
            f"{min(one['cpus_us']):.1f} to {max(one['cpus_us']):.1f}",
            aside,
            f"{own['rate'] / one['rate']:.1f}x, {one['cpu_us'] / own['cpu_us']:.1f}x",
            LEAVES_OUT[name],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _formats(found: dict[str, Any]) -> list[str]:
    lines = ["| messages | parse | label | both | spread | beside clean |", "|---|---|---|---|---|---|"]
    for name, one in found.items():
        clean = found["Istio text" if "text" in name else "Istio JSON"]["both"]
        low, high = one["spread"]
        costs = " | ".join(f"{one[what]:.2f}" for what in ("parse", "label", "both"))
        lines.append(f"| {name} | {costs} | {low:.2f} to {high:.2f} | {one['both'] / clean:.2f}x |")
    return lines


if __name__ == "__main__":
    (HERE / "RESULTS.md").write_text(report(json.loads((HERE / "results.json").read_text())))
