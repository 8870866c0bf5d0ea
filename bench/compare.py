"""`make bench-compare BASE=<commit>`: two commits' workers on one topic, run by run in turn."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import jobs
from parts import ROOT, Timing, fill, running


def main() -> None:
    # Ended from outside, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = argparse.ArgumentParser()
    arguments.add_argument("base", help="commit to compare the work tree with")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--records", type=int, default=400_000)
    arguments.add_argument("--kind", choices=("json", "text"), default="json")
    given = arguments.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="egresslens-bench-") as folder,
        worktree(given.base, Path(folder) / "base") as base,
        running(Path(folder)) as parts,
    ):
        topic = fill(parts, given.records, given.kind)
        seen: dict[str, list[Timing]] = {given.base: [], "work tree": []}
        for _ in range(given.rounds):
            for name, tree in ((given.base, base), ("work tree", ROOT)):
                timing = jobs.run_egresslens(parts, topic, tree=tree)
                seen[name].append(timing)
                print(f"{name:12} {line([timing])}", flush=True)
    print("medians")
    for name, timings in seen.items():
        print(f"{name:12} {line(timings)}")
    before, after = seen.values()
    print(
        f"work tree / {given.base}: records/s {mid(after, 'rate') / mid(before, 'rate'):.2f}x, "
        f"CPU {mid(after, 'cpu_us') / mid(before, 'cpu_us'):.2f}x"
    )


def line(timings: list[Timing]) -> str:
    broker = median(one.broker_us for one in timings)
    store = median(one.store_us for one in timings)
    return (
        f"{mid(timings, 'rate'):9,.0f} records/s, CPU us/record: worker {mid(timings, 'cpu_us'):.1f}, "
        f"broker {broker:.1f}, store {store:.1f}"
    )


def mid(timings: list[Timing], what: str) -> float:
    return median(getattr(one, what) for one in timings)


@contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """The files of a commit, in a folder of their own."""
    subprocess.run(
        ["git", "worktree", "add", "--detach", "--quiet", str(folder), commit], cwd=ROOT, check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(folder)], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
