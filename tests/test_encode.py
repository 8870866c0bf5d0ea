from datetime import datetime, timezone

import orjson
import polars as pl
import pytest

from egresslens.encode import json_objects, json_rows

FRAME = pl.DataFrame(
    {
        "at": [datetime(2026, 1, 2, 3, 4, 5, 678_000, timezone.utc)] * 3,
        "topic": ["logs"] * 3,
        "quoted": ['a "b" \\ }'] * 3,
        "host": ["a}", "b", None],
        "offset": [1, 2, 3],
        "nothing": pl.Series([None] * 3, dtype=pl.String),
        "no_list": pl.Series([None] * 3, dtype=pl.List(pl.String)),
        "flags": [["UH"], ["UH"], ["UH"]],
        "ends_alike": [1, 2, 1],
    }
)


def objects(texts: pl.Series) -> list[object]:
    return [orjson.loads(text) for text in texts]


@pytest.mark.parametrize(
    "frame",
    [FRAME, FRAME.head(1), FRAME.select("topic", "nothing"), FRAME.select("offset"), FRAME.clear()],
    ids=["mixed", "one row", "all shared", "none shared", "no rows"],
)
def test_objects_hold_what_rows_hold(frame):
    assert objects(json_objects(frame)) == objects(json_rows(frame))


def test_what_all_rows_share_comes_last():
    assert list(orjson.loads(json_objects(FRAME)[0])) == [
        "host", "offset", "flags", "ends_alike", "at", "topic", "quoted", "nothing", "no_list",
    ]  # fmt: skip
