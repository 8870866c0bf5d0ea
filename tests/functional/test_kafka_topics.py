import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import InvalidReplicationFactorError, UnknownTopicOrPartitionError

from egresslens.kafka.topics import StreamEpochs, Topic, create_topics, stream_epochs

pytestmark = pytest.mark.functional


@pytest.fixture
def admin(broker):
    client = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    yield client
    client.close()


def test_only_missing_topics_are_created(kafka_settings, topic):
    existing = topic(partitions=2)
    new = f"{existing}-new"
    wanted = [Topic(existing, 5), Topic(new, 1)]
    assert create_topics(kafka_settings, wanted) == [new]
    assert create_topics(kafka_settings, wanted) == []


def test_a_topic_gets_its_partitions_and_configs(kafka_settings, topic, admin):
    name = f"{topic()}-compacted"
    create_topics(kafka_settings, [Topic(name, 3, configs={"cleanup.policy": "compact"})])
    (described,) = admin.describe_topics([name])
    assert len(described["partitions"]) == 3
    configs = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    assert configs["topic"][name]["cleanup.policy"]["value"] == "compact"


def test_a_topic_that_cannot_be_created_is_an_error(kafka_settings):
    with pytest.raises(InvalidReplicationFactorError, match="cannot create topic nowhere"):
        create_topics(kafka_settings, [Topic("nowhere", 1, replication=3)])


def test_a_topic_made_again_has_another_epoch(kafka_settings, topic, admin):
    name = topic()
    before = stream_epochs(kafka_settings, [name])[name]
    assert before == stream_epochs(kafka_settings, [name])[name]
    assert len(before) == 22
    admin.delete_topics([name])
    create_topics(kafka_settings, [Topic(name, 1)])
    assert stream_epochs(kafka_settings, [name])[name] != before


def test_the_epoch_of_a_missing_topic_is_an_error(kafka_settings):
    with pytest.raises(UnknownTopicOrPartitionError, match="never-made"):
        stream_epochs(kafka_settings, ["never-made"])


def test_look_ups_at_once_take_turns(kafka_settings, topic):
    """A rebalance leaves a look-up behind in its thread."""
    name = topic()
    with contextlib.closing(StreamEpochs(kafka_settings)) as epochs, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: epochs.look_up([name]), range(40)))
    assert found == [stream_epochs(kafka_settings, [name])] * 40
