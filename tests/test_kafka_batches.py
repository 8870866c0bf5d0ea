import polars as pl
import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from egresslens.kafka.batches import Columns, batches

# Around the lengths at which a varint takes another byte.
EDGES = [0, 1, 31, 32, 63, 64, 65, 8_191, 8_192, 8_193]


def columns(rows):
    return Columns(*(pl.Series([row[place] for row in rows], dtype=pl.String) for place in (0, 1)))


def read(batch):
    """(key, value) of a batch's records, as aiokafka's own reader finds them."""
    stored = batch._build()
    assert len(stored) == batch.size()
    records = MemoryRecords(stored)
    found = records.next_batch()
    assert found.validate_crc()
    rows = list(found)
    assert [row.offset for row in rows] == list(range(batch.record_count()))
    assert found.next_offset == batch.record_count()
    assert not records.has_next()
    return [(row.key.decode(), row.value.decode()) for row in rows]


def written(rows, most=1_000_000):
    return [row for batch in batches(columns(rows), most) for row in read(batch)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=80), st.text(max_size=300)), max_size=150), st.integers(1, 20_000))
def test_any_texts_are_read_back_in_order_whatever_a_batch_may_hold(rows, most):
    assert written(rows, most) == rows


@pytest.mark.parametrize("key", EDGES)
@pytest.mark.parametrize("value", EDGES)
def test_lengths_at_the_edges_of_varints_are_read_back(key, value):
    rows = [("k" * key, "v" * value)] * 3
    assert written(rows) == rows


def test_thousands_of_records_in_one_batch_keep_their_offsets():
    rows = [(str(number), "") for number in range(20_000)]
    assert written(rows, 10_000_000) == rows


def test_a_batch_holds_at_most_what_it_may():
    made = list(batches(columns([("", "x" * 979)] * 100), 10_000))
    assert [batch.record_count() for batch in made] == [10] * 10


def test_a_record_larger_than_a_batch_is_one_by_itself():
    rows = [("", "small"), ("", "x" * 5_000), ("", "small")]
    assert [batch.record_count() for batch in batches(columns(rows), 1_000)] == [1, 1, 1]
    assert written(rows, 1_000) == rows


def test_no_records_are_no_batches():
    assert list(batches(columns([]), 1_000)) == []


def test_a_batch_carries_what_the_producer_numbers_it_with():
    (batch,) = batches(columns([("key", "value")]), 1_000)
    batch._set_producer_state(7, 3, 41)
    found = MemoryRecords(batch._build()).next_batch()
    assert (found.producer_id, found.base_sequence) == (7, 41)
