"""Content encodings of requests and responses: gzip, deflate, zstd and lz4 frames, as clickhouse-connect sends them."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

import lz4.frame
import zstandard

from egresslens.store import errors
from egresslens.store.errors import StoreError

# In the order of preference where a client accepts several.
ENCODINGS: Final = ("zstd", "lz4", "gzip", "deflate")


class Readable(Protocol):
    """Something with bytes to read: `read(n)` returns at most n of them, b"" at the end."""

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes."""


class Compressor(Protocol):
    """An encoder of one response."""

    def compress(self, data: bytes) -> bytes:
        """Take data, return what can be sent so far."""

    def flush(self) -> bytes:
        """Return the rest."""


def reader(raw: io.RawIOBase, encoding: str) -> Readable:
    """Decode a request's body while it is read, so that a small body cannot become a large one in memory.

    Raises:
        StoreError: an encoding this server has no decoder for.
    """
    makers: dict[str, Callable[[], Any]] = {
        "": lambda: raw,
        "identity": lambda: raw,
        "gzip": lambda: gzip.GzipFile(fileobj=raw),
        "deflate": lambda: _Deflated(raw),
        "zstd": lambda: zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(
            raw, read_across_frames=True
        ),
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


def compressor(accepted: str) -> tuple[str, Compressor] | None:
    """The encoder for an Accept-Encoding header, and its name; None where it names none of ours."""
    names = [name.split(";")[0].strip().lower() for name in accepted.split(",")]
    for name in ENCODINGS:
        if name in names:
            return name, _COMPRESSORS[name]()
    return None


class _Deflated:
    """Decode a zlib stream in bounded steps."""

    def __init__(self, raw: io.RawIOBase) -> None:
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


_COMPRESSORS: Final[dict[str, Callable[[], Compressor]]] = {
    "zstd": lambda: zstandard.ZstdCompressor(level=1).compressobj(),
    "lz4": _Lz4,
    "gzip": lambda: zlib.compressobj(level=1, wbits=31),
    "deflate": lambda: zlib.compressobj(level=1),
}
