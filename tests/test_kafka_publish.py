import pytest

from egresslens.kafka.publish import partition_for

# From Kafka's own UtilsTest.testMurmur2, as partitions among 1,000,000 (the hash without its sign bit).
VECTORS = [
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
]


@pytest.mark.parametrize(("key", "hashed"), VECTORS)
def test_a_key_goes_where_kafkas_default_partitioner_sends_it(key, hashed):
    assert partition_for(key, 1_000_000) == (hashed & 0x7FFFFFFF) % 1_000_000


def test_a_key_always_goes_to_one_of_the_partitions():
    assert {partition_for(b"%d" % number, 3) for number in range(100)} == {0, 1, 2}
