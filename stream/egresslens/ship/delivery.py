"""Delivery: lines into Kafka, acknowledged by all replicas, with a bound on what is under way.

What was sent stays in memory until it is acknowledged, so that it can be sent again whatever happened to its
file since.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import (
    AuthorizationError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    SaslAuthenticationFailedError,
    UnsupportedVersionError,
)

from egresslens.ship.tail import Line

log = logging.getLogger(__name__)

# What may be under way; reading pauses beyond it.
_MAX_BYTES: Final = 16 * 2**20
_MAX_MESSAGES: Final = 20_000
_BACKOFF_S: Final = (0.2, 5.0)
# Without an acknowledgement for this long, the log says so, once.
_SILENCE_S: Final = 10.0
# And after this long a new producer is tried: one may be stuck, for example on a topic that was made again.
_REPLACE_S: Final = 20.0
# Trying again does not help against these.
_FINAL: Final = (
    AuthorizationError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    SaslAuthenticationFailedError,
    UnsupportedVersionError,
)

# What the producer is told besides the address and the security of the brokers.
PRODUCER: Final[dict[str, Any]] = {
    "acks": "all",
    "enable_idempotence": True,
    "compression_type": "zstd",
    "linger_ms": 20,
    "batch_size": 262_144,
    "allow_auto_create_topics": False,
    # The producer itself tries again for as long as it takes; what is under way is bounded here.
    "delivery_timeout_ms": 2**31 - 1,
    "reconnect_backoff_max_ms": int(_BACKOFF_S[1] * 1000),
    # No call may block for longer than a signal can wait.
    "bootstrap_timeout_ms": 2_000,
    "max_block_ms": 2_000,
}


class DeliveryError(RuntimeError):
    """The brokers refuse for good; the message says what."""


@dataclass
class _Sent:
    line: Line
    key: bytes
    value: bytes
    future: Any = None

    @property
    def acknowledged(self) -> bool:
        return self.future is not None and self.future.succeeded()

    @property
    def failed(self) -> bool:
        return self.future is not None and self.future.failed()


class Delivery:
    """Sends messages to one topic, in order per key. `connect` makes a producer, or raises KafkaError."""

    def __init__(self, connect: Callable[[], KafkaProducer], topic: str) -> None:
        self._connect = connect
        self._topic = topic
        self._producer: KafkaProducer | None = None
        self._under_way: deque[_Sent] = deque()
        self._bytes = 0
        self._backoff_s = _BACKOFF_S[0]
        self._next_attempt = 0.0
        self._last_answer = time.monotonic()
        self._connected_at = 0.0
        self._silent = False
        self._last_error: KafkaError | None = None
        self.acknowledged = 0

    @property
    def waiting(self) -> int:
        """Messages that are not acknowledged."""
        return len(self._under_way)

    def has_room(self) -> bool:
        """Whether more may be sent now."""
        return self._bytes < _MAX_BYTES and self.waiting < _MAX_MESSAGES

    def send(self, line: Line, key: bytes, value: bytes) -> None:
        """Take a message over. Never blocks for more than two seconds.

        Raises:
            DeliveryError: the brokers refuse for good.
        """
        if not self._under_way:
            self._last_answer = time.monotonic()
        sent = _Sent(line, key, value)
        # Behind one that still has to be sent again, it waits its turn.
        all_sent = not self._under_way or self._under_way[-1].future is not None
        self._under_way.append(sent)
        self._bytes += len(value)
        if self._producer is not None and all_sent:
            self._send(sent)

    def settle(self) -> int:
        """Take acknowledgements in, send again what failed, and return how many messages were acknowledged.

        Raises:
            DeliveryError: the brokers refuse for good.
        """
        count = 0
        while self._under_way and self._under_way[0].acknowledged:
            sent = self._under_way.popleft()
            sent.line.source.acknowledged = sent.line.end
            self._bytes -= len(sent.value)
            count += 1
        self.acknowledged += count
        self._watch(count)
        if self._under_way:
            self._send_again()
        return count

    def close(self, timeout_s: float) -> bool:
        """Wait for acknowledgements, unless no broker is connected, then disconnect.

        Returns:
            whether everything was acknowledged in time
        """
        deadline = time.monotonic() + timeout_s
        while self._under_way and self._producer is not None and time.monotonic() < deadline:
            self.settle()
            time.sleep(0.01)
        self._disconnect()
        return not self._under_way

    def _send_again(self) -> None:
        first = self._under_way[0]
        if first.failed:
            error = first.future.exception
            for sent in self._under_way:
                if sent.failed:
                    sent.future = None
            self._failed(error)
        if time.monotonic() < self._next_attempt:
            return
        if self._producer is None and not self._reconnect():
            return
        if first.future is None or self._under_way[-1].future is None:
            for sent in self._under_way:
                if sent.future is None:
                    self._send(sent)
                if sent.future is None:
                    return

    def _send(self, sent: _Sent) -> None:
        if self._producer is None:
            return
        try:
            sent.future = self._producer.send(self._topic, sent.value, sent.key)
        except KafkaError as error:
            sent.future = None
            self._failed(error)

    def _reconnect(self) -> bool:
        try:
            self._producer = self._connect()
            self._connected_at = time.monotonic()
        except KafkaError as error:
            self._failed(error)
            return False
        return True

    def _failed(self, error: KafkaError) -> None:
        """Back off; with an error that a new producer may not have, disconnect as well."""
        if isinstance(error, _FINAL):
            raise DeliveryError(f"Kafka refuses {self._topic}: {type(error).__name__}: {error}") from error
        self._last_error = error
        self._next_attempt = time.monotonic() + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, _BACKOFF_S[1])
        if not error.retriable:
            self._disconnect()

    def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            producer.close(timeout=0)
        except KafkaTimeoutError:
            # It gives up halfway where messages are left, and its thread would go on sending them.
            producer._sender.force_close()  # noqa: SLF001 - there is no public way to drop them
            producer._sender.join(1)  # noqa: SLF001
            producer.close(timeout=0)
        for sent in self._under_way:
            if not sent.acknowledged:
                sent.future = None

    def _watch(self, count: int) -> None:
        """Say once that the brokers are silent, once that they are back; replace a producer that is stuck."""
        if count:
            if self._silent:
                log.info("Kafka answers again")
            self._silent = False
            self._backoff_s = _BACKOFF_S[0]
            self._last_answer = time.monotonic()
        elif self._under_way and not self._silent and time.monotonic() - self._last_answer > _SILENCE_S:
            log.warning(
                "no acknowledgement from Kafka for %.0f s (%s); %d messages wait, trying on",
                _SILENCE_S,
                self._last_error or "no answer",
                self.waiting,
            )
            self._silent = True
        elif self._under_way and time.monotonic() - max(self._last_answer, self._connected_at) > _REPLACE_S:
            self._disconnect()
