"""Publishing: whole Kafka batches, acknowledged by all replicas."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from egresslens.kafka.batches import Columns, batches
from egresslens.kafka.transport.pace import pace

# Key, value and headers.
Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
# Many records without headers cost least as columns.
Records = Sequence[Record] | Columns

# Bytes of records in one Kafka batch before compression: below the brokers' default limit of 1,048,588 bytes
# even where the records cannot be compressed.
_BATCH_BYTES: Final = 1_000_000


_CLOSE_S: Final = 3.0


class PublishError(RuntimeError):
    """Not all records are acknowledged; some may be. Publish all of them again."""


@lru_cache(maxsize=65_536)
def partition_for(key: bytes, partitions: int) -> int:
    """The partition of a key among `partitions`, as Kafka's default partitioner chooses it (murmur2)."""
    hashed: int = murmur2(key)
    return (hashed & 0x7FFFFFFF) % partitions


class Publisher:
    """An idempotent producer. `connection` holds aiokafka's keyword arguments for reaching the brokers.

    Connects at the first call, and anew at the next one after an error, so that the caller just tries again.
    `timeout` (seconds) bounds each call.
    """

    def __init__(self, connection: Mapping[str, Any], *, timeout: float = 30.0) -> None:
        self._connection = dict(connection)
        self._timeout = timeout
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has.

        Raises:
            PublishError: no broker answers, or there is no such topic.
        """
        try:
            return await asyncio.wait_for(self._partitions(topic), self._timeout)
        except (KafkaError, asyncio.TimeoutError) as error:
            raise PublishError(f"cannot look up topic {topic}: {error!r}") from error

    async def _partitions(self, topic: str) -> int:
        return len(await (await self._started()).partitions_for(topic))

    async def publish(self, topic: str, records: Mapping[int, Records]) -> None:
        """Send each partition's records in their order; return when all are acknowledged.

        Raises:
            PublishError: not all records were acknowledged.
        """
        producer = None
        try:
            producer = await asyncio.wait_for(self._started(), self._timeout)
            await asyncio.wait_for(_send_all(producer, topic, records), self._timeout)
        except (KafkaError, asyncio.TimeoutError) as error:
            await self._give_up(producer)
            raise PublishError(f"cannot publish to {topic}: {error!r}") from error

    async def _give_up(self, producer: AIOKafkaProducer | None) -> None:
        """An idempotent producer that gave up a batch cannot go on: its sequence numbers have a hole."""
        if producer is not None and self._producer is producer:
            self._producer = None
            await _discard(producer)

    async def stop(self) -> None:
        """Close the connections, after what is under way or some seconds; the next call opens new ones."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(producer.flush(), _CLOSE_S)
            await _discard(producer)

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                self._producer = await self._connect()
            return self._producer

    async def _connect(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._connection,
            enable_idempotence=True,
            compression_type="zstd",
            max_batch_size=_BATCH_BYTES,
            request_timeout_ms=int(self._timeout * 1000),
        )
        pace(producer.client)
        try:
            await producer.start()
        except BaseException:
            await _discard(producer)
            raise
        return producer


async def _discard(producer: AIOKafkaProducer) -> None:
    """Close a producer without waiting for its records: its own `stop` waits for them as long as it takes."""
    producer._closed = True  # noqa: SLF001
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(producer._sender.close(), _CLOSE_S)  # noqa: SLF001
    await producer.client.close()


async def _send_all(producer: AIOKafkaProducer, topic: str, records: Mapping[int, Records]) -> None:
    await asyncio.gather(
        *(_send(producer, topic, partition, rows) for partition, rows in records.items() if len(rows))
    )


async def _send(producer: AIOKafkaProducer, topic: str, partition: int, records: Records) -> None:
    if isinstance(records, Columns):
        made = await asyncio.to_thread(lambda: list(batches(records, _BATCH_BYTES)))
    else:
        made = list(_appended(producer, records))
    sent = [await producer.send_batch(batch, topic, partition=partition) for batch in made]
    await asyncio.gather(*sent)


def _appended(producer: AIOKafkaProducer, records: Sequence[Record]) -> Iterator[Any]:
    """Kafka batches that hold the records, each as full as may be."""
    batch = producer.create_batch()
    for key, value, headers in records:
        if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
            # The batch is full and has closed itself. An empty one takes a record of any size.
            yield batch
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None, headers=headers)
    yield batch
