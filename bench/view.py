"""The console's first picture beside 10 million events: what the API and the page take, in a real browser.

The store is filled as in reports.py, whose `FOLDER` of the same day it takes. `drawn` is from the navigation
to the frame that the page has drawn, in milliseconds; CPU is what that took meanwhile. `EVENTS` (10,000,000),
`ROUNDS` (9).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from statistics import median

from parts import cpu_seconds, egresslens, inherited
from playwright.sync_api import Browser, sync_playwright
from reports import environment, filled

from egresslens.store.process import StoreProcess

RANGE = "since=30h"
GRAPH = "group_source=auto&group_destination=auto&limit=2000&measure=requests"
# What the page asks at first.
ASKED = {"meta": f"meta?{RANGE}", "graph": f"graph?{RANGE}&{GRAPH}", "timeline": f"timeline?{RANGE}"}
# Says when the frame with the picture is done, without anybody asking for frames.
TELLS = """new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (one.name === 'egresslens draw')
    requestAnimationFrame(() => setTimeout(() => console.debug('drawn', performance.now())));
}).observe({type: 'measure'})"""


def main() -> None:
    # Ended from outside, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with filled() as (_, running):
        measure(running, int(os.environ.get("ROUNDS", "9")))


def measure(running: StoreProcess, rounds: int) -> None:
    """Print two tables: each question alone, and the first picture."""
    console = subprocess.Popen(
        egresslens("console", "--port", "0"),
        env=inherited() | environment(running),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = re.search(r"http://\S+", console.stdout.readline())[0]
        print(f"\nLoad before the start: {os.getloadavg()[0]:.1f}")
        print("\n| question | ms | CPU of the store | bytes |\n|---|---|---|---|")
        for name, path in ASKED.items():
            asked(running, url, path)  # the first look fills caches
            ms, cpu, size = zip(*(asked(running, url, path) for _ in range(rounds)), strict=True)
            print(f"| {name} | {spread(ms)} | {spread(cpu)} | {size[0]:,} |", flush=True)
        print("\n| drawn | CPU of the store | CPU of the console |\n|---|---|---|")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            look(browser, url)
            looks = []
            for _ in range(rounds):
                before = cpu_seconds(running.pid), cpu_seconds(console.pid)
                ms = look(browser, url)
                after = cpu_seconds(running.pid), cpu_seconds(console.pid)
                looks.append((ms, *((b - a) * 1000 for a, b in zip(before, after, strict=True))))
            print(f"| {' | '.join(spread(one) for one in zip(*looks, strict=True))} |")
            browser.close()
    finally:
        console.terminate()
        console.wait()


def asked(running: StoreProcess, url: str, path: str) -> tuple[float, float, int]:
    """Milliseconds, those of the store's CPU, and how long the answer is."""
    at, cpu = time.monotonic(), cpu_seconds(running.pid)
    with urllib.request.urlopen(f"{url}api/v1/{path}", timeout=60) as answer:
        size = len(answer.read())
    return (time.monotonic() - at) * 1000, (cpu_seconds(running.pid) - cpu) * 1000, size


def look(browser: Browser, url: str) -> float:
    """Open the page anew and give the milliseconds until it is drawn."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.add_init_script(TELLS)
    time.sleep(0.5)  # an empty page's beginning is not the console's
    with page.expect_console_message(lambda said: said.text.startswith("drawn")) as told:
        page.goto(f"{url}?{RANGE}", wait_until="commit")
    page.close()
    return float(told.value.text.split()[1])


def spread(values: tuple[float, ...]) -> str:
    """Median, and least to most."""
    return f"{median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


if __name__ == "__main__":
    main()
