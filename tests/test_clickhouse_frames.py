"""Frames on their way into the raw tables."""

import io
from datetime import datetime, timedelta, timezone

import orjson
import polars as pl
import pytest

from clickhouse_rows import event, events, progress, window, windows
from egresslens.clickhouse import frames

NEW_YEAR = datetime(2026, 1, 1, tzinfo=timezone.utc)


def test_columns_take_the_tables_order_and_others_are_left():
    frame = windows(window()).with_columns(pl.lit(1).alias("more"))
    assert frames.rows(frames.WINDOWS, frame.select(reversed(frame.columns))).columns == windows().columns


def test_an_absent_list_is_an_empty_one():
    frame = frames.rows(frames.EVENTS, events(event(response_flags=None), event(response_flags=["UF"])))
    assert frame["response_flags"].to_list() == [[], ["UF"]]


def test_a_missing_column_is_an_error():
    with pytest.raises(pl.exceptions.PolarsError):
        frames.rows(frames.WINDOWS, windows(window()).drop("label"))


def test_windows_of_two_months_are_two_inserts_in_order():
    starts = [NEW_YEAR, NEW_YEAR - timedelta(minutes=1), NEW_YEAR + timedelta(minutes=5)]
    parts = frames.split(frames.WINDOWS, windows(*(window(window_start=start) for start in starts)))
    assert [part["window_start"].to_list() for part in parts] == [[starts[1]], [starts[0], starts[2]]]


def test_events_are_cut_where_weeks_begin():
    monday = datetime(2026, 1, 5, tzinfo=timezone.utc)
    stamps = [monday, monday - timedelta(milliseconds=1), monday + timedelta(days=6)]
    frame = events(*(event(n, kafka_timestamp=stamp) for n, stamp in enumerate(stamps)))
    assert [part["offset"].to_list() for part in frames.split(frames.EVENTS, frame)] == [[1], [0, 2]]


def test_no_rows_are_no_insert():
    assert frames.split(frames.EVENTS, events()) == []


@pytest.mark.parametrize("compress", [True, False])
def test_rows_become_an_arrow_stream(compress: bool):
    frame = windows(window(), window(source_workload=None))
    read = pl.read_ipc_stream(io.BytesIO(frames.encode(frames.WINDOWS, frame, compress=compress)))
    assert read.with_columns(pl.col(pl.Categorical).cast(pl.String)).equals(frame)


def test_text_of_few_values_goes_as_a_dictionary_and_other_text_as_it_is():
    read = pl.read_ipc_stream(io.BytesIO(frames.encode(frames.EVENTS, events(event(1)), compress=False)))
    assert isinstance(read.schema["destination_host"], pl.Categorical)
    assert isinstance(read.schema["request_id"], pl.String)


def test_counts_by_reason_become_an_object():
    frame = progress(5, filtered=[{"key": "inbound", "value": 2}])
    row = orjson.loads(frames.encode(frames.PROGRESSES, frame, compress=False))
    assert (row["last_offset"], row["filtered"], row["rejected"]) == (5, {"inbound": 2}, {})
