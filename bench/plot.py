"""RESULTS.svg from results.json; run by the bench's own environment, which has matplotlib."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

HERE = Path(__file__).resolve().parent
OWN, OTHER, LIMIT = "#1f6f8b", "#b0b7bd", "#e0c9a6"
LIMITS = ("clickhouse parses", "parsing only", "reading only")


def main() -> None:
    results = json.loads((HERE / "results.json").read_text())
    # Text stays text, and the same results give the same file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9})
    found = {
        name: one for name, one in results.get("whole", {}).get("jobs", {}).items() if "error" not in one
    }
    figure, axes = plt.subplots(1, 2, figsize=(10, 0.4 * len(found) + 1.2), sharey=True, layout="constrained")
    bars(axes[0], found, "rate", "records a second", "{:,.0f}")
    bars(axes[1], found, "cpu_us", "microseconds of CPU per record", "{:.1f}")
    figure.savefig(HERE / "RESULTS.svg", metadata={"Date": None})


def bars(axis: Any, found: dict[str, Any], what: str, title: str, form: str) -> None:
    """One bar for each job, the spread of its runs as a line; logarithmic."""
    names = list(found)
    values = [found[name][what] for name in names]
    spread = {"rate": "rates", "cpu_us": "cpus_us"}[what]
    low = [value - min(found[name][spread]) for name, value in zip(names, values, strict=True)]
    high = [max(found[name][spread]) - value for name, value in zip(names, values, strict=True)]
    colours = [OWN if "egresslens" in name else LIMIT if name in LIMITS else OTHER for name in names]
    drawn = axis.barh(names, values, xerr=[low, high], color=colours, ecolor="#555555", capsize=2)
    axis.bar_label(drawn, [form.format(value) for value in values], padding=6)
    axis.set_xscale("log")
    axis.set_title(title)
    axis.margins(x=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    if not axis.yaxis_inverted():
        axis.invert_yaxis()


if __name__ == "__main__":
    main()
