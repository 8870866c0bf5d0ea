"""Late records of any age land in their windows, in every tier."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from egresslens.kafka.broker import Broker
from egresslens.store.process import StoreProcess
from functional.deployment import Deploy, Deployment, deployments, istio_json, until

pytestmark = pytest.mark.functional

COUNT = 8_000
DAY = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)


@pytest.fixture
def deployment(broker: Broker, store: StoreProcess, tmp_path: Path) -> Iterator[Deploy]:
    yield from deployments(broker.bootstrap, store, tmp_path)


def day() -> list[bytes | None]:
    """A whole day, evenly: more than 5 records a minute."""
    step = timedelta(days=1) / COUNT
    return [at(DAY + number * step, number) for number in range(COUNT)]


def at(moment: datetime, number: int = 1, **fields: Any) -> bytes:
    stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
    return istio_json(number, start_time=stamp, duration=0, **fields)


def views(one: Deployment) -> dict[str, list[tuple[Any, ...]]]:
    """Every window of every tier, and the destinations, whole."""
    found = {
        name: one.query(f"SELECT * FROM {{db}}.{name} ORDER BY ALL")
        for name in ("windows_1m", "windows_1h", "windows_1d", "destinations")
    }
    assert all(found.values())
    return found


def backfilled(one: Deployment, messages: list[bytes | None]) -> dict[str, list[tuple[Any, ...]]]:
    worker = one.start_worker()
    one.produce(messages)
    one.wait_for_messages(len(messages))
    until(lambda: one.value("SELECT count() FROM {db}.raw_rolled WHERE tier = '1d'"), "a rolled-up day")
    assert worker.stop() == 0
    return views(one)


def test_a_day_in_random_order_is_the_same_as_the_day_in_order(deployment):
    # Units of 500 records that each touch most of the day, and room for only a part of its windows.
    small = {"FLUSH_ROWS": "500", "MAX_WINDOW_KEYS": "300", "ROLL_UP_INTERVAL_S": "2"}
    messages = day()
    in_order = backfilled(deployment(**small), messages)
    random.Random(3).shuffle(messages)
    assert backfilled(deployment(**small), messages) == in_order


def test_a_late_record_lands_in_minutes_hours_and_days_that_were_rolled_up(deployment):
    one = deployment(ROLL_UP_INTERVAL_S="1")
    worker = one.start_worker()
    one.produce([at(DAY + timedelta(hours=5), bytes_sent=10)] * 3)
    one.wait_for_messages(3)
    rolled = "SELECT max(version) FROM {db}.raw_rolled WHERE tier = '1d'"
    first = until(lambda: one.value(rolled), "the day is rolled up")
    one.produce([at(DAY + timedelta(hours=5), bytes_sent=7)])
    one.wait_for_messages(4)
    sums = [one.query(f"SELECT sum(requests), sum(bytes_sent) FROM {{db}}.windows_{t}") for t in ("1h", "1d")]
    assert sums == [[(4, 37)], [(4, 37)]]
    until(lambda: one.value(rolled) > first or one.value("SELECT count() > 1 FROM {db}.raw_rolled"), "again")
    assert worker.stop() == 0
    assert one.query("SELECT sum(requests), sum(bytes_sent) FROM {db}.windows_1d") == [(4, 37)]


def test_an_age_past_one_tier_skips_that_tier_and_is_counted(deployment):
    one = deployment(TOPIC_PARTITIONS="1", EVENTS_TTL_DAYS="30", WINDOWS_1M_TTL_DAYS="90")
    one.start_worker()
    now = datetime.fromtimestamp(time.time(), timezone.utc)
    one.produce([at(now - timedelta(days=days)) for days in (1, 40, 100)])
    one.wait_for_messages(3)
    assert one.value("SELECT count() FROM {db}.events") == 1
    assert one.value("SELECT sum(requests) FROM {db}.windows_1m") == 2
    assert one.query("SELECT reason FROM {db}.dead_letters") == [("past_retention",)]
    (counts,) = one.query(
        "SELECT records, events, past_retention['events'], rejected['past_retention'] FROM {db}.progress"
    )
    assert counts == (2, 1, 1, 1)


async def produce_without_time(one: Deployment, messages: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=one.settings.kafka_brokers)
    await producer.start()
    batch = producer.create_batch()
    for message in messages:
        assert batch.append(key=None, value=message, timestamp=-1)
    await (await producer.send_batch(batch, one.topic, partition=0))
    await producer.stop()


async def test_messages_that_their_producer_gave_no_time_are_stored(deployment):
    one = deployment(TOPIC_PARTITIONS="1")
    await produce_without_time(one, [istio_json(1), b"unread", istio_json(2)])
    worker = one.start_worker()
    one.wait_for_messages(3)
    assert worker.child.poll() is None
    assert one.query("SELECT offset FROM {db}.events ORDER BY offset") == [(0,), (2,)]
    assert one.value("SELECT sum(requests) FROM {db}.windows_1m") == 2
    assert one.query("SELECT messages, rejected['unknown_format'] FROM {db}.progress") == [(3, 1)]
