"""Positions: how far each file has been acknowledged by the brokers, kept across restarts.

A file is known by its inode and its first bytes: a name changes with rotation, and an inode alone is given
to new files again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

# As many first bytes tell files apart: an access log begins with a time and, within this, a request id.
HEAD_BYTES: Final = 256


class PositionsError(RuntimeError):
    """The position file cannot be used; the message says why."""


class Position(BaseModel):
    """Everything before `offset` is in Kafka.

    `path` is absolute; `head` is the SHA-256 of the file's first `head_bytes` bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    inode: int
    offset: int
    head_bytes: int
    head: str

    def is_of(self, descriptor: int) -> bool:
        """Whether this open file is the one that was meant, and not shorter now than it was then."""
        status = os.fstat(descriptor)
        if status.st_ino != self.inode or status.st_size < self.offset:
            return False
        return fingerprint(os.pread(descriptor, self.head_bytes, 0)) == self.head


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    files: tuple[Position, ...]


class Positions:
    """The position file; one owner at a time, for the length of a `with` block.

    Raises:
        PositionsError: on entering, if another process owns the file or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def __enter__(self) -> Positions:  # noqa: PYI034 - Self is in typing from Python 3.11 on
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The file itself is replaced at every save, so the lock needs one that stays.
        lock = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise PositionsError(
                f"another `egresslens ship` uses the positions in {self.path}: give this one a --position"
            ) from None
        self._lock = lock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)

    def load(self) -> tuple[Position, ...]:
        """What was saved; nothing at the first start.

        Raises:
            PositionsError: the file is damaged. Starting over silently would ship everything twice.
        """
        try:
            return _File.model_validate(orjson.loads(self.path.read_bytes())).files
        except FileNotFoundError:
            return ()
        except (orjson.JSONDecodeError, ValidationError) as error:
            raise PositionsError(
                f"the position file {self.path} is damaged, delete it to ship from the start: {error}"
            ) from error

    def save(self, positions: Sequence[Position]) -> None:
        """Replace the file as a whole: after a crash it holds the old positions or the new ones."""
        content = _File(version=1, files=tuple(positions)).model_dump_json(indent=1)
        fresh = self.path.with_name(self.path.name + ".new")
        with fresh.open("w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)


def fingerprint(head: bytes) -> str:
    """Name a file's first bytes."""
    return hashlib.sha256(head).hexdigest()
