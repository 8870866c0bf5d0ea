"""Tables for people: colours on a terminal, plain text in a pipe.

Hosts, paths and user agents are chosen by whoever sent the request: control characters (terminal escapes,
bidirectional overrides) are shown, never obeyed, and nothing is taken for markup.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from egresslens.text import visible

LABEL_STYLES: Mapping[str, str] = {
    "passthrough": "yellow",
    "blackhole": "bold red",
    "outbound": "green",
    "unknown": "dim",
}


def console() -> Console:
    """Standard output: as wide as the terminal, and without limit in a pipe."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=10_000)


def print_table(frame: pl.DataFrame, title: str, out: Console) -> None:
    """Print a frame under a title; numbers to the right, absent values as nothing, lists joined by commas."""
    table = Table(
        title=Text(title, style="bold"), title_justify="left", header_style="bold", box=None, pad_edge=False
    )
    for name, dtype in frame.schema.items():
        number = dtype.is_numeric()
        table.add_column(Text(name), justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in frame.iter_rows(named=True):
        table.add_row(*(_cell(name, value) for name, value in row.items()))
    out.print(table)
    if frame.is_empty():
        out.print(Text("  nothing", style="dim"))
    out.print()


def _cell(name: str, value: object) -> Text:
    if value is None:
        return Text("")
    if isinstance(value, datetime):
        return Text(value.strftime("%Y-%m-%d %H:%M:%S"))
    if isinstance(value, list):
        value = ", ".join(str(one) for one in value)
    if isinstance(value, int) and not isinstance(value, bool) and name != "port":
        return Text(f"{value:,}")
    text = visible(str(value))
    return Text(text, style=LABEL_STYLES.get(text, ""))
