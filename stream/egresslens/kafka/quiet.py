"""While Kafka is away, aiokafka logs several lines each tenth of a second: let through one of each kind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

# aiokafka's modules that retry. A filter on a logger does not see its children's records: name each one.
_LOGGERS: Final = (
    "aiokafka",
    "aiokafka.conn",
    "aiokafka.cluster",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.sender",
)


class Repeats(logging.Filter):
    """Pass one record per message template every `interval` seconds."""

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._interval = interval
        self._clock = clock
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is the first of its kind, or the first after the interval."""
        # Error texts differ by port or wording: what stands before the first value tells the kind.
        kind, now = (record.name, str(record.msg).partition("%")[0]), self._clock()
        if now - self._last.get(kind, -self._interval) < self._interval:
            return False
        self._last[kind] = now
        return True


def quiet_repeats(interval: float = 30.0) -> None:
    """Thin out aiokafka's log for this process: an outage is one line of each kind per `interval` seconds."""
    repeats = Repeats(interval)
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(repeats)
