"""Replayed dead letters: each origin is applied once, ever.

A message of the replay topic names its origin in a header. Each part of it is applied if it can be read now
and no other replay of the same part was applied before; of several in a row the first is the one. The store
remembers which one it was, so that a worker that reads the topic again decides the same. All replays of an
origin are in one partition, since the origin is their key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

import orjson
import polars as pl
from pydantic import BaseModel, Field, ValidationError

from egresslens.clickhouse.frames import REPLAY
from egresslens.enrich import Enriched
from egresslens.kafka.transport.batch import Headers

ORIGIN_HEADER: Final = "egresslens-origin"


class Origin(NamedTuple):
    """The message that a dead letter was."""

    stream_epoch: str
    topic: str
    partition: int
    offset: int


class Place(NamedTuple):
    """A message of the replay topic."""

    stream_epoch: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Replay:
    """One message of the replay topic; `seqs` are the parts to apply, None for all of the message."""

    origin: Origin
    seqs: frozenset[int] | None

    def header(self) -> tuple[str, bytes]:
        """The Kafka header that says so."""
        seqs = sorted(self.seqs) if self.seqs is not None else None
        return ORIGIN_HEADER, orjson.dumps({**self.origin._asdict(), "seqs": seqs})

    def key(self) -> bytes:
        """The Kafka key, the same for every replay of an origin."""
        return orjson.dumps(list(self.origin))


def replay_of(headers: Headers) -> Replay | None:
    """What a message's headers say; None if it is no replay, or the header is not one of ours."""
    for name, value in headers:
        if name == ORIGIN_HEADER:
            try:
                said = _Said.model_validate_json(value or b"")
            except ValidationError:
                return None
            origin = Origin(said.stream_epoch, said.topic, said.partition, said.offset)
            return Replay(origin, None if said.seqs is None else frozenset(said.seqs))
    return None


class _Said(BaseModel):
    """The header's JSON. Anybody who may write to the topic may write it, so its numbers are bounded."""

    stream_epoch: str = Field(max_length=300)
    topic: str = Field(max_length=249)
    partition: int = Field(ge=0, lt=2**31)
    offset: int = Field(ge=0, lt=2**63)
    seqs: list[Annotated[int, Field(ge=0, lt=2**31)]] | None = Field(max_length=100_000)


@dataclass(frozen=True)
class Decision:
    """What is left to apply of a unit, and what is to be remembered (frames.REPLAY).

    `repeated` are messages of which nothing is left: other replays have applied all of it.
    """

    enriched: Enriched
    repeated: Sequence[int]
    applied: pl.DataFrame


def decide(
    enriched: Enriched,
    replays: Mapping[int, tuple[Place, Replay]],
    known: Mapping[tuple[Origin, int], Place],
) -> Decision:
    """Judge a unit's replays, part by part.

    Args:
        enriched: what the unit became.
        replays: message -> where it is and what it replays, in offset order.
        known: (origin, seq) -> the replay that applied that part.
    """
    if not replays:
        return Decision(enriched, (), pl.DataFrame(schema=REPLAY))
    applied: dict[tuple[Origin, int], Place] = {}
    refused: list[tuple[int, int]] = []
    parts = enriched.records.filter(pl.col("message").is_in(list(replays))).select("message", "seq")
    for message, seq in parts.iter_rows():
        place, replay = replays[message]
        part = (replay.origin, seq)
        first = known.get(part) or applied.get(part)
        if (replay.seqs is not None and seq not in replay.seqs) or first not in (None, place):
            refused.append((message, seq))
        elif first is None:
            applied[part] = place
    # Parts that were applied, or were dead letters already, when the message first came.
    for message, seq in pl.concat(
        frame.filter(pl.col("message").is_in(list(replays))).select("message", "seq")
        for frame in (enriched.rejects, enriched.filtered)
    ).iter_rows():
        seqs = replays[message][1].seqs
        if seqs is not None and seq not in seqs:
            refused.append((message, seq))
    left = _without(enriched, refused)
    remaining = set(
        pl.concat([left.records["message"], left.rejects["message"], left.filtered["message"]]).to_list()
    )
    rows = [(*origin, seq, *place) for (origin, seq), place in applied.items()]
    return Decision(
        left,
        [message for message in replays if message not in remaining],
        pl.DataFrame(rows, schema=REPLAY, orient="row"),
    )


def _without(enriched: Enriched, parts: Sequence[tuple[int, int]]) -> Enriched:
    if not parts:
        return enriched
    gone = pl.DataFrame(parts, schema={"message": pl.UInt32(), "seq": pl.Int32()}, orient="row")
    return Enriched(
        *(
            frame.join(gone, on=["message", "seq"], how="anti", maintain_order="left")
            for frame in (enriched.records, enriched.rejects, enriched.filtered)
        )
    )
