"""A unit of work: batches of several partitions, handled as one frame, and everything that is stored of it.

Pure: frames in, frames out. `prepare` reads the messages, `apply` advances the windows and the accounts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from egresslens import istio
from egresslens.clickhouse.frames import DEAD_LETTER
from egresslens.encode import json_objects
from egresslens.enrich import Enriched, enrich, origin
from egresslens.kafka.transport import Batch
from egresslens.outcome import Filtered, Reject
from egresslens.parse.partials import Partials, Unfinished
from egresslens.parse.stage import FILTERED, REJECTS
from egresslens.record import IDENTITY, TIMESTAMP
from egresslens.rules import Rules
from egresslens.windows import Windows, keyed
from egresslens.worker import accounts
from egresslens.worker import replays as replays_module
from egresslens.worker.accounts import Account
from egresslens.worker.replays import Origin, Place, Replay, replay_of

# A dead letter keeps this much of its message in ClickHouse; the topic has it whole.
RAW_BYTES: Final = 65_536
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True)
class Run:
    """Consecutive messages of one partition, and the state of that partition."""

    account: Account
    partials: Partials
    batch: Batch
    skip: int
    """Messages at the batch's start that `progress` already counts: they only rebuild `partials`."""

    @property
    def size(self) -> int:
        """Messages to apply."""
        return len(self.batch) - self.skip


@dataclass(frozen=True)
class Prepared:
    """A unit read: its records, with window keys, and the messages that are dead letters."""

    runs: Sequence[Run]
    enriched: Enriched
    events: pl.Series
    minutes: pl.Series
    windowed: pl.DataFrame
    dead_letters: pl.DataFrame
    replays: pl.DataFrame
    unfinished: Sequence[int]
    """Parts of split lines given up, for each run."""
    needed: Mapping[tuple[str, int], int]
    """Topic and partition -> the oldest offset that a line still open needs: commit no further."""


@dataclass(frozen=True)
class Output:
    """What a unit stores, table by table, and what it publishes."""

    events: pl.DataFrame
    windows: pl.DataFrame
    progress: pl.DataFrame
    dead_letters: pl.DataFrame
    replays: pl.DataFrame
    enriched_json: pl.Series
    windows_json: pl.Series
    enriched: Enriched
    traffic: pl.DataFrame | None
    """What it adds to the egress metrics (istio.increments); None where they are off."""
    needed: Mapping[tuple[str, int], int]
    """As `Prepared.needed`."""


def run(account: Account, partials: Partials, batch: Batch, read_to: int = -1) -> Run:
    """A batch, with what of it its account counts, or will when what was read up to `read_to` is applied."""
    skip = int(np.searchsorted(batch.offsets, max(account.last_offset, read_to), side="right"))
    return Run(account, partials, batch, skip)


def replays_in(runs: Sequence[Run], topic: str) -> dict[int, tuple[Place, Replay]]:
    """Message of the unit -> where it is and what it replays, for those of the replay topic."""
    found = {}
    at = 0
    for one in runs:
        account = one.account
        for row, headers in sorted(one.batch.headers.items()) if account.topic == topic else ():
            replay = replay_of(headers)
            if replay and row >= one.skip:
                offset = int(one.batch.offsets[row])
                place = Place(account.stream_epoch, account.topic, account.partition, offset)
                found[at + row - one.skip] = (place, replay)
        at += one.size
    return found


def prepare(
    runs: Sequence[Run],
    rules: Rules,
    rules_version: int,
    replays: Mapping[int, tuple[Place, Replay]] | None = None,
    replayed: Mapping[tuple[Origin, int], Place] | None = None,
) -> Prepared:
    """Read a unit's messages.

    Args:
        runs: the messages, each partition's in offset order.
        rules: what decides.
        rules_version: its number.
        replays: `replays_in` the runs.
        replayed: for their origins, the replays that were applied before.
    """
    values: list[bytes | None] = []
    parts: list[int] = []
    letters = []
    for one in runs:
        offsets, timestamps, skip = one.batch.offsets.tolist(), one.batch.timestamps.tolist(), one.skip
        if skip:
            one.partials.join(offsets[:skip], one.batch.values[:skip], timestamps[:skip])
        joined = one.partials.join(offsets[skip:], one.batch.values[skip:], timestamps[skip:])
        parts += [len(values) + index for index in joined.partial]
        values += _blanked(joined.values, joined.partial)
        letters.append(joined.unfinished)
    origins = pl.concat(
        origin(
            one.account.stream_epoch,
            one.account.topic,
            one.account.partition,
            one.batch.offsets[one.skip :],
            one.batch.timestamps[one.skip :],
        )
        for one in runs
    )
    enriched = leave_out(enrich(values, origins, rules, rules_version), parts, Filtered.PARTIAL)
    enriched = refuse(enriched, refused_in(runs))
    decision = replays_module.decide(enriched, replays or {}, replayed or {})
    enriched = leave_out(decision.enriched, decision.repeated, Filtered.REPLAYED)
    records = enriched.records
    age = (records["kafka_timestamp"] - records["event_time"]).dt.total_milliseconds()
    minutes = (age <= rules.windows_1m_ttl_days * _DAY_MS).fill_null(value=True)
    dead = [dead_letters(values, origins, enriched, rules, rules_version)]
    dead += [given_up(one, parts, rules, rules_version) for one, parts in zip(runs, letters, strict=True)]
    return Prepared(
        runs,
        enriched,
        (age <= rules.events_ttl_days * _DAY_MS).fill_null(value=True),
        minutes,
        keyed(_where(records, minutes)),
        pl.concat(dead),
        decision.applied,
        [len(parts) for parts in letters],
        {
            (one.batch.topic, one.batch.partition): oldest
            for one in runs
            if (oldest := one.partials.oldest_open) is not None
        },
    )


def apply(
    prepared: Prepared, windows: Windows, rules_version: int, *, publish: bool, count: bool = False
) -> Output:
    """Advance windows and accounts by a unit; the windows it touches are held.

    Args:
        prepared: the unit.
        windows: of the era.
        rules_version: written into the rows.
        publish: whether to encode what the topics get.
        count: whether to sum it up for the egress metrics.
    """
    runs, enriched = prepared.runs, prepared.enriched
    advance = windows.apply(prepared.windowed, rules_version)
    for one in runs:
        if one.size:
            one.account.pass_offsets(one.batch.offsets[one.skip :])
    accounts.settle(
        [one.account for one in runs], [one.size for one in runs], enriched, prepared.events, prepared.minutes
    )
    for one, unfinished in zip(runs, prepared.unfinished, strict=True):
        if unfinished:
            one.account.rejected[Reject.UNFINISHED_PARTIAL.value] += unfinished
    touched = {id(one.account): one.account for one in runs}
    events = _where(enriched.records, prepared.events)
    nothing = pl.Series(dtype=pl.String)
    return Output(
        events=events,
        windows=advance.rows,
        progress=accounts.frame(list(touched.values()), rules_version),
        dead_letters=prepared.dead_letters,
        replays=prepared.replays,
        enriched_json=json_objects(enriched.records.drop("message")) if publish else nothing,
        windows_json=json_objects(advance.rows) if publish else nothing,
        enriched=enriched,
        traffic=istio.increments(advance) if count else None,
        needed=prepared.needed,
    )


def dead_letters(
    values: Sequence[bytes | None],
    origins: pl.DataFrame,
    enriched: Enriched,
    rules: Rules,
    rules_version: int,
) -> pl.DataFrame:
    """One row (frames.DEAD_LETTER, `raw` not cut) for each rejected part, with its message's bytes.

    Query strings and what `redact` names are taken out of text as everywhere; bytes that are no text (OTLP)
    stay as they are.
    """
    rejects = enriched.rejects
    if rejects.is_empty():
        return pl.DataFrame(schema=DEAD_LETTER)
    others = pl.concat([enriched.records["message"], enriched.filtered["message"]]).unique()
    messages = rejects["message"].to_list()
    raws = [censored(values[message] or b"", rules) for message in messages]
    return (
        rejects.hstack(origins[rejects["message"]])
        .with_columns(
            pl.Series("raw", raws, pl.Binary),
            pl.Series("raw_size", [len(raw) for raw in raws], pl.Int64),
            (~pl.col("message").is_in(others.implode())).alias("whole"),
            pl.lit(rules_version, pl.UInt32).alias("rules_version"),
            # A producer may leave the time out; a constant instead, so that it is the same at each delivery.
            pl.col("kafka_timestamp").fill_null(pl.lit(0).cast(TIMESTAMP)),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in DEAD_LETTER.items())
    )


def _blanked(values: Sequence[bytes | None], indexes: Sequence[int]) -> Sequence[bytes | None]:
    """The messages, with nothing in place of those that are not to be read."""
    if not indexes:
        return values
    kept = list(values)
    for index in indexes:
        kept[index] = None
    return kept


def leave_out(enriched: Enriched, messages: Sequence[int], reason: Filtered) -> Enriched:
    """Filter these messages whole, for one reason, whatever was made of them."""
    if not messages:
        return enriched
    out = pl.DataFrame({"message": messages, "seq": 0, "reason": reason.value}, schema=FILTERED)
    kept = ~pl.col("message").is_in(out["message"].implode())
    return Enriched(
        enriched.records.filter(kept),
        enriched.rejects.filter(kept),
        pl.concat([enriched.filtered.filter(kept), out]).sort("message", "seq"),
    )


def refused_in(runs: Sequence[Run]) -> list[tuple[int, int]]:
    """Message of the unit and seq of the records that ClickHouse refused before."""
    found = []
    at = 0
    for one in runs:
        offsets = one.batch.offsets[one.skip :]
        for offset, seq in one.account.refused:
            row = int(np.searchsorted(offsets, offset))
            if row < len(offsets) and offsets[row] == offset:
                found.append((at + row, seq))
        at += one.size
    return found


def refuse(enriched: Enriched, places: Sequence[tuple[int, int]]) -> Enriched:
    """Reject these records (message, seq): they count as if they could not be read."""
    if not places:
        return enriched
    rejects = pl.DataFrame(places, schema={"message": pl.UInt32(), "seq": pl.Int32()}, orient="row")
    key = ["message", "seq"]
    named = rejects.join(enriched.records.select(key), on=key, how="semi").with_columns(
        pl.lit(Reject.REFUSED.value).alias("reason"), pl.lit(None, pl.String).alias("field")
    )
    return Enriched(
        enriched.records.join(rejects, on=key, how="anti", maintain_order="left"),
        pl.concat([enriched.rejects, named.select(enriched.rejects.columns)]).sort(key),
        enriched.filtered,
    )


def refused_letters(refused: pl.DataFrame) -> pl.DataFrame:
    """Rows (frames.DEAD_LETTER) that remember events which ClickHouse refuses; their bytes come later."""
    return refused.select(
        *IDENTITY,
        pl.lit(Reject.REFUSED.value).alias("reason"),
        pl.lit(None, pl.String).alias("field"),
        pl.lit(b"").alias("raw"),
        pl.lit(0, pl.Int64).alias("raw_size"),
        pl.lit(value=False).alias("whole"),
    )


def given_up(one: Run, parts: Sequence[Unfinished], rules: Rules, rules_version: int) -> pl.DataFrame:
    """One row (frames.DEAD_LETTER) for each part of a split line whose end never came.

    It has the time of its own message, not of one that is read when it is given up: where the batches end
    differs from one delivery to the next, and the time is part of a dead letter's identity.
    """
    if not parts:
        return pl.DataFrame(schema=DEAD_LETTER)
    account = one.account
    origins = origin(
        account.stream_epoch,
        account.topic,
        account.partition,
        [part.offset for part in parts],
        [part.timestamp for part in parts],
    )
    rejects = pl.DataFrame(
        {"message": range(len(parts)), "seq": 0, "reason": Reject.UNFINISHED_PARTIAL.value, "field": None},
        schema=REJECTS,
    )
    nothing = Enriched(rejects.clear(), rejects, rejects.clear())
    return dead_letters([part.value for part in parts], origins, nothing, rules, rules_version)


def censored(raw: bytes, rules: Rules) -> bytes:
    """The message without query strings and without what the operator redacts, as far as it is text.

    OTLP's protobuf is no text and stays as it is.
    """
    try:
        text, encoding = raw.decode(), "utf-8"
    except UnicodeDecodeError:
        if raw[:1] == b"\n":
            return raw
        text, encoding = raw.decode("latin-1"), "latin-1"
    column = pl.Series([text])
    for pattern, instead in _censors(rules):
        column = column.str.replace_all(pattern, instead)
    return str(column[0]).encode(encoding)


def _censors(rules: Rules) -> list[tuple[str, str]]:
    """Patterns, in Polars' own syntax and linear time, and what stands in their place."""
    # In JSON a question mark may be written as an escape.
    query = [] if rules.keep_query else [(r"""(?:\?|\\u003[fF])[^\s"'\\]+""", "?[redacted]")]
    return query + [(pattern, "[redacted]") for pattern in rules.redact]


def _where(frame: pl.DataFrame, mask: pl.Series) -> pl.DataFrame:
    return frame if mask.all() else frame.filter(mask)
