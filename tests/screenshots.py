"""Take the README's pictures anew: the console's views on the demo's data, into docs/images/.

`make screenshots` runs it. It needs what `egresslens demo` needs, and Chromium.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

IMAGES = Path(__file__).parents[1] / "docs" / "images"
# What the demo says.
STAYS = "Ctrl-C stops everything"
CONSOLE = "See it, in a browser"
WIDE = {"width": 1200, "height": 900}
TALL = {"width": 1200, "height": 1150}
PHONE = {"width": 390, "height": 844}


def main() -> None:
    expect.set_options(timeout=60_000)
    IMAGES.mkdir(exist_ok=True)
    with demo() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        take(browser, url, "overview", "", TALL)
        edge = json.dumps(["demo", "shop", "idgen", None, "blackhole", "httpbin.org", 80, None])
        take(browser, url, "edge-dark", f"&edge={edge}", WIDE, dark=True)
        take(browser, url, "advice", "&view=advice", WIDE)
        take(browser, url, "phone", "", PHONE, at="#graph-title")
        browser.close()


def take(
    browser: Browser,
    url: str,
    name: str,
    query: str,
    size: dict[str, int],
    *,
    dark: bool = False,
    at: str = "",
) -> None:
    """Take one picture of what is seen without scrolling, or with `at` on top."""
    context = browser.new_context(
        viewport=size, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(f"{url}?since=15m{query}")
    expect(page.locator("body:not(.loading) #view h1")).to_be_visible()
    expect(page.locator("#view .graph, #view .cards")).to_be_visible()
    expect(page.locator("#panel .bone")).to_have_count(0)
    expect(page.locator("#view .notice")).to_have_count(0)  # all is judged
    if at:
        page.locator(at).evaluate("element => scrollTo(0, element.getBoundingClientRect().top - 60)")
    page.screenshot(path=IMAGES / f"{name}.png")
    context.close()


@contextmanager
def demo() -> Iterator[str]:
    """Run the demo, and give its console's URL once the traffic is stored; end it afterwards."""
    child = subprocess.Popen(
        [sys.executable, "-c", "from egresslens.cli import main; main()", "demo"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    lines = []
    try:
        for line in child.stdout:
            lines.append(line.strip())
            if line.startswith(STAYS):
                yield lines[lines.index(CONSOLE) + 1]
                return
        raise SystemExit(f"the demo ended with code {child.wait()}")
    finally:
        child.send_signal(signal.SIGINT)
        child.wait(60)
        child.stdout.close()


if __name__ == "__main__":
    main()
