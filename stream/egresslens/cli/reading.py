"""Reading log files with a progress bar, where a terminal watches and nothing else is printed there."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from egresslens import files


def read(paths: Sequence[str]) -> Iterator[tuple[str, list[bytes]]]:
    """(path, lines) a chunk at a time. The bar shows lines' bytes, so a compressed file has no end to it."""
    err = Console(stderr=True)
    watched = err.is_terminal and not sys.stdout.isatty()
    with Progress(console=err, transient=True, disable=not watched) as bar:
        for path in paths:
            plain = path != "-" and not path.endswith((".gz", ".zst"))
            task = bar.add_task(path, total=Path(path).stat().st_size if plain else None)
            for chunk in files.read_lines(path):
                yield path, chunk
                bar.update(task, advance=sum(map(len, chunk)) + len(chunk))
