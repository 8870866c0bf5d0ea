"""Bodies are decoded as they are read, in bounded steps."""

import gzip
import io
import tracemalloc
import zlib

import lz4.frame
import pytest
import zstandard

from egresslens.store import codecs
from egresslens.store.errors import StoreError

COMPRESS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    "lz4": lz4.frame.compress,
    "identity": bytes,
    "": bytes,
}
DATA = b"".join(b"%d\n" % number for number in range(200_000))


def read_all(reader, size=10_000) -> bytes:
    return b"".join(iter(lambda: reader.read(size), b""))


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_body_is_decoded_whole(encoding):
    assert read_all(codecs.reader(io.BytesIO(COMPRESS[encoding](DATA)), encoding)) == DATA


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "lz4"])
def test_frames_one_after_another_are_one_body(encoding):
    body = b"".join(COMPRESS[encoding](part) for part in (DATA[:1000], DATA[1000:5000], DATA[5000:]))
    assert read_all(codecs.reader(io.BytesIO(body), encoding)) == DATA


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "lz4"])
def test_reading_a_little_of_a_bomb_takes_little_memory(encoding):
    bomb = COMPRESS[encoding](bytes(60_000_000))
    reader = codecs.reader(io.BytesIO(bomb), encoding)
    tracemalloc.start()
    assert 0 < len(reader.read(100_000)) <= 100_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 25_000_000


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "lz4"])
def test_a_broken_or_short_body_is_an_error_and_no_end(encoding):
    whole = COMPRESS[encoding](DATA)
    for body in (b"not compressed at all", whole[: len(whole) // 2]):
        with pytest.raises(codecs.BROKEN):
            read_all(codecs.reader(io.BytesIO(body), encoding))


def test_an_unknown_encoding_is_refused():
    with pytest.raises(StoreError) as raised:
        codecs.reader(io.BytesIO(), "snappy")
    assert raised.value.code == 89


@pytest.mark.parametrize("name", codecs.ENCODINGS)
def test_what_is_encoded_can_be_decoded(name):
    encoder = codecs.encoder(name)
    body = b"".join([encoder.encode(DATA[:70_000]), encoder.encode(DATA[70_000:]), encoder.end()])
    assert encoder.name == name
    assert read_all(codecs.reader(io.BytesIO(body), name)) == DATA


@pytest.mark.parametrize("name", codecs.ENCODINGS)
def test_an_empty_response_is_a_whole_one(name):
    assert read_all(codecs.reader(io.BytesIO(codecs.encoder(name).end()), name)) == b""


@pytest.mark.parametrize(
    ("accepted", "name"),
    [("gzip, zstd", "zstd"), ("LZ4;q=0.1", "lz4"), ("br", ""), ("", ""), ("*", ""), ("gzipx", "")],
)
def test_the_best_of_what_the_client_names_is_taken(accepted, name):
    assert codecs.encoder(accepted).name == name
