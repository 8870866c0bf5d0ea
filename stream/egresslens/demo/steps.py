"""What the demo says while it works: a spinner on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.text import Text


@contextmanager
def step(out: Console, what: str) -> Iterator[Callable[[str], None]]:
    """Announce a step, then say how long it took, and what the block passed to the function it is given."""
    details: list[str] = []
    begin = time.monotonic()
    if not out.is_terminal:
        out.print(Text(f"{what} …"))
    try:
        with out.status(Text(what)) if out.is_terminal else nullcontext():
            yield details.append
    except BaseException:
        out.print(Text(f"✗ {what}", style="red"))
        raise
    tail = "".join(f": {detail}" for detail in details)
    out.print(Text.assemble(("✓ ", "green"), f"{what}{tail} ", (f"{time.monotonic() - begin:.1f} s", "dim")))
