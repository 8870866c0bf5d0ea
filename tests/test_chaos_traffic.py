"""The chaos traffic and its truth, against the program itself without any server."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from chaos import traffic as made
from chaos.truth import KEY, Truth, truth
from egresslens.kafka.transport import Batch
from egresslens.parse.partials import Partials
from egresslens.record import WINDOW
from egresslens.rules import Rules
from egresslens.windows import Windows
from egresslens.worker import unit
from egresslens.worker.accounts import Account

COUNT, PARTITIONS = 60_000, 2
RULES = Rules(max_destinations=made.CAP)


@pytest.fixture(scope="module")
def traffic() -> made.Traffic:
    return made.make(1, COUNT, PARTITIONS)


@pytest.fixture(scope="module")
def expected(traffic: made.Traffic) -> Truth:
    numbers = np.arange(COUNT)
    places = pl.DataFrame(
        {"message": numbers, "partition": numbers % PARTITIONS, "offset": numbers // PARTITIONS}
    )
    return truth(traffic, places)


@pytest.fixture(scope="module")
def output(traffic: made.Traffic) -> unit.Output:
    """What one worker makes of all of it at once."""
    messages: list[list[bytes | None]] = [[] for _ in range(PARTITIONS)]
    for number, value in traffic.render(0, COUNT):
        messages[number % PARTITIONS].append(value)
    runs = [
        unit.run(Account("e", "t", partition), Partials(), batch(partition, values, traffic.now))
        for partition, values in enumerate(messages)
    ]
    prepared = unit.prepare(runs, RULES, 1)
    windows = Windows(RULES.max_destinations)
    windows.load(windows.missing(prepared.windowed), pl.DataFrame(schema=WINDOW))
    return unit.apply(prepared, windows, 1, publish=False)


def batch(partition: int, values: list[bytes | None], now: int) -> Batch:
    count = len(values)
    return Batch(
        "t",
        partition,
        1,
        np.arange(count),
        np.full(count, now),
        values,
        {},
        sum(map(len, filter(None, values))),
        count,
    )


def places(outcomes: pl.DataFrame, partitions: list[int]) -> list[tuple[object, ...]]:
    """Partition, offset, seq and reason of a unit's outcomes, whose messages are numbered through."""
    starts = np.cumsum([0, *partitions])
    partition = np.searchsorted(starts, outcomes["message"].to_numpy(), side="right") - 1
    offset = outcomes["message"].to_numpy() - starts[partition]
    return sorted(zip(partition.tolist(), offset.tolist(), outcomes["seq"], outcomes["reason"], strict=True))


def test_the_same_seed_gives_the_same_traffic(traffic):
    again = made.make(1, COUNT, PARTITIONS, traffic.now)
    assert list(again.render(0, 500)) == list(traffic.render(0, 500))


def test_every_kind_of_message_is_there(traffic):
    assert set(np.unique(traffic.kinds)) == {*made.SHARES, made.REST, made.CRI_REST}


def test_every_record_is_where_the_truth_says(output, expected):
    place = ["partition", "offset", "seq"]
    wanted = expected.records.filter("event").select(pl.col(place).cast(pl.Int64))
    found = output.events.select(pl.col(place).cast(pl.Int64))
    assert found.sort(place).equals(wanted.sort(place))


def test_every_reject_has_the_reason_that_the_truth_says(output, expected):
    rejects = expected.rejects.filter(pl.col("reason") != "unfinished_partial")
    sizes = [COUNT // PARTITIONS] * PARTITIONS
    assert places(output.enriched.rejects, sizes) == sorted(rejects.rows())


def test_what_is_filtered_is_what_the_truth_says(output, expected):
    sizes = [COUNT // PARTITIONS] * PARTITIONS
    assert places(output.enriched.filtered, sizes) == sorted(expected.filtered.rows())


def test_windows_are_what_the_truth_says(output, expected):
    key = [*KEY, "partition"]
    sums = ["requests", "mismatches", "bytes_sent", "bytes_received", "duration_ms_sum", "duration_ms_max"]
    found = output.windows.select(key + sums).sort(key)
    wanted = (
        expected.prefixes()
        .sort("offset")
        .unique(key, keep="last")
        .select(key + sums)
        .with_columns(pl.col(name).cast(found.schema[name]) for name in key + sums)
        .sort(key)
    )
    assert found.equals(wanted)


def test_accounts_are_what_the_truth_says(output, expected):
    for row in output.progress.to_dicts():
        wanted = expected.counts(row["partition"])
        found = {name: row[name] for name in wanted}
        for name in ("filtered", "rejected"):
            found[name] = {pair["key"]: pair["value"] for pair in row[name]}
        assert found == wanted
