"""Writing twice, in any order and by several writers has the effect of writing once."""

import random
from datetime import timedelta

import polars as pl
import pytest

from clickhouse_rows import (
    HOUR,
    Database,
    database,
    event,
    events,
    migrated,
    minute,
    window,
    windows,
)
from clickhouse_rows import progress as progress_row
from egresslens import record
from egresslens.clickhouse import frames

__all__ = ["database", "migrated"]

pytestmark = pytest.mark.functional


def test_the_same_events_written_twice_are_one_row_each(database: Database):
    rows = events(*(event(offset) for offset in range(100)))
    database.insert("raw_events", rows, rows)
    assert [row["offset"] for row in database.view("events", "offset")] == list(range(100))


def test_an_event_under_newer_rules_replaces_the_older_one_whichever_comes_last(database: Database):
    old = events(event(1, destination_host="a", label="unknown"))
    new = events(event(1, destination_host="b", label="blackhole", rules_version=2))
    database.insert("raw_events", new, old)
    assert [(row["destination_host"], row["label"]) for row in database.view("events")] == [
        ("b", "blackhole")
    ]


def test_records_of_one_message_are_told_apart_by_seq(database: Database):
    database.insert("raw_events", events(event(1, seq=0), event(1, seq=1)))
    assert [row["seq"] for row in database.view("events", "seq")] == [0, 1]


def test_a_topic_made_again_does_not_overwrite_the_old_ones_events(database: Database):
    database.insert("raw_events", events(event(0)), events(event(0, stream_epoch="another")))
    assert len(database.view("events")) == 2


def test_events_come_back_as_they_were_written(database: Database):
    full = event(
        7,
        start_time=HOUR,
        duration_ms=12,
        destination_port=443,
        mismatch=True,
        response_flags=["UF", "URX"],
        path="/naïve?",
        bytes_received=2**40,
        seq=3,
        cluster_port=-1,
    )
    database.insert("raw_events", events(full, event(8, response_flags=None)))
    seven, eight = database.view("events", "offset")
    assert {name: seven[name] for name in record.ENRICHED} == {
        **full,
        **{name: full[name].replace(tzinfo=None) for name in ("event_time", "start_time", "kafka_timestamp")},
    }
    assert eight["response_flags"] == []
    assert eight["destination_port"] is None


def test_the_row_with_the_highest_offset_wins_whatever_the_order(database: Database):
    states = [windows(window(requests=n + 1, last_offset=n)) for n in range(8)]
    random.Random(5).shuffle(states)
    database.insert("raw_windows_1m", *states, *states[:3])
    assert [row["requests"] for row in database.view("windows_1m")] == [8]


def test_newer_rules_win_over_a_higher_offset(database: Database):
    database.insert(
        "raw_windows_1m",
        windows(window(requests=5, last_offset=10, rules_version=2)),
        windows(window(requests=9, last_offset=99, rules_version=1)),
    )
    assert [row["requests"] for row in database.view("windows_1m")] == [5]


def test_a_withdrawn_row_is_not_shown(database: Database):
    database.insert(
        "raw_windows_1m",
        windows(window(destination_host="old")),
        windows(window(destination_host="old", rules_version=2, requests=0), window(destination_host="new")),
    )
    for view in ("windows_1m", "windows_1h", "windows_1d", "destinations"):
        assert [row["destination_host"] for row in database.view(view)] == ["new"], view


def test_kafka_partitions_and_epochs_of_a_key_are_one_row(database: Database):
    database.insert(
        "raw_windows_1m",
        windows(
            window(partition=0, requests=2, destination_ips=["10.0.0.2", "10.0.0.1"], duration_ms_max=7),
            window(partition=1, requests=3, destination_ips=["10.0.0.3"], duration_ms_max=9, mismatches=1),
            window(stream_epoch="another", requests=5, first_event=HOUR - timedelta(seconds=1)),
        ),
    )
    (row,) = database.view("windows_1m")
    assert {name: row[name] for name in record.WINDOW_MEASURES} == {
        "requests": 10,
        "mismatches": 1,
        "bytes_sent": 1000,
        "bytes_received": 100,
        "duration_ms_sum": 50,
        "duration_ms_max": 9,
        "duration_buckets": [0, 0, 10, *[0] * 17],
        "destination_ips": ["10.0.0.1", "10.0.0.2", "10.0.0.3"],
        "first_event": (HOUR - timedelta(seconds=1)).replace(tzinfo=None),
        "last_event": (HOUR + timedelta(seconds=5)).replace(tzinfo=None),
    }


def test_an_absent_key_is_null_and_a_key_of_its_own(database: Database):
    absent = window(source_workload=None, source_ip="10.1.1.1", response_code=None, destination_port=None)
    database.insert(
        "raw_windows_1m", windows(absent, window()), windows({**absent, "requests": 4, "last_offset": 9})
    )
    rows = {row["source_workload"]: row for row in database.view("windows_1m")}
    assert rows.keys() == {None, "idgen"}
    assert (rows[None]["requests"], rows[None]["source_ip"], rows[None]["response_code"]) == (
        4,
        "10.1.1.1",
        None,
    )
    assert rows["idgen"]["source_ip"] is None


def test_addresses_are_bounded_and_the_same_in_every_tier(database: Database):
    database.insert(
        "raw_windows_1m",
        windows(
            *(
                window(window_start=minute(n), destination_ips=[f"10.0.{n}.{m}" for m in range(16)])
                for n in range(4)
            )
        ),
    )

    def addresses() -> list[list[str]]:
        return [database.view(view)[0]["destination_ips"] for view in ("windows_1h", "windows_1d")]

    before = addresses()
    database.insert("raw_progress", progress_row(0))
    database.roll_up()
    assert addresses() == before == [sorted(f"10.0.0.{m}" for m in range(16))] * 2


@pytest.mark.parametrize("seed", range(5))
def test_any_interleaving_of_two_writers_gives_the_same_views(database: Database, seed: int):
    chance = random.Random(seed)
    history = _history(chance)
    merged = [*history, *chance.sample(history, 12)]
    chance.shuffle(merged)
    for table in ("raw_windows_1m",):
        database.insert(table, *merged)
    truth: dict[object, tuple[int, int]] = {}
    for frame in history:
        for row in frame.iter_rows(named=True):
            key = (row["window_start"], row["partition"], row["destination_host"])
            truth[key] = max(truth.get(key, (-1, 0)), (row["last_offset"], row["requests"]))
    expected: dict[object, int] = {}
    for (start, _, host), (_, requests) in truth.items():
        expected[start.replace(tzinfo=None), host] = (
            expected.get((start.replace(tzinfo=None), host), 0) + requests
        )
    assert {
        (row["window_start"].replace(tzinfo=None), row["destination_host"]): row["requests"]
        for row in database.view("windows_1m")
    } == expected
    for view in ("windows_1h", "windows_1d", "destinations"):
        assert sum(row["requests"] for row in database.view(view)) == sum(expected.values()), view


def _history(chance: random.Random) -> list[pl.DataFrame]:
    """Flushes of two partitions: absolute rows with rising offsets."""
    counts: dict[tuple[int, int, str], int] = {}
    flushes = []
    for offset in range(30):
        rows = []
        for partition in (0, 1):
            key = (partition, chance.randrange(120), chance.choice("abc"))
            counts[key] = counts.get(key, 0) + 1
            rows.append(
                window(
                    partition=partition,
                    window_start=minute(key[1]),
                    destination_host=key[2],
                    requests=counts[key],
                    last_offset=offset,
                )
            )
        flushes.append(windows(*rows))
    return flushes


def test_progress_is_the_newest_of_each_partition(database: Database):
    newest = progress_row(
        20, filtered=[{"key": "inbound", "value": 3}], past_retention=[{"key": "events", "value": 1}]
    )
    database.insert("raw_progress", newest, progress_row(10), progress_row(4, partition=1))
    first, second = database.view("progress", "partition")
    assert (first["last_offset"], first["filtered"], first["past_retention"]) == (
        20,
        {"inbound": 3},
        {"events": 1},
    )
    assert second["last_offset"] == 4


def test_dead_letters_keep_their_bytes(database: Database):
    raw = bytes(range(256))
    row = {
        "rules_version": 1,
        "stream_epoch": "epoch",
        "topic": "egress.access-log",
        "partition": 0,
        "offset": 5,
        "seq": 0,
        "kafka_timestamp": HOUR,
        "reason": "unknown_format",
        "field": None,
        "raw": raw,
        "raw_size": 256,
        "whole": True,
    }
    frame = pl.DataFrame([row], schema=frames.DEAD_LETTER)
    database.insert("raw_dead_letters", frame, frame)
    (found,) = database.rows("SELECT reason, field, hex(raw) AS raw, raw_size FROM {db}.dead_letters")
    assert found == {"reason": "unknown_format", "field": None, "raw": raw.hex().upper(), "raw_size": 256}
