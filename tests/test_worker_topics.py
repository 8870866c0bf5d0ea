"""What is published of a unit: which records, to which partition."""

from __future__ import annotations

import polars as pl

from egresslens.encode import json_objects
from egresslens.enrich import Enriched, enrich, origin
from egresslens.rules import Rules
from egresslens.worker.topics import _enriched
from egresslens.worker.unit import Output
from functional.deployment import istio_json


def output(*messages: bytes, partition: int = 5) -> Output:
    origins = origin("e", "t", partition, range(len(messages)), [1_795_500_000_000] * len(messages))
    enriched: Enriched = enrich(messages, origins, Rules(windows_1m_ttl_days=10_000, max_clock_skew_s=10**9))
    nothing = pl.DataFrame()
    return Output(
        events=nothing,
        windows=nothing,
        progress=nothing,
        dead_letters=nothing,
        replays=nothing,
        enriched_json=json_objects(enriched.records.drop("message")),
        windows_json=pl.Series(dtype=pl.String),
        enriched=enriched,
        needed={},
        traffic=None,
    )


def test_a_record_goes_to_its_own_partition_modulo_the_topics():
    assert {partition: len(rows) for partition, rows in _enriched(output(istio_json(1)), 4).items()} == {1: 1}


def test_a_record_that_no_broker_takes_is_left_out_and_the_others_are_not():
    # A text log copies bytes as they are; in JSON a control character takes six.
    long = "\x01" * 20_000
    head = f'[2026-01-02T03:04:05.678Z] "{long} {long} {long}" 200 - {long} {long} "{long}" 1 2 3 -'
    tail = f"{long} {long} {long} {long} {long} {long}"
    huge = f'{head} "{long}" "{long}" "{long}" "{long}" "{long}" {tail}'.encode()
    unit = output(istio_json(0), huge, istio_json(2))
    assert unit.enriched.records.height == 3
    found = _enriched(unit, 1)
    assert [size < 1_000_000 for size in found[0].values.str.len_bytes()] == [True, True]
