"""What a field's text means, whatever layout it was found in."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from access_lines import json_line, read, text
from egresslens.parse.values import LIMITS, odd_number, odd_time, times


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        ("2026-01-02T03:04:05.678Z", 1767323045678),
        ("2026-01-02T03:04:05.678901Z", 1767323045678),
        ("2026-01-02T03:04:05.678901234Z", 1767323045678),
        ("2026-01-02T03:04:05.6Z", 1767323045600),
        ("2026-01-02T03:04:05Z", 1767323045000),
        ("2026-01-02T12:04:05.678+09:00", 1767323045678),
        ("2026-01-01T22:34:05.678-0430", 1767323045678),
        ("2026-01-02 03:04:05.678", 1767323045678),
        ("2026-01-02 03:04:05,678 UTC", 1767323045678),
        ("1767323045.678", 1767323045678),
        ("1767323045", 1767323045000),
        ("1970-01-01T00:00:00.000Z", 0),
    ],
)
def test_every_spelling_of_a_time_is_read(written, milliseconds):
    assert times(pl.Series([written])).dt.epoch("ms").to_list() == [milliseconds]


@pytest.mark.parametrize(
    "written",
    ["", "-", "now", "2026-01-02", "2026-13-02T03:04:05.678Z", "2026-01-02T25:04:05.678Z",
     "2026-01-02T03:04:05.6x8Z", "2026-01-02T03:04:05.678ZZ", "12", "2026-01-02T03:04:05.678+99:99",
     "2026-02-30T03:04:05.678Z", "0000-01-02T03:04:05.678Z", "1969-12-31T23:59:59.999Z",
     "2200-01-01T00:00:00.000Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9" * 40],
)  # fmt: skip
def test_what_is_no_time_is_null(written):
    assert times(pl.Series([written])).to_list() == [None]


@given(st.text(max_size=40))
def test_no_text_makes_a_time_raise(written):
    assert times(pl.Series([written], dtype=pl.String)).len() == 1
    assert odd_time(written) is None or isinstance(odd_time(written), int)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("2.480891e+06", 2480891),
        ("12ms", 12),
        ("1.5s", 1500),
        ("250us", 0),
        ("1000000ns", 1),
        ("1.0", 1),
        ("0", 0),
        ("-3", -3),
        (" 7 ", 7),
    ],
)
def test_integers_printed_otherwise_are_read(written, number):
    assert odd_number(written) == number


@pytest.mark.parametrize(
    "written", ["nan", "inf", "-inf", "1e400", "9" * 400, "0x10", "1_000", "٣", "1,5", "twelve"]
)
def test_what_is_no_number_is_null(written):
    assert odd_number(written) is None


@given(st.text(max_size=20))
def test_no_text_makes_a_number_raise(written):
    assert odd_number(written) is None or isinstance(odd_number(written), int)


@pytest.mark.parametrize(
    "field", ["response_code", "bytes_sent", "bytes_received", "duration", "upstream_service_time"]
)
def test_a_number_that_is_none_rejects_the_record_and_is_named(field):
    assert read(json_line(**{field: "many"})) == [{"rejected": "bad_value", "field": field}]


@pytest.mark.parametrize("absent", [None, "-", "", ...])
@pytest.mark.parametrize(
    "field", ["authority", "upstream_cluster", "duration", "response_flags", "start_time"]
)
def test_absent_is_null_however_it_is_written(field, absent):
    assert read(json_line(**{field: absent}))[0][field] is None


@pytest.mark.parametrize("field", LIMITS)
def test_a_number_at_its_limit_is_a_bad_value_and_the_one_below_is_not(field):
    assert read(json_line(**{field: LIMITS[field]})) == [{"rejected": "bad_value", "field": field}]
    assert read(json_line(**{field: LIMITS[field] - 1}))[0][field] == LIMITS[field] - 1


def test_a_number_beyond_64_bits_is_a_bad_value():
    assert read(json_line(bytes_sent=10**30)) == [{"rejected": "bad_value", "field": "bytes_sent"}]


def test_a_number_may_carry_its_unit():
    assert read(json_line(duration="1.5s"))[0]["duration_ms"] == 1500


def test_large_integers_printed_as_floats_are_read():
    assert (
        read('{"upstream_cluster":"a","route_name":"b","bytes_sent":2.480891e+06}')[0]["bytes_sent"]
        == 2480891
    )


@pytest.mark.parametrize("path", ["/a?code=secret", "/a?code=secret#x", "/a#secret", "/a?"])
def test_query_and_fragment_are_dropped_by_default(path):
    assert {record["path"] for record in read(text(path=path), json_line(path=path), keep_query=False)} == {
        "/a"
    }


def test_a_query_is_kept_if_told_so():
    assert read(text(path="/a?b=c"), keep_query=True)[0]["path"] == "/a?b=c"


def test_what_a_pattern_matches_in_a_path_is_redacted():
    record = read(text(path="/users/4711/orders/1"), redact=(r"/users/\d+",))[0]
    assert record["path"] == "[redacted]/orders/1"


def test_redaction_happens_in_a_kept_query_too():
    record = read(text(path="/a?token=abc"), redact=("token=[^&]*",), keep_query=True)[0]
    assert record["path"] == "/a?[redacted]"
