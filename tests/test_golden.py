"""The program reads the lines that the real Envoy wrote as what was sent."""

import json
from pathlib import Path

import polars as pl
import pytest

from egresslens.enrich import ORIGIN, Enriched, enrich
from egresslens.rules import Rules

GOLDEN = Path(__file__).parent / "golden"
FORMATS = ("istio-text", "istio-json", "envoy-text", "custom-text")
# What the truth says of the sender and the moment, which are no fields of the line.
NOT_FIELDS = frozenset({"proxy", "situation"})


@pytest.mark.parametrize("name", FORMATS)
def test_every_golden_line_is_read_as_what_was_sent(name):
    truth = truth_of(name)
    records = read(name).records
    assert len(records) == len(truth["lines"])
    for number, (record, line) in enumerate(
        zip(records.iter_rows(named=True), truth["lines"], strict=True), 1
    ):
        wanted = {field: value for field, value in line.items() if field not in NOT_FIELDS}
        assert {field: record[field] for field in wanted} == wanted, f"line {number}"


@pytest.mark.parametrize("name", FORMATS)
def test_no_golden_line_is_rejected(name):
    assert read(name).rejects.is_empty()


@pytest.mark.parametrize("name", ["istio-text", "envoy-text"])
def test_only_the_line_with_forged_fields_counts_as_damaged(name):
    damaged = read(name).records.filter(pl.col("damage").is_not_null())
    assert damaged["user_agent"].to_list() == ['curl/8" 200 - via_upstream - "forged']


def read(name: str) -> Enriched:
    formats = (truth_of(name)["format"],) if name == "custom-text" else ()
    rules = Rules(keep_query=True, log_format=formats)
    lines = (GOLDEN / f"{name}.log").read_bytes().splitlines()
    origins = pl.DataFrame({field: [None] * len(lines) for field in ORIGIN}, schema=ORIGIN)
    return enrich(lines, origins, rules, keep_all=True)


def truth_of(name: str) -> dict:
    return json.loads((GOLDEN / f"{name}.truth.json").read_text())
