"""Log files: plain, gzip or zstd, or standard input, in chunks of lines."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import zstandard

CHUNK_BYTES: Final = 8 * 2**20
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


def read_lines(path: str, chunk_bytes: int = CHUNK_BYTES) -> Iterator[list[bytes]]:
    """Lines of a file without their line ends, some `chunk_bytes` at a time; `-` is standard input.

    A last line without its end is a line. Memory is bounded by the chunk and the longest line.

    Raises:
        OSError: the file cannot be read.
    """
    if path == "-":
        yield from _chunks(sys.stdin.buffer, chunk_bytes)
        return
    with Path(path).open("rb") as file:
        yield from _chunks(_plain(file), chunk_bytes)


def _plain(file: io.BufferedReader) -> BinaryIO:
    magic = file.peek(4)[:4]
    if magic.startswith(_GZIP):
        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    if magic.startswith(_ZSTD):
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    return file


def _chunks(stream: BinaryIO, chunk_bytes: int) -> Iterator[list[bytes]]:
    rest: list[bytes] = []
    while chunk := stream.read(chunk_bytes):
        head, newline, tail = chunk.rpartition(b"\n")
        if not newline:
            rest.append(tail)
            continue
        yield [line.removesuffix(b"\r") for line in (b"".join(rest) + head).split(b"\n")]
        rest = [tail]
    last = b"".join(rest)
    if last:
        yield [last.removesuffix(b"\r")]
