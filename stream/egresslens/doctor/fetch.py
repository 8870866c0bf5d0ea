"""Read messages without a group, so that nobody's position changes; by aiokafka, as the worker reads them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as AioPartition
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from egresslens.kafka import client
from egresslens.settings import Settings

_POLL_MS: Final = 200


def partitions(admin: KafkaAdminClient, settings: Settings) -> list[TopicPartition]:
    """The partitions of the access-log topics, as far as these exist."""
    return sorted(
        TopicPartition(topic["name"], one["partition_index"])
        for topic in admin.describe_topics([*settings.access_log_topics])
        for one in topic["partitions"]
    )


def read(
    settings: Settings, spans: Mapping[TopicPartition, tuple[int, int]], timeout_s: float
) -> dict[TopicPartition, list[Any]]:
    """Records of each partition from an offset up to another (not included), as far as they come in time.

    Raises:
        aiokafka.errors.KafkaError: the brokers cannot be asked, or refuse.
    """
    return asyncio.run(_read(settings, spans, timeout_s)) if spans else {}


async def _read(
    settings: Settings, spans: Mapping[TopicPartition, tuple[int, int]], timeout_s: float
) -> dict[TopicPartition, list[Any]]:
    consumer = AIOKafkaConsumer(
        **client.aiokafka(settings),
        group_id=None,
        enable_auto_commit=False,
        request_timeout_ms=int(timeout_s * 1000),
    )
    await asyncio.wait_for(consumer.start(), timeout_s)
    found: dict[TopicPartition, list[Any]] = {}
    try:
        left = {AioPartition(*one): (one, end) for one, (begin, end) in spans.items() if begin < end}
        consumer.assign(list(left))
        for one, (begin, _) in spans.items():
            if AioPartition(*one) in left:
                consumer.seek(AioPartition(*one), begin)
        deadline = time.monotonic() + timeout_s / 2
        while left and time.monotonic() < deadline:
            for where, records in (await consumer.getmany(*left, timeout_ms=_POLL_MS)).items():
                one, end = left[where]
                found.setdefault(one, []).extend(record for record in records if record.offset < end)
            for where in [one for one in left if await consumer.position(one) >= left[one][1]]:
                del left[where]
    finally:
        await consumer.stop()
    return found
