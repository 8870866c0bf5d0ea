"""The store as a child process, for the demo and tests. By exec, never fork: the engine has threads."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from egresslens.store.engine import StoreUnavailableError
from egresslens.store.passwords import load

START_S: Final = 60.0
STOP_S: Final = 15.0
_LISTENING: Final = "store listening on "


@dataclass
class StoreProcess:
    """A running store. The URL stays the same over restarts."""

    folder: Path
    url: str
    writer: tuple[str, str] = field(repr=False)
    reader: tuple[str, str] = field(repr=False)
    _child: subprocess.Popen[str] = field(repr=False)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child.poll() is None

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._child.pid

    def stop(self) -> int:
        """End it with SIGTERM and return its exit code; with SIGKILL after 15 s."""
        if self.alive:
            self._child.terminate()
        try:
            return self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._child.wait()
        finally:
            _close_pipes(self._child)

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self._child.kill()
        self._child.wait()
        _close_pipes(self._child)

    def restart(self) -> None:
        """Start it again on the same folder and port, ending it first if it runs.

        Raises:
            StoreUnavailableError: it does not start.
        """
        self.stop()
        self._child, self.url = _start(self.folder, urlsplit(self.url).port or 0)


def start(folder: Path, port: int = 0) -> StoreProcess:
    """Start a store on a folder; it ends with this process, however this process ends.

    Raises:
        StoreUnavailableError: it does not start within 60 s; the message has its own words.
    """
    child, url = _start(folder, port)
    passwords = load(folder)
    return StoreProcess(
        folder=folder,
        url=url,
        writer=("writer", passwords.writer),
        reader=("reader", passwords.reader),
        _child=child,
    )


@contextlib.contextmanager
def embedded_store(folder: Path, port: int = 0) -> Iterator[StoreProcess]:
    """A store for as long as the block runs.

    Raises:
        StoreUnavailableError: it does not start.
    """
    store = start(folder, port)
    try:
        yield store
    finally:
        store.stop()


def _start(folder: Path, port: int) -> tuple[subprocess.Popen[str], str]:
    command = [
        sys.executable,
        "-m",
        "egresslens.store",
        "--dir",
        str(folder),
        "--port",
        str(port),
        "--with-parent",
    ]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = folder / "store.log"
    with log.open("a") as stderr:
        begin = stderr.tell()
        # The child ends when its standard input closes, which also a kill -9 of this process does.
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    timer = threading.Timer(START_S, child.kill)
    timer.start()
    try:
        for line in child.stdout or ():
            if line.startswith(_LISTENING):
                return child, line.removeprefix(_LISTENING).strip()
    finally:
        timer.cancel()
    child.wait()
    _close_pipes(child)
    with log.open() as text:
        text.seek(begin)
        said = text.read().strip()
    raise StoreUnavailableError(said or f"the store ended with exit code {child.returncode} and said nothing")


def _close_pipes(child: subprocess.Popen[str]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe:
            pipe.close()
