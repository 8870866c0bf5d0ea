"""Log files: plain, gzip or zstd, or standard input, in chunks of lines."""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import zstandard

CHUNK_BYTES: Final = 8 * 2**20
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
# Packed bytes taken at once: zstd unpacks the least of them to 128 KiB for every four bytes.
_PACKED_BYTES: Final = 4_096


class DamagedFileError(ValueError):
    """A compressed file is damaged or cut off; the message says where and after how many lines."""


def read_lines(path: str, chunk_bytes: int = CHUNK_BYTES) -> Iterator[list[bytes]]:
    """Lines of a file without their line ends, some `chunk_bytes` at a time; `-` is standard input.

    What is compressed is known by its first bytes. A last line without its end is a line. Memory is bounded
    by the chunk and the longest line.

    Raises:
        OSError: the file cannot be read.
        DamagedFileError: it cannot be unpacked to its end; the whole lines before that were given.
    """
    if path == "-":
        yield from _lines("standard input", sys.stdin.buffer, chunk_bytes)
        return
    with Path(path).open("rb") as file:
        yield from _lines(path, file, chunk_bytes)


def _lines(name: str, stream: BinaryIO, chunk_bytes: int) -> Iterator[list[bytes]]:
    head = stream.read(4)
    plain = _plain(head)
    pieces = _pieces(head, stream, chunk_bytes) if plain is None else _unpacked(head, stream, plain)
    lines = 0
    rest: list[bytes] = []
    try:
        for chunk in _gathered(pieces, chunk_bytes):
            whole, newline, tail = chunk.rpartition(b"\n")
            if not newline:
                rest.append(tail)
                continue
            found = [line.removesuffix(b"\r") for line in (b"".join(rest) + whole).split(b"\n")]
            lines += len(found)
            yield found
            rest = [tail]
    except _BrokenError as error:
        raise DamagedFileError(f"{name} is damaged or cut off after {lines:,} lines: {error}") from None
    last = b"".join(rest)
    if last:
        yield [last.removesuffix(b"\r")]


def _pieces(head: bytes, stream: BinaryIO, size: int) -> Iterator[bytes]:
    """What a stream holds whose `head` was read already."""
    if head:
        yield head
    while piece := stream.read(size):
        yield piece


def _gathered(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of at least `size`; what came before an error comes before the error."""
    held = io.BytesIO()
    broken = None
    try:
        for piece in pieces:
            held.write(piece)
            if held.tell() >= size:
                yield held.getvalue()
                held = io.BytesIO()
    except _BrokenError as error:
        broken = error
    if held.tell():
        yield held.getvalue()
    if broken:
        raise broken


# --- compressed streams -------------------------------------------------------------------------------------


class _BrokenError(Exception):
    """What the decompressor says."""


class _Unpacking(Protocol):
    """One gzip member or zstd frame being unpacked."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _plain(head: bytes) -> Callable[[], _Unpacking] | None:
    """How to unpack what begins so; None if it is not compressed."""
    if head.startswith(_GZIP):
        return lambda: zlib.decompressobj(wbits=31)
    if head.startswith(_ZSTD):
        return lambda: zstandard.ZstdDecompressor().decompressobj()
    return None


def _unpacked(head: bytes, stream: BinaryIO, begin: Callable[[], _Unpacking]) -> Iterator[bytes]:
    """All members (or frames) one after another; gzip files may be filled up with zero bytes."""
    part: _Unpacking | None = None
    for piece in _pieces(head, stream, _PACKED_BYTES):
        packed = piece if part else piece.lstrip(b"\0")
        while packed:
            part = part or begin()
            try:
                yield part.decompress(packed)
            except (zlib.error, zstandard.ZstdError) as error:
                raise _BrokenError(str(error)) from None
            packed = part.unused_data.lstrip(b"\0") if part.eof else b""
            part = None if part.eof else part
    if part:
        raise _BrokenError("it ends before its end mark")
