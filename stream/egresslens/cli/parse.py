"""`egresslens parse`: records as JSON, one per line."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click
import orjson
import polars as pl

from egresslens.cli.reading import read
from egresslens.encode import json_rows
from egresslens.enrich import ORIGIN, Enriched, enrich
from egresslens.record import IDENTITY
from egresslens.settings import load
from egresslens.text import ascii_json


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--messages", is_flag=True, help="Each input line is a JSON string that holds one Kafka message."
)
def command(file: str, messages: bool) -> None:
    """Print one JSON object per record of FILE (`-` reads standard input; gzip and zstd as well).

    Each object has the record's fields and `line`, the input line (from 1). A line that cannot be read
    prints {"line": n, "reject": {"reason": …, "field": …}}, one that is left out on purpose
    {"line": n, "filtered": {"reason": …}}.
    """
    rules = load().rules
    first = 1
    for _, chunk in read([file]):
        values = [message(line) if messages else line for line in chunk]
        origins = pl.DataFrame({name: [None] * len(values) for name in ORIGIN}, schema=ORIGIN)
        enriched = enrich(values, origins, rules, keep_all=True)
        for text in rows(enriched, first):
            sys.stdout.write(text + "\n")
        first += len(values)


def message(line: bytes) -> bytes:
    """The message in a line that is a JSON string; any other line is the message itself."""
    try:
        text = orjson.loads(line)
    except orjson.JSONDecodeError:
        return line
    return text.encode() if isinstance(text, str) else line


def rows(enriched: Enriched, first: int) -> Iterator[str]:
    """JSON texts of what a batch became, in input order; `first` is the number of its first line."""
    line = (pl.col("message").cast(pl.Int64) + first).alias("line")
    hidden = [name for name in IDENTITY if name != "seq"]
    records = enriched.records.select(line, pl.exclude("message", *hidden))
    why = pl.struct("reason", "field").alias("reject")
    parts = [
        (enriched.records, records),
        (enriched.rejects, enriched.rejects.select(line, why)),
        (enriched.filtered, enriched.filtered.select(line, pl.struct("reason").alias("filtered"))),
    ]
    texts = pl.concat(
        frame.select("message", "seq").with_columns(json_rows(shown).alias("text")) for frame, shown in parts
    )
    yield from map(ascii_json, texts.sort("message", "seq")["text"])
