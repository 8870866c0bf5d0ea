"""Bytes in, records out: one batch of messages at a time, column by column.

`parse` cannot raise for any input. Every message comes back as at least one record, as rejects, or as
filtered, and what becomes of it never depends on its neighbours in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from egresslens.outcome import Reject
from egresslens.parse import envelopes, layouts, objects, odd, prefixes, template
from egresslens.parse.damage import Damage
from egresslens.parse.jsontext import unquoted
from egresslens.parse.seats import Seats
from egresslens.parse.stage import (
    FILTERED,
    LINES,
    RECORDS,
    REJECTS,
    Stage,
    flagged,
    gather,
    mended,
    rejected,
    trimmed,
)
from egresslens.rules import Rules

# An envelope inside an envelope inside an envelope: shippers nest two deep, three is generous.
MAX_NESTING = 4

__all__ = ["Parsed", "parse"]


@dataclass(frozen=True)
class Parsed:
    """What a batch of messages became.

    records: RECORDS (message, seq, envelope_time, source_role and record.PARSED), ordered by message and seq.
    rejects: message, seq, reason (`outcome.Reject`), field.
    filtered: message, seq, reason (`outcome.Filtered`).
    """

    records: pl.DataFrame
    rejects: pl.DataFrame
    filtered: pl.DataFrame


def parse(values: Sequence[bytes | None], rules: Rules) -> Parsed:
    """Read messages. `message` in the result is the index into `values`; nothing is raised for any bytes."""
    seats = Seats(rules.max_records_per_message)
    stage = _admit(values, rules, seats)
    todo = gather(stage.lines, LINES)
    for _ in range(MAX_NESTING):
        if todo.is_empty():
            break
        # A custom format's line is whole as it is, whatever of several records its values look like.
        whole, todo = template.read_texts(todo, rules, prefixed=True)
        todo, apart = envelopes.split(todo, rules, seats)
        step = whole + apart + _step(todo, rules)
        stage += Stage(step.records, step.rejects, step.filtered, forgiven=step.forgiven)
        todo = gather(step.lines, LINES)
    stage = seats.refuse(stage + rejected(todo, Reject.BAD_ENVELOPE))
    return Parsed(
        flagged(gather(stage.records, RECORDS), stage.forgiven),
        gather(stage.rejects, REJECTS),
        gather(stage.filtered, FILTERED),
    )


def _admit(values: Sequence[bytes | None], rules: Rules, seats: Seats) -> Stage:
    """Make text of messages, and lines of OpenTelemetry's; reject the empty and the too large."""
    raw = pl.Series("text", values, dtype=pl.Binary)
    frame = pl.DataFrame([raw]).with_row_index("message").with_columns(pl.lit(0, pl.Int32).alias("seq"))
    size = pl.col("text").bin.size()
    large = size > rules.max_message_bytes
    stage = Stage()
    if frame.select((large | pl.col("text").is_null()).any()).item():
        stage += rejected(frame.filter(large), Reject.TOO_LARGE)
        stage += rejected(frame.filter(pl.col("text").is_null()), Reject.EMPTY)
        frame = frame.filter(~large)
    frame, parts = envelopes.admit(frame)
    taken, apart = seats.take(parts)
    try:
        text = frame["text"].cast(pl.String)
    except pl.exceptions.ComputeError:
        # Envoy's text log copies header bytes as they are, in whatever encoding the client chose.
        text = pl.Series("text", [value.decode("utf-8", "replace") for value in frame["text"]], pl.String)
    frame = frame.with_columns(trimmed(text).alias("text"))
    blank = frame["text"] == ""
    if blank.any():
        stage += rejected(frame.filter(blank), Reject.EMPTY)
        frame = frame.filter(~blank)
    missing = {name: dtype for name, dtype in LINES.items() if name not in frame.columns}
    lines = frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in missing.items())
    return stage + apart + Stage(lines=[lines.select(list(LINES)), taken])


def _step(lines: pl.DataFrame, rules: Rules) -> Stage:
    """Read lines once: objects by their keys, text by its layout, the rest one by one."""
    stage, lines = template.read_texts(prefixes.runtime(lines), rules, prefixed=False)
    quoted = lines["text"].str.starts_with("{\\") | lines["text"].str.starts_with('"{')
    if quoted.any():
        strings, lines = lines.filter(quoted), lines.filter(~quoted)
        texts = [unquoted(text) for text in strings["text"]]
        stage += mended(strings, texts, Damage.ESCAPED_QUOTES)
    braced = lines["text"].str.starts_with("{")
    if braced.any():
        stage += objects.step(lines.filter(braced), rules)
        lines = lines.filter(~braced)
    # Every layout begins with the time in brackets; what a terminal broke or filled, or what ends in a stray
    # character, is for the exact way.
    text = lines["text"].str
    whole = ~(text.contains("[\n\t]") | text.contains(odd.STRAY))
    bracketed = text.starts_with("[") & whole
    odd_lines, lines = lines.filter(~bracketed), lines.filter(bracketed)
    if lines.height:
        found, lines = layouts.step(lines, rules)
        stage += found
    odd_lines = pl.concat([odd_lines, lines])
    return stage + (odd.step(odd_lines, rules) if odd_lines.height else Stage())
