r"""Partial lines: what a container runtime split is put together again, across messages of one partition.

containerd and CRI-O write a line of more than 16 KiB as parts tagged `P`, the last one tagged `F`; Docker
writes pieces of 16 KiB, of which only the last ends in a newline. A shipper that does not join them sends
each as a message of its own.

`Partials` is a state machine over one Kafka partition, fed in offset order. The record of a joined line is
that of the message that completes it. What is waiting is, by definition, this: of each stream the parts since
the last whole line, not older than `span` offsets, the newest that make up at most `line_bytes`; and of all
of these the newest of at most `total_bytes`. A part that falls out is unfinished. What the bounds push out
is the oldest of its kind, so the state at an offset follows from the messages since `oldest_open` alone:
a worker that commits no further than that, and after a restart feeds the messages from there on again, is in
the same state as one that never stopped, whatever the batches were.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

import orjson
import polars as pl

from egresslens.parse.jsontext import encoded

# A line's parts follow each other closely; between them stand other pods' lines.
SPAN: Final = 5_000
LINE_BYTES: Final = 1_048_576
TOTAL_BYTES: Final = 33_554_432

# Docker's buffer. Where it cuts a character in two, the halves become U+FFFD, of three bytes each.
DOCKER_PIECE: Final = 16_384
_DOCKER_SLACK: Final = 16
# Where a message of Docker's lines has its first key.
_HEAD: Final = 1_024

# (namespace, pod, container or file, stream). Raw CRI lines tell only the stream.
Stream = tuple[str, ...]


class Unfinished(NamedTuple):
    """A part whose line never came to its end within the bounds."""

    offset: int
    value: bytes
    timestamp: int
    """Of its Kafka record, as given to `join`."""


@dataclass(frozen=True)
class Joined:
    """What `Partials.join` made of some messages.

    values: as given, but with the whole line in each message that completes one.
    partial: indexes of the messages that are parts only: filtered (`Filtered.PARTIAL`), not to be parsed.
    unfinished: parts given up now, of this call or earlier ones (`Reject.UNFINISHED_PARTIAL`). Each was
        filtered as a part when it came; the reject comes in addition, with the part's own offset.
    """

    values: Sequence[bytes | None]
    partial: Sequence[int] = ()
    unfinished: Sequence[Unfinished] = ()


class _Piece(NamedTuple):
    """A message that may belong to a split line."""

    stream: Stream
    needle: bytes
    """Bytes that every message of this stream holds."""
    known: bool
    """Whether the stream names a pod or file; else lines of several pods may be mixed."""
    partial: bool
    text: str
    """The line, or the part of it."""
    prefix: str
    """What the runtime wrote before it."""
    envelope: dict[str, Any] | None
    key: str = "log"
    """Where in the envelope the line is."""

    def whole(self, text: str) -> bytes:
        """This message with `text` for its line."""
        if self.envelope is None:
            return (self.prefix + text).encode("utf-8", "surrogateescape")
        # A part may be of bytes that are no text.
        line = (self.prefix + text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if (whole := encoded({**self.envelope, self.key: line})) is not None:
            return whole
        # No runtime nests so deep: only the envelope's plain values are kept.
        values = self.envelope.items()
        plain = {name: value for name, value in values if not isinstance(value, dict | list)}
        return orjson.dumps({**plain, self.key: line})


class _Part(NamedTuple):
    offset: int
    value: bytes
    timestamp: int
    text: str

    def unfinished(self) -> Unfinished:
        return Unfinished(self.offset, self.value, self.timestamp)


class Partials:
    """The parts of one partition that wait for the rest of their lines."""

    def __init__(
        self, *, span: int = SPAN, line_bytes: int = LINE_BYTES, total_bytes: int = TOTAL_BYTES
    ) -> None:
        self._span = span
        self._line_bytes = line_bytes
        self._total_bytes = total_bytes
        self._open: dict[Stream, deque[_Part]] = {}
        self._needles: dict[Stream, bytes] = {}
        self._bytes: dict[Stream, int] = {}
        self._total = 0
        # Heap of (offset of a stream's first part, stream); what is no longer so falls out when it comes up.
        self._firsts: list[tuple[int, Stream]] = []

    @property
    def oldest_open(self) -> int | None:
        """The smallest offset that is still needed; None if no line is open."""
        return self._open[self._oldest()][0].offset if self._open else None

    @property
    def open_offsets(self) -> set[int]:
        """The offsets of all parts that wait."""
        return {part.offset for parts in self._open.values() for part in parts}

    def join(
        self,
        offsets: Sequence[int],
        values: Sequence[bytes | None],
        timestamps: Sequence[int] | None = None,
    ) -> Joined:
        """Take the next messages of the partition, in offset order, and put lines together.

        Args:
            offsets: ascending, beyond those of the call before.
            values: the messages.
            timestamps: of their Kafka records (ms); they come back with what is unfinished, -1 if not given.
        """
        suspects, marked = _suspects(values)
        if not self._open and not suspects:
            return Joined(values)
        joined: list[bytes | None] = list(values)
        partial: list[int] = []
        unfinished: list[Unfinished] = []
        for index in self._relevant(values, suspects):
            value = values[index]
            offset = int(offsets[index])
            unfinished += self._expire(offset)
            if value is None:
                continue
            value = joined[index] = _whole(value, marked=index in marked)
            if not (piece := _read(value)):
                continue
            if piece.partial:
                partial.append(index)
                timestamp = -1 if timestamps is None else int(timestamps[index])
                unfinished += self._add(_Part(offset, value, timestamp, piece.text), piece)
            elif piece.stream in self._open and piece.needle in value:
                if not _begins(piece.text):
                    joined[index] = piece.whole(self._complete(piece))
                elif piece.known:
                    unfinished += self._give_up(piece.stream)
        if values:
            unfinished += self._expire(int(offsets[-1]))
        return Joined(joined, partial, unfinished)

    def _relevant(self, values: Sequence[bytes | None], suspects: Sequence[int]) -> Iterator[int]:
        """Indexes of the suspects, and while lines are open of what may go on with one of them."""
        following = iter(suspects)
        suspect = next(following, None)
        index = 0
        while index < len(values):
            if not self._open:
                if suspect is None:
                    return
                index = max(index, suspect)
            value = values[index]
            if index == suspect:
                suspect = next(following, None)
                yield index
            elif value is not None and any(needle in value for needle in self._needles.values()):
                yield index
            index += 1

    def _add(self, part: _Part, piece: _Piece) -> list[Unfinished]:
        unfinished: list[Unfinished] = []
        stream = piece.stream
        if stream in self._open and _begins(piece.text):
            unfinished += self._give_up(stream)
        if stream not in self._open:
            self._open[stream] = deque()
            heappush(self._firsts, (part.offset, stream))
        self._open[stream].append(part)
        self._needles[stream] = piece.needle
        self._bytes[stream] = self._bytes.get(stream, 0) + len(part.value)
        self._total += len(part.value)
        while self._bytes.get(stream, 0) > self._line_bytes:
            unfinished.append(self._drop(stream))
        while self._total > self._total_bytes:
            unfinished.append(self._drop(self._oldest()))
        return unfinished

    def _complete(self, piece: _Piece) -> str:
        parts = self._open[piece.stream]
        self._forget(piece.stream)
        return "".join(part.text for part in parts) + piece.text

    def _expire(self, offset: int) -> list[Unfinished]:
        unfinished = []
        while self._open and self._open[stream := self._oldest()][0].offset + self._span <= offset:
            unfinished.append(self._drop(stream))
        return unfinished

    def _give_up(self, stream: Stream) -> list[Unfinished]:
        parts = self._open[stream]
        self._forget(stream)
        return [part.unfinished() for part in parts]

    def _oldest(self) -> Stream:
        while True:
            offset, stream = self._firsts[0]
            if stream in self._open and self._open[stream][0].offset == offset:
                return stream
            heappop(self._firsts)

    def _drop(self, stream: Stream) -> Unfinished:
        """Give up the oldest part of one stream."""
        part = self._open[stream].popleft()
        self._bytes[stream] -= len(part.value)
        self._total -= len(part.value)
        if self._open[stream]:
            heappush(self._firsts, (self._open[stream][0].offset, stream))
        else:
            self._forget(stream)
        return part.unfinished()

    def _forget(self, stream: Stream) -> None:
        self._total -= self._bytes[stream]
        del self._open[stream], self._needles[stream], self._bytes[stream]


def within(lines: Sequence[bytes]) -> Sequence[bytes]:
    """Put together what a runtime split among the lines, or values, of one message, within the same bounds.

    A part whose line does not come to its end there stays as it is.
    """
    partials = Partials()
    found = partials.join(range(len(lines)), lines)
    if not found.partial:
        return lines
    loose = {part.offset for part in found.unfinished} | partials.open_offsets
    gone = set(found.partial) - loose
    return [value for index, value in enumerate(found.values) if index not in gone and value is not None]


def rejoined(lines: list[str]) -> list[str]:
    """The same for lines that are text."""
    whole = within([line.encode("utf-8", "surrogateescape") for line in lines])
    return [line.decode("utf-8", "surrogateescape") for line in whole]


# --- reading ------------------------------------------------------------------------------------------------

_CRI: Final = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[0-9.:+Z-]{0,20} (stdout|stderr) )([PF])((?::\S{0,64})?)(?: |$)"
)
# How a line begins in every default format; a part in the middle of one does not.
_BEGIN: Final = re.compile(r"\s*(?:\[\d{4}-\d\d-\d\dT|\{\s*\")")


def _begins(text: str) -> bool:
    return _BEGIN.match(text) is not None


# Tags of Fluent Bit's and Fluentd's CRI parsers, Vector's mark, the CRI prefix itself. (And Docker's buffer.)
_MARKS: Final = (b'"P"', b"out P ", b"err P ", b'"_partial"')


def _suspects(values: Sequence[bytes | None]) -> tuple[list[int], set[int]]:
    """Indexes of messages that look like parts of lines, and of those that say so: costs next to nothing."""
    column = pl.Series("value", values, dtype=pl.Binary).to_frame()
    value = pl.col("value")
    marked = column.select(
        pl.any_horizontal(value.bin.contains(mark) for mark in _MARKS).fill_null(value=False)
    ).to_series()
    large = column.select((value.bin.size() >= DOCKER_PIECE).fill_null(value=False)).to_series()
    return (marked | large).arg_true().to_list(), set(marked.arg_true())


def may_hold_parts(texts: pl.Series) -> pl.Series:
    """Which messages of several lines, or values, may hold a part."""
    docker = (texts.str.len_bytes() >= DOCKER_PIECE) & texts.str.head(_HEAD).str.contains(
        '"log"', literal=True
    )
    found = docker & pl.Series([may and _holds_piece(text) for text, may in zip(texts, docker, strict=True)])
    for mark in ('"P"', " P ", '"_partial"'):
        found |= texts.str.contains(mark, literal=True)
    return found


def _holds_piece(text: str) -> bool:
    return max(map(len, text.split("\n"))) >= DOCKER_PIECE // 4


def _whole(value: bytes, *, marked: bool) -> bytes:
    """A message with what was split among its own lines put together."""
    if b"\n" not in value:
        return value
    if not marked and (b'"log"' not in value[:_HEAD] or max(map(len, value.split(b"\n"))) < DOCKER_PIECE):
        return value
    lines = _lines(value)
    whole = within(lines)
    return b"\n".join(whole) if len(whole) < len(lines) or len(lines) == 1 else value


def _lines(value: bytes) -> list[bytes]:
    """The lines of a message that holds a runtime's lines, or objects one per line; none for another one."""
    lines = [line for line in value.split(b"\n") if line]
    runtimes = all(_CRI.match(line[:192].decode("utf-8", "surrogateescape")) for line in lines)
    return lines if runtimes or all(line[:1] == b"{" and line[-1:] == b"}" for line in lines) else []


def _read(value: bytes) -> _Piece | None:
    """Read a message as a runtime's line or part; None if it is neither."""
    if value[:1].isdigit():
        return _read_cri(value)
    if value[:1] != b"{":
        return None
    try:
        envelope = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    key = next((key for key in ("log", "message") if isinstance(envelope.get(key), str)), None)
    if key is None:
        return None
    text = envelope[key]
    place = _place(envelope)
    if line := _CRI.match(text[:192]):
        return _of_cri(line, text, place, envelope)._replace(key=key)
    tag = envelope.get("logtag", envelope.get("_p"))
    partial = tag == "P" or envelope.get("_partial") is True
    if tag is None and not partial:
        size = len(text.encode())
        partial = DOCKER_PIECE <= size <= DOCKER_PIECE + _DOCKER_SLACK and not text.endswith("\n")
    stream = envelope.get("stream")
    stream = stream if isinstance(stream, str) else ""
    needle = place[-1] if place else stream
    return _Piece((*place, stream), needle.encode(), bool(place), partial, text, "", envelope, key)


def _read_cri(value: bytes) -> _Piece | None:
    line = _CRI.match(value[:192].decode("utf-8", "surrogateescape"))
    if line is None or (line[3] == "P" and b"\n" in value and _lines(value)):
        # Beside other lines a part waits for no other message.
        return None
    return _of_cri(line, value.decode("utf-8", "surrogateescape"), (), None)


def _of_cri(
    line: re.Match[str], text: str, place: tuple[str, ...], envelope: dict[str, Any] | None
) -> _Piece:
    return _Piece(
        (*place, line[2]),
        (place[-1] if place else line[2]).encode(),
        bool(place),
        line[3] == "P",
        text[line.end() :],
        f"{line[1]}F{line[4]} ",
        envelope,
    )


def _place(envelope: dict[str, Any]) -> tuple[str, ...]:
    """(namespace, container, pod) or (directory, file) of an envelope; nothing if it tells neither."""
    kubernetes = envelope.get("kubernetes")
    if isinstance(kubernetes, dict):
        pod = _text(kubernetes, "pod_name", "pod")
        if pod:
            namespace = _text(kubernetes, "namespace_name", "pod_namespace", "namespace")
            return (namespace, _text(kubernetes, "container_name", "container"), pod)
    # Slashes may be escaped, so the file's name alone is looked for.
    directory, _, file = _text(envelope, "file", "filename", "filepath", "file_path", "tag").rpartition("/")
    return (directory, file) if file else ()


def _text(found: dict[str, Any], *keys: str) -> str:
    for key in keys:
        value = found.get(key)
        value = value.get("name") if isinstance(value, dict) else value
        if isinstance(value, str) and value:
            return value
    return ""
