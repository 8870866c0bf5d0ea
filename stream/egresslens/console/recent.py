"""What the console remembers between looks at the pipeline: how far it was, and where logs end."""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from egresslens.kafka.client import brokers, kafka_python
from egresslens.settings import Settings

log = logging.getLogger(__name__)

_REMEMBERED: Final = timedelta(seconds=60)
_MIN_APART: Final = timedelta(seconds=2)
# Brokers that could not be asked are not asked again for so long: each try takes seconds.
_AWAY: Final = timedelta(seconds=15)
_TIMEOUT_MS: Final = 3_000
_CONNECT_S: Final = 2.0

Place = tuple[str, int]
"""Topic, partition."""


@dataclass(frozen=True)
class Ends:
    """Where logs end; `why` nothing is known of them."""

    offsets: Mapping[Place, int] = field(default_factory=dict)
    why: str | None = None


class Recent:
    """Looks of the last minute, a few seconds apart; safe between threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._looks: deque[tuple[datetime, int]] = deque()
        self._ends: tuple[datetime, frozenset[Place], Ends] | None = None
        self._lock = Lock()
        self._asking = Lock()

    def rate(self, now: datetime, messages: int) -> tuple[float, float] | None:
        """Messages per second since the oldest look remembered, and over how many seconds.

        None at the first look, or where there are fewer messages than before (another store).
        """
        with self._lock:
            while self._looks and (now - self._looks[0][0] > _REMEMBERED or self._looks[0][1] > messages):
                self._looks.popleft()
            oldest = self._looks[0] if self._looks else None
            if not self._looks or now - self._looks[-1][0] >= _MIN_APART:
                self._looks.append((now, messages))
        if oldest is None or now - oldest[0] < _MIN_APART:
            return None
        seconds = (now - oldest[0]).total_seconds()
        return (messages - oldest[1]) / seconds, seconds

    def ends(self, now: datetime, places: frozenset[Place]) -> Ends:
        """Where the logs of these partitions end, as Kafka said lately. May block for seconds."""
        with self._asking:
            if self._ends is not None:
                when, asked, found = self._ends
                if asked == places and now - when < (_AWAY if found.why else _MIN_APART):
                    return found
            found = _ask(self._settings, places)
            self._ends = (now, places, found)
            return found


def _ask(settings: Settings, places: frozenset[Place]) -> Ends:
    # A client that finds no broker tries for seconds, and leaves its sockets behind.
    if not any(map(_listens, brokers(settings))):
        return Ends(why=f"nothing listens at {settings.kafka_brokers}: check EGRESSLENS_KAFKA_BROKERS")
    consumer = None
    try:
        consumer = KafkaConsumer(
            **kafka_python(settings),
            group_id=None,
            enable_auto_commit=False,
            bootstrap_timeout_ms=_TIMEOUT_MS,
            request_timeout_ms=_TIMEOUT_MS,
        )
        wanted = [TopicPartition(*place) for place in places if place[1] in _partitions(consumer, place[0])]
        return Ends({(tp.topic, tp.partition): end for tp, end in consumer.end_offsets(wanted).items()})
    except (KafkaError, OSError, ValueError, AssertionError) as error:
        log.info("Kafka cannot be asked for the ends of the logs: %s", error)
        return Ends(why=f"Kafka cannot be asked ({type(error).__name__}); check EGRESSLENS_KAFKA_BROKERS")
    finally:
        if consumer is not None:
            with suppress(KafkaError, OSError):
                consumer.close()


def _listens(broker: str) -> bool:
    host, _, port = broker.rpartition(":")
    with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S):
        return True
    return False


def _partitions(consumer: KafkaConsumer, topic: str) -> frozenset[int]:
    return frozenset(consumer.partitions_for_topic(topic) or ())
