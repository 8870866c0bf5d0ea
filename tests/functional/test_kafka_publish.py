import asyncio

import polars as pl
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from conftest import require_kafka
from egresslens import settings
from egresslens.kafka import client
from egresslens.kafka.batches import Columns
from egresslens.kafka.broker import embedded_broker
from egresslens.kafka.publish import Publisher, PublishError, partition_for
from egresslens.kafka.topics import Topic, create_topics

pytestmark = pytest.mark.functional


@pytest.fixture
async def publisher(kafka_settings):
    made = Publisher(client.aiokafka(kafka_settings))
    yield made
    await made.stop()


async def read(bootstrap, topic, count, partition=0):
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, max_partition_fetch_bytes=4_000_000) as consumer:
        consumer.assign([TopicPartition(topic, partition)])
        await consumer.seek_to_beginning()
        return [await consumer.getone() for _ in range(count)]


async def test_records_arrive_in_order_with_keys_and_headers(publisher, broker, topic):
    name = topic()
    records = [(b"key", b"one", [("origin", b"x")]), (None, b"two", []), (b"key", None, [])]
    await publisher.publish(name, {0: records})
    found = await read(broker.bootstrap, name, 3)
    assert [(one.key, one.value, list(one.headers)) for one in found] == records


async def test_more_than_one_kafka_batch_arrives_whole(publisher, broker, topic):
    name = topic()
    values = [b"%d" % number + b"x" * 100_000 for number in range(40)]
    await publisher.publish(name, {0: [(None, value, []) for value in values]})
    assert [one.value for one in await read(broker.bootstrap, name, 40)] == values


async def test_columns_arrive_as_records_over_several_kafka_batches(publisher, broker, topic):
    name = topic()
    values = pl.Series([str(number) + "x" * 100_000 for number in range(40)])
    keys = pl.Series([f"shop/{number}" for number in range(40)])
    await publisher.publish(name, {0: Columns(keys, values)})
    await publisher.publish(name, {0: Columns(keys[:1], values[:1])})
    found = await read(broker.bootstrap, name, 41)
    assert [one.offset for one in found] == list(range(41))
    assert [one.value.decode() for one in found] == [*values, values[0]]
    assert [one.key.decode() for one in found] == [*keys, keys[0]]


async def test_each_partition_gets_its_own_records(publisher, broker, topic):
    name = topic(partitions=2)
    await publisher.publish(name, {0: [(None, b"zero", [])], 1: [(None, b"one", [])]})
    assert [one.value for one in await read(broker.bootstrap, name, 1, partition=1)] == [b"one"]


async def test_the_number_of_partitions_is_looked_up(publisher, topic):
    assert await publisher.partitions(topic(partitions=3)) == 3


async def test_a_key_goes_to_the_partition_that_kafkas_own_producer_chooses(publisher, broker, topic):
    name = topic(partitions=5)
    key = b"shop/cart"
    partition = partition_for(key, await publisher.partitions(name))
    await publisher.publish(name, {partition: [(key, b"value", [])]})
    (found,) = await read(broker.bootstrap, name, 1, partition=partition)
    assert found.key == key


async def test_a_topic_that_does_not_exist_is_an_error(kafka_settings):
    publisher = Publisher(client.aiokafka(kafka_settings), timeout=2)
    with pytest.raises(PublishError, match="never-made"):
        await publisher.publish("never-made", {0: [(None, b"x", [])]})
    await publisher.stop()


async def test_publishing_fails_while_the_broker_is_away_and_works_again_afterwards(tmp_path):
    require_kafka()
    with embedded_broker(tmp_path) as broker:
        here = settings.load({"EGRESSLENS_KAFKA_BROKERS": broker.bootstrap})
        create_topics(here, [Topic("logs", 1)])
        publisher = Publisher(client.aiokafka(here), timeout=2)
        await publisher.publish("logs", {0: [(None, b"before", [])]})
        broker.kill()
        for _ in range(2):
            with pytest.raises(PublishError):
                await publisher.publish("logs", {0: [(None, b"during", [])]})
        broker.restart()
        await publisher.publish("logs", {0: [(None, b"after", [])]})
        await publisher.stop()
        found = await read(broker.bootstrap, "logs", 2)
        assert found[0].value == b"before"
        assert found[-1].value == b"after"


async def test_topics_may_be_published_to_at_the_same_time(publisher, broker, topic):
    names = [topic() for _ in range(3)]
    await asyncio.gather(*(publisher.publish(name, {0: [(None, b"x", [])]}) for name in names))
    for name in names:
        assert [one.value for one in await read(broker.bootstrap, name, 1)] == [b"x"]
