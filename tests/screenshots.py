"""Take the README's pictures anew: the console's views on the demo's data, into docs/images/.

`make screenshots` runs it. It needs what `egresslens demo` needs, and Chromium.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

COMMAND = [sys.executable, "-c", "from egresslens.cli import main; main()"]
IMAGES = Path(__file__).parents[1] / "docs" / "images"
STAYS = "Ctrl-C stops everything"
WIDE = {"width": 1280, "height": 960}
PHONE = {"width": 390, "height": 844}


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="egresslens-screenshots-") as folder:
        state = Path(folder) / "demo"
        demo = [*COMMAND, "demo", "--dir", str(state)]
        console = [*COMMAND, "console", "--port", "0", "--config", str(state / "settings.toml")]
        with said(demo, STAYS), said(console, "http://") as line, sync_playwright() as playwright:
            url = line[line.index("http://") :].strip()
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            take(browser, url, "overview", "", WIDE)
            edge = json.dumps(["demo", "shop", "idgen", None, "blackhole", "httpbin.org", 80, None])
            take(browser, url, "edge-dark", f"&edge={edge}", WIDE, dark=True)
            take(browser, url, "advice", "&view=advice", WIDE)
            take(browser, url, "phone", "", PHONE)
            browser.close()


def take(
    browser: Browser, url: str, name: str, query: str, size: dict[str, int], *, dark: bool = False
) -> None:
    """Take one picture of what is seen without scrolling."""
    context = browser.new_context(viewport=size, color_scheme="dark" if dark else "light")
    page = context.new_page()
    page.goto(f"{url}?since=15m&live=off{query}")
    expect(page.locator("body:not(.loading) #view h1")).to_be_visible()
    expect(page.locator("#view .graph, #view .cards")).to_be_visible()
    expect(page.locator("#panel .bone")).to_have_count(0)
    page.screenshot(path=IMAGES / f"{name}.png")
    context.close()


@contextmanager
def said(command: list[str], text: str) -> Iterator[str]:
    """Run a command, and give the line in which it says the text; end it afterwards."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        line = next((line for line in child.stdout if text in line), None)
        if line is None:
            raise SystemExit(f"{command[3:]} ended with code {child.wait()} and did not say {text!r}")
        yield line
    finally:
        child.send_signal(signal.SIGINT)
        child.wait(60)
        child.stdout.close()


if __name__ == "__main__":
    main()
