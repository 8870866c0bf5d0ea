"""Processes the demo starts: their output in a file, a clear word when one dies, and none left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Final, Protocol, TypeVar

# Kafka's own shutdown is the slowest; what has not ended by then is killed.
_STOP_S: Final = 20.0
_TAIL_LINES: Final = 15


class PartError(RuntimeError):
    """A part of the demo died or did not become ready; the message says which, and its last words."""


class Part:
    """One process, by name. Its output goes to `log`."""

    def __init__(
        self, name: str, argv: Sequence[str], log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "egresslens.demo.tether", str(os.getpid()), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environ,
                # Ctrl-C on the terminal must reach the demo alone, which then stops its parts in order.
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise PartError if the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise PartError(f"{self.name} ended with code {code}; its last lines:\n{self.last_words()}")

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `ready` holds.

        Raises:
            PartError: it ended, or was not ready in time.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                what = f"{self.name} was not ready within {timeout_s:.0f} s"
                raise PartError(f"{what}; its last lines:\n{self.last_words()}")
            time.sleep(0.02)

    def stop(self) -> int:
        """Ask it to end, wait, and return its exit code; harmless when it has ended."""
        self._process.terminate()
        try:
            return self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def last_words(self) -> str:
        """The last lines of its output."""
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join(f"  {line}" for line in lines) or "  (it said nothing)"


class Watched(Protocol):
    """Something that runs in processes of its own."""

    def check(self) -> None:
        """Raise PartError if one has died."""


class _Running(Watched, AbstractContextManager["_Running"], Protocol):
    """Watched while its context is entered."""


_R = TypeVar("_R", bound=_Running)


class Parts(ExitStack):
    """Everything that runs: watched while it does, and stopped in reverse order at the end of the context."""

    def __init__(self) -> None:
        super().__init__()
        self._watched: list[Watched] = []

    def start(
        self, name: str, argv: Sequence[str], log: Path, environ: Mapping[str, str] | None = None
    ) -> Part:
        """Start a process."""
        part = Part(name, argv, log, environ)
        self.callback(part.stop)
        self._watched.append(part)
        return part

    def enter(self, running: _R) -> _R:
        """Enter a context that is to be watched as well."""
        self.enter_context(running)
        self._watched.append(running)
        return running

    def check(self) -> None:
        """Raise PartError if any part has died."""
        for watched in self._watched:
            watched.check()
