"""Content encodings of requests and responses, as clickhouse-connect uses them: gzip, deflate, zstd, lz4."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import lz4.frame  # type: ignore[import-untyped] # it has no types
import zstandard

from egresslens.store import errors
from egresslens.store.errors import StoreError

# In the order of preference where a client accepts several.
ENCODINGS: Final = ("zstd", "lz4", "gzip", "deflate")


class Readable(Protocol):
    """Something with bytes to read: `read(n)` returns at most n of them, b"" at the end."""

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes."""


def reader(raw: Any, encoding: str) -> Readable:
    """Decode a request's body (a file object) while it is read: a small one cannot become large in memory.

    Raises:
        StoreError: an encoding this server has no decoder for.
    """
    makers: dict[str, Callable[[], Any]] = {
        "": lambda: raw,
        "identity": lambda: raw,
        "gzip": lambda: gzip.GzipFile(fileobj=raw),
        "deflate": lambda: _Deflated(raw),
        "zstd": lambda: _Zstd(raw),
        "lz4": lambda: lz4.frame.LZ4FrameFile(raw),
    }
    if encoding not in makers:
        raise StoreError(
            errors.UNKNOWN_COMPRESSION_METHOD,
            f"Unknown compression method {encoding[:20]!r}; use one of {', '.join(ENCODINGS)}",
        )
    made: Readable = makers[encoding]()
    return made


# What the decoders raise on a body that is not what it says.
BROKEN: Final = (OSError, EOFError, zlib.error, zstandard.ZstdError, RuntimeError)


@dataclass(frozen=True)
class Encoder:
    """How one response is encoded: `encode` every piece, then send what `end` returns. No name: as it is."""

    name: str
    encode: Callable[[bytes], bytes]
    end: Callable[[], bytes]


def encoder(accepted: str) -> Encoder:
    """The encoder for an Accept-Encoding header; the first of `ENCODINGS` that it names, or none."""
    names = {name.split(";")[0].strip().lower() for name in accepted.split(",")}
    for name in ENCODINGS:
        if name in names:
            made = _COMPRESSORS[name]()
            return Encoder(name, made.compress, made.flush)
    return Encoder("", bytes, bytes)


class _Deflated:
    """Decode a zlib stream in bounded steps."""

    def __init__(self, raw: Readable) -> None:
        self._raw = raw
        self._decoder = zlib.decompressobj()

    def read(self, size: int) -> bytes:
        while not self._decoder.eof:
            pending = self._decoder.unconsumed_tail or self._raw.read(64 * 1024) or b""
            data = self._decoder.decompress(pending, size)
            if data:
                return data
            if not pending:
                raise EOFError("the compressed body ends early")
        return b""


class _Zstd:
    """Decode zstd frames in bounded steps.

    zstandard's own reader takes a body that is cut short for one that has ended.
    """

    # A block of 4 bytes can stand for 128 KiB, so this many stand for 16 MiB at most.
    _PIECE: Final = 512

    def __init__(self, raw: Readable) -> None:
        self._raw = raw
        self._pieces: Iterator[bytes] = iter(())
        self._frame: Any = None
        self._ready = memoryview(b"")

    def read(self, size: int) -> bytes:
        while not self._ready:
            piece = next(self._pieces, None) or self._next_piece()
            if not piece:
                return b""
            self._ready = memoryview(self._decode(piece))
        taken = bytes(self._ready[:size])
        self._ready = self._ready[size:]
        return taken

    def _next_piece(self) -> bytes:
        data = self._raw.read(64 * 1024)
        if not data and self._frame is not None:
            raise EOFError("the compressed body ends early")
        self._pieces = (data[at : at + self._PIECE] for at in range(0, len(data), self._PIECE))
        return next(self._pieces, b"")

    def _decode(self, piece: bytes) -> bytes:
        decoded = b""
        while piece:
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj()
            decoded += self._frame.decompress(piece)
            piece = self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        return decoded


class _Lz4:
    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def compress(self, data: bytes) -> bytes:
        begin = b"" if self._begun else self._frame.begin()
        self._begun = True
        return begin + bytes(self._frame.compress(data))

    def flush(self) -> bytes:
        begin = b"" if self._begun else self._frame.begin()
        return begin + bytes(self._frame.flush())


_COMPRESSORS: Final[dict[str, Callable[[], Any]]] = {
    "zstd": lambda: zstandard.ZstdCompressor(level=1).compressobj(),
    "lz4": _Lz4,
    "gzip": lambda: zlib.compressobj(level=1, wbits=31),
    "deflate": lambda: zlib.compressobj(level=1),
}
