"""Follow files: rotation by rename, truncation in place, files that appear later, patterns.

A `Source` is one file as it exists (an inode), whatever it is called; a `Follower` keeps the sources that
some patterns name. Nothing here knows Kafka.
"""

from __future__ import annotations

import glob
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from egresslens.ship.positions import HEAD_BYTES, Position, fingerprint

log = logging.getLogger(__name__)

# Longer lines are cut. In an envelope a byte can become six, and Kafka's default limit is 1 MiB; Envoy takes
# at most 60 KiB of headers, so a line of its own is never as long.
MAX_LINE_BYTES: Final = 131_072
_CHUNK: Final = 65_536
# A writer goes on writing to the renamed file until it is told to reopen its log.
ROTATED_GRACE_S: Final = 30.0


@dataclass(frozen=True)
class Line:
    """A line without its newline, and the offset of what follows it in its source."""

    source: Source
    text: bytes
    end: int


class Source:
    """One open file. `acknowledged` is moved on by whoever delivers its lines."""

    def __init__(self, path: str, descriptor: int, offset: int = 0) -> None:
        self.path = path
        self.acknowledged = offset
        self._descriptor = descriptor
        self._offset = offset
        # Up to here there are complete lines, and up to here lines were handed out: blank ones never are.
        self._complete = offset
        self._handed_out = offset
        self._partial = bytearray()
        self._partial_bytes = 0
        self._head = os.pread(descriptor, min(HEAD_BYTES, offset), 0)
        self._last_growth = time.monotonic()

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode."""
        status = os.fstat(self._descriptor)
        return status.st_dev, status.st_ino

    @property
    def offset(self) -> int:
        """Up to here the file was read."""
        return self._offset

    @property
    def size(self) -> int:
        """Bytes in the file now."""
        return os.fstat(self._descriptor).st_size

    @property
    def quiet_s(self) -> float:
        """Seconds since something was read."""
        return time.monotonic() - self._last_growth

    @property
    def done(self) -> int:
        """Up to here nothing is left to do: everything before is acknowledged, or blank."""
        return self._complete if self.acknowledged >= self._handed_out else self.acknowledged

    def was_truncated(self) -> bool:
        """Whether the file is no longer the one that was read: shorter, or with another beginning."""
        return self.size < self._offset or os.pread(self._descriptor, len(self._head), 0) != self._head

    def read(self) -> list[Line] | None:
        """The lines that end in the next chunk of the file; None at its end. Blank lines are left out."""
        data = os.pread(self._descriptor, _CHUNK, self._offset)
        if not data or self.was_truncated():
            return None
        self._last_growth = time.monotonic()
        if len(self._head) < HEAD_BYTES and self._offset == len(self._head):
            self._head += data[: HEAD_BYTES - len(self._head)]
        *complete, rest = data.split(b"\n")
        lines = []
        for part in complete:
            self._offset += len(part) + 1
            lines += self._line(part)
        self._offset += len(rest)
        self._keep(rest)
        return lines

    def finish(self) -> list[Line]:
        """The last line, if the file does not end in a newline."""
        return self._line(b"") if self._partial_bytes else []

    def position(self) -> Position:
        """What must be remembered of it."""
        head = self._head[: self.done]
        return Position(
            path=self.path,
            inode=self.identity[1],
            offset=self.done,
            head_bytes=len(head),
            head=fingerprint(head),
        )

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _line(self, part: bytes) -> list[Line]:
        self._complete = self._offset
        if self._partial_bytes or len(part) > MAX_LINE_BYTES:
            part = self._whole(part)
        if not part.strip():
            return []
        self._handed_out = self._offset
        return [Line(self, part, self._offset)]

    def _whole(self, last: bytes) -> bytes:
        self._keep(last)
        text, length = bytes(self._partial), self._partial_bytes
        self._partial.clear()
        self._partial_bytes = 0
        if length > len(text):
            log.warning("%s: a line of %d bytes was cut to %d", self.path, length, len(text))
        return text

    def _keep(self, part: bytes) -> None:
        self._partial += part[: MAX_LINE_BYTES - len(self._partial)]
        self._partial_bytes += len(part)


class Follower:
    """The files that `patterns` (paths, or globs) name, from the remembered `positions` on."""

    def __init__(self, patterns: Sequence[str], positions: Sequence[Position]) -> None:
        self._patterns = [str(Path(pattern).absolute()) for pattern in patterns]
        self._remembered = {position.inode: position for position in positions if self._names(position.path)}
        # Other files' positions in the same position file are nobody's business here, and kept.
        self._others = [position for position in positions if not self._names(position.path)]
        self._sources: dict[tuple[int, int], Source] = {}
        # Renamed out of the patterns, or removed; their writers may not have noticed yet.
        self._ending: dict[tuple[int, int], Source] = {}
        self._last_words: list[Line] = []
        self._turn = 0

    @property
    def sources(self) -> list[Source]:
        """The open files."""
        return [*self._sources.values(), *self._ending.values()]

    def look(self) -> None:
        """Find new files, and see which ones were renamed or truncated."""
        found = dict(self._found())
        for identity, path in found.items():
            if identity in self._ending:
                self._sources[identity] = self._ending.pop(identity)
            known = self._sources.get(identity)
            if known is None:
                self._open(path)
            elif known.was_truncated():
                log.info("%s was truncated: reading it from its start", path)
                self._last_words += known.finish()
                self._sources.pop(identity).close()
                self._open(path)
            else:
                known.path = path
        self._find_rotated_while_away()
        for identity in self._sources.keys() - found.keys():
            self._ending[identity] = self._sources.pop(identity)

    def read(self) -> Iterator[list[Line]]:
        """The lines of each file's next chunk, one list per file that is not at its end.

        A caller who stops early starts with the next file the next time: no file can starve the others.
        """
        if self._last_words:
            lines, self._last_words = self._last_words, []
            yield lines
        sources = self.sources
        for _ in sources:
            self._turn = (self._turn + 1) % len(sources)
            more = sources[self._turn].read()
            if more is not None:
                yield more

    def positions(self) -> list[Position]:
        """What must be remembered."""
        return [*self._others, *(source.position() for source in self.sources)]

    def finish(self) -> list[Line]:
        """The last lines of files that do not end in a newline."""
        return [line for source in self.sources for line in source.finish()]

    def forget_ended(self) -> None:
        """Let go of renamed and removed files that are read, acknowledged and quiet."""
        for identity, source in list(self._ending.items()):
            if source.quiet_s > ROTATED_GRACE_S and source.done >= source.size:
                self._ending.pop(identity).close()

    def close(self) -> None:
        """Close all files."""
        for source in self.sources:
            source.close()

    def _names(self, path: str) -> bool:
        return any(path == pattern or PurePath(path).match(pattern) for pattern in self._patterns)

    def _found(self) -> Iterator[tuple[tuple[int, int], str]]:
        for path in (path for pattern in self._patterns for path in expand(pattern)):
            try:
                status = Path(path).stat()
            except OSError:
                continue  # not there (yet), or gone between the listing and now
            yield (status.st_dev, status.st_ino), path

    def _open(self, path: str) -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("cannot read %s: %s", path, error.strerror)
            return
        remembered = self._remembered.pop(os.fstat(descriptor).st_ino, None)
        offset = remembered.offset if remembered and remembered.is_of(descriptor) else 0
        source = Source(path, descriptor, offset)
        log.info("following %s from byte %d", path, offset)
        self._sources[source.identity] = source

    def _find_rotated_while_away(self) -> None:
        """Read the rest of files that were renamed while nobody followed them, where they lie beside it."""
        remembered, self._remembered = self._remembered, {}
        for position in remembered.values():
            source = _beside(position)
            if source is None:
                log.warning(
                    "%s was renamed or removed while nobody followed it: its lines after byte %d are lost",
                    position.path,
                    position.offset,
                )
            else:
                log.info("following what was %s from byte %d", position.path, position.offset)
                self._ending[source.identity] = source


def expand(pattern: str) -> list[str]:
    """The paths a pattern names just now; a plain path always names itself."""
    if not glob.has_magic(pattern):
        return [pattern]
    return sorted(glob.glob(pattern))  # noqa: PTH207 - Path.glob takes no absolute pattern


def _beside(position: Position) -> Source | None:
    """The remembered file under another name in the same folder; it keeps the path it was followed by."""
    try:
        with os.scandir(Path(position.path).parent) as entries:
            paths = [entry.path for entry in entries if entry.inode() == position.inode]
        descriptor = os.open(paths[0], os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, IndexError):
        return None
    if position.is_of(descriptor):
        return Source(position.path, descriptor, position.offset)
    os.close(descriptor)
    return None
