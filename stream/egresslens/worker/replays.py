"""Replayed dead letters: each origin is applied once, ever.

A message of the replay topic names its origin in a header. It is applied if it can be read now and no other
replay of the same origin was applied before it; of several in a row the first is the one. The store
remembers which one it was, so that a worker that reads the topic again decides the same. All replays of an
origin are in one partition, since the origin is their key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import orjson
import polars as pl

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
    """What a message's headers say; None if it is no replay (or the header is not ours)."""
    for name, value in headers:
        if name == ORIGIN_HEADER:
            try:
                said = orjson.loads(value or b"")
                origin = Origin(
                    str(said["stream_epoch"]), str(said["topic"]), int(said["partition"]), int(said["offset"])
                )
                seqs = said["seqs"]
                return Replay(origin, None if seqs is None else frozenset(int(seq) for seq in seqs))
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                return None
    return None


@dataclass(frozen=True)
class Decision:
    """Which messages of a unit are applied already, and what is to be remembered (frames.REPLAY)."""

    enriched: Enriched
    repeated: Sequence[int]
    applied: pl.DataFrame


def decide(
    enriched: Enriched, replays: Mapping[int, tuple[Place, Replay]], known: Mapping[Origin, Place]
) -> Decision:
    """Judge a unit's replays.

    Args:
        enriched: what the unit became.
        replays: message -> where it is and what it replays, in offset order.
        known: origin -> the replay that applied it.
    """
    if not replays:
        return Decision(enriched, (), pl.DataFrame(schema=REPLAY))
    rejected = set(enriched.rejects["message"].to_list())
    applied: dict[Origin, Place] = {}
    repeated = []
    for message, (place, replay) in replays.items():
        first = known.get(replay.origin) or applied.get(replay.origin)
        if first is not None and first != place:
            repeated.append(message)
        elif first is None and message not in rejected:
            applied[replay.origin] = place
    rows = [(*origin, *place) for origin, place in applied.items()]
    return Decision(_only(enriched, replays), repeated, pl.DataFrame(rows, schema=REPLAY, orient="row"))


def _only(enriched: Enriched, replays: Mapping[int, tuple[Place, Replay]]) -> Enriched:
    """Leave out the parts of replayed messages that were applied when the message first came."""
    seqs = [
        (message, seq)
        for message, (_, replay) in replays.items()
        if replay.seqs is not None
        for seq in replay.seqs
    ]
    partly = [message for message, (_, replay) in replays.items() if replay.seqs is not None]
    if not partly:
        return enriched
    wanted = pl.DataFrame(seqs, schema={"message": pl.UInt32(), "seq": pl.Int32()}, orient="row")

    def kept(frame: pl.DataFrame) -> pl.DataFrame:
        some = frame.filter(pl.col("message").is_in(partly)).join(wanted, on=["message", "seq"], how="semi")
        others = frame.filter(~pl.col("message").is_in(partly))
        return pl.concat([others, some]).sort("message", "seq")

    return Enriched(kept(enriched.records), kept(enriched.rejects), kept(enriched.filtered))
