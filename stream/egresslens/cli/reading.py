"""Reading log files with a progress bar, where a terminal watches and nothing else is printed there."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from egresslens import files
from egresslens.cli import EX_DATAERR


class CutOff(click.ClickException):
    """A compressed file could not be unpacked to its end; a command may print what it has, then raise it."""

    exit_code = EX_DATAERR


def read(paths: Sequence[str]) -> Iterator[tuple[str, list[bytes]]]:
    """(path, lines) a chunk at a time. The bar shows lines' bytes, so a compressed file has no end to it.

    Raises:
        CutOff: a compressed file is damaged; what could be read of it was given.
    """
    err = Console(stderr=True)
    watched = err.is_terminal and not sys.stdout.isatty()
    with Progress(console=err, transient=True, disable=not watched) as bar:
        for path in paths:
            plain = path != "-" and not path.endswith((".gz", ".zst"))
            task = bar.add_task(path, total=Path(path).stat().st_size if plain else None)
            try:
                for chunk in files.read_lines(path):
                    yield path, chunk
                    bar.update(task, advance=sum(map(len, chunk)) + len(chunk))
            except files.DamagedFileError as error:
                raise CutOff(str(error)) from None
