"""The loop: read, wrap, send, settle, remember; until told to stop, or once to the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from kafka import KafkaProducer

from egresslens.ship.delivery import Delivery
from egresslens.ship.envelope import Metadata, envelope, message_key
from egresslens.ship.positions import Position, Positions
from egresslens.ship.tail import Follower, Line

_LOOK_S: Final = 0.25
_IDLE_S: Final = 0.05
_SAVE_S: Final = 1.0
# Well below the 10 s after which supervisors lose patience.
_CLOSE_S: Final = 5.0


@dataclass(frozen=True)
class Shipped:
    """How it ended: messages acknowledged, messages that were read and are not, and files followed."""

    acknowledged: int
    unacknowledged: int
    files: int


def ship(
    patterns: Sequence[str],
    *,
    topic: str,
    connect: Callable[[], KafkaProducer],
    metadata: Metadata,
    positions: Positions,
    once: bool,
    stop: threading.Event,
    now: Callable[[], datetime],
    progress: Callable[[int, int], None],
) -> Shipped:
    """Follow the files into `topic` until `stop` is set, or with `once` to their present end.

    A position is saved only after the brokers acknowledged everything before it: after any end whatever,
    the next start sends what may be missing, some of it for the second time.

    Args:
        patterns: paths, or globs; a file need not exist yet.
        topic: an existing topic.
        connect: makes a producer (see `delivery.PRODUCER`), or raises KafkaError.
        metadata: what is known of the files' writer.
        positions: entered; where to begin, and where to remember.
        once: stop at the end of the files, and send a last line without a newline as well.
        stop: set from outside to end it; what is under way is waited for, for 5 seconds at most.
        now: the clock for the envelope's time.
        progress: told (bytes acknowledged, bytes in all files) about four times a second.

    Raises:
        DeliveryError: the brokers refuse for good.
        PositionsError: the positions are damaged.
    """
    loop = _Loop(Follower(patterns, positions.load()), Delivery(connect, topic), metadata, now)
    saved: list[Position] = []
    look_at = save_at = 0.0
    try:
        while not stop.is_set():
            if time.monotonic() >= look_at:
                loop.follower.look()
                progress(*loop.done())
                look_at = time.monotonic() + _LOOK_S
            state = loop.step()
            if time.monotonic() >= save_at:
                saved = _save(positions, loop.follower, saved)
                loop.follower.forget_ended()
                save_at = time.monotonic() + _SAVE_S
            if once and state is _State.AT_END:
                loop.finish(stop)
                progress(*loop.done())
                break
            if state is not _State.MOVING:
                stop.wait(_IDLE_S)
        loop.delivery.close(_CLOSE_S)
        return Shipped(loop.delivery.acknowledged, loop.delivery.waiting, len(loop.follower.sources))
    finally:
        _save(positions, loop.follower, saved)
        loop.follower.close()


class _State(Enum):
    MOVING = "lines were read or acknowledged"
    WAITING = "as much is under way as may be"
    AT_END = "all files are read to their ends"


@dataclass(frozen=True)
class _Loop:
    follower: Follower
    delivery: Delivery
    metadata: Metadata
    now: Callable[[], datetime]

    def step(self) -> _State:
        """Send what there is, as far as there is room, and take acknowledgements in."""
        state = _State.AT_END if self.delivery.has_room() else _State.WAITING
        if self.delivery.has_room():
            for lines in self.follower.read():
                self._send(lines)
                state = _State.MOVING
                if not self.delivery.has_room():
                    break
        return _State.MOVING if self.delivery.settle() else state

    def finish(self, stop: threading.Event) -> None:
        """Send unfinished last lines, and wait until all is acknowledged or `stop` is set."""
        self._send(self.follower.finish())
        while self.delivery.waiting and not stop.is_set():
            if not self.delivery.settle():
                stop.wait(_IDLE_S)

    def done(self) -> tuple[int, int]:
        """Bytes that are in Kafka, bytes in all files."""
        sources = self.follower.sources
        return sum(source.done for source in sources), sum(source.size for source in sources)

    def _send(self, lines: Sequence[Line]) -> None:
        read_at = self.now()
        for line in lines:
            key = message_key(line.source.path, self.metadata)
            self.delivery.send(line, key, envelope(line.text, self.metadata, read_at))


def _save(positions: Positions, follower: Follower, saved: list[Position]) -> list[Position]:
    current = follower.positions()
    if current != saved:
        positions.save(current)
    return current
