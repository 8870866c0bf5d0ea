"""`python -m chaos.soak`: a steady rate for a while, memory and lag over time.

MINUTES, RATE and SEED in the environment change it. Nothing is killed. In the end progress, windows,
destinations and dead letters equal the truth, as in chaos.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from chaos import check
from chaos.parts import Parts, Sender, patiently, running
from chaos.traffic import make
from chaos.truth import truth

_EVERY_S: Final = 10.0
# The first half is left out of the slopes: what is bounded fills up. The traffic names a new pod with every
# eightieth message, so that the caches of what is known of pods (parse.source) are full after some 14 minutes
# at this rate; its late records touch every minute of a day, whose windows would be held until there are as
# many as this.
_WARM: Final = 1 / 2
_WINDOW_KEYS: Final = 50_000
# Growth that is called flat, per hour: less than what allocators move to and fro.
_FLAT_MB: Final = 60.0


@dataclass
class Series:
    """What was measured, every few seconds."""

    seconds: list[float] = field(default_factory=list)
    lag: list[int] = field(default_factory=list)
    memory: dict[str, list[float]] = field(default_factory=dict)

    def take(self, seconds: float, lag: int, memory: dict[str, float]) -> None:
        """Add one measurement."""
        self.seconds.append(seconds)
        self.lag.append(lag)
        for name, value in memory.items():
            self.memory.setdefault(name, []).append(value)

    def slope(self, values: list[float] | list[int]) -> float:
        """Growth per hour, after the warm-up."""
        first = int(len(values) * _WARM)
        per_second = np.polyfit(self.seconds[first:], values[first:], 1)[0]
        return float(per_second * 3600)

    def text(self) -> str:
        """Start, end and slope of each part, and of the lag."""
        first = int(len(self.lag) * _WARM)
        lines = [
            f"{name}: {values[first]:.0f} MB after the warm-up, {values[-1]:.0f} MB at the end, "
            f"{max(values):.0f} MB at most, {self.slope(values):+.0f} MB per hour"
            for name, values in self.memory.items()
        ]
        half = self.lag[first : (first + len(self.lag)) // 2], self.lag[(first + len(self.lag)) // 2 :]
        means = [sum(part) / len(part) for part in half]
        lines.append(
            f"lag: {means[0]:.0f} messages in the first half, {means[1]:.0f} in the second, on average"
        )
        return "\n".join(lines)


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def lag(parts: Parts, sent: int) -> int:
    """Messages sent and not stored yet."""
    return max(0, sent - sum(last + 1 for last, _ in patiently(parts.progress).values()))


def soak(folder: Path, seed: int, minutes: float, rate: int) -> tuple[Series, list[str]]:
    """Run; the measurements, and what is not true in the end."""
    count, partitions = int(minutes * 60 * rate), 4
    traffic = make(seed, count, partitions)
    series = Series()
    with running(
        folder, TOPIC_PARTITIONS=str(partitions), FLUSH_INTERVAL_S="1", MAX_WINDOW_KEYS=str(_WINDOW_KEYS)
    ) as parts:
        sender = Sender(parts.broker.bootstrap, parts.deployment.topic, traffic, folder / "sender.log")
        try:
            for number in range(2):
                parts.join(f"worker {number}").worker.wait_ready()
            began, due = time.monotonic(), 0.0
            while (seconds := time.monotonic() - began) < minutes * 60:
                sender.release(min(count, int(seconds * rate)))
                if seconds >= due:
                    due += _EVERY_S
                    memory = {one.name: resident_mb(one.worker.child.pid) for one in parts.workers}
                    memory["store"] = resident_mb(parts.store.pid)
                    series.take(seconds, lag(parts, sender.sent), memory)
                    numbers = " ".join(f"{name} {value:.0f} MB" for name, value in memory.items())
                    print(f"{seconds:6.0f} s  lag {series.lag[-1]:,}  {numbers}", flush=True)
                time.sleep(0.2)
            sender.release(count)
            deadline = time.monotonic() + 120
            while sender.sent < count or lag(parts, count):
                assert time.monotonic() < deadline, "what was sent was not read"
                time.sleep(0.2)
            problems = [f"{one.name} has restarted: {one.codes}" for one in parts.workers if one.codes]
            placed = check.places(parts.broker.bootstrap, parts.deployment.topic, partitions)
            found = truth(traffic, placed)
            problems += check.progress_problems(parts, found, partitions)
            problems += check.dead_letter_problems(parts, found)
            problems += check.windows_problems(parts, found)
            problems += check.destination_problems(parts, found)
        finally:
            sender.stop()
    return series, problems


def main() -> None:
    """Run it, print the figures; end with 1 if memory or lag grows, or anything is not true."""
    minutes = float(os.environ.get("MINUTES") or 30)
    rate = int(os.environ.get("RATE") or 7_000)
    with tempfile.TemporaryDirectory(prefix="egresslens-soak-") as folder:
        series, problems = soak(Path(folder), int(os.environ.get("SEED") or 1), minutes, rate)
    print(series.text())
    # Over a few minutes a slope per hour says nothing.
    long_enough = minutes >= 20
    workers = [name for name in series.memory if name.startswith("worker")]
    growing = [name for name in workers if long_enough and series.slope(series.memory[name]) > _FLAT_MB]
    problems += [f"{name} grows" for name in growing]
    print("\n".join(problems) or f"{rate:,} messages a second for {minutes:g} minutes: all is true")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
