"""Topics are created explicitly, and each creation of a topic has an epoch of its own."""

from __future__ import annotations

import base64
import contextlib
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from kafka.admin import KafkaAdminClient
from kafka.errors import NoError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from egresslens.kafka import client
from egresslens.settings import Settings

_NO_TOPIC_ID: Final = uuid.UUID(int=0)


@dataclass(frozen=True)
class Topic:
    """A topic as it should be made; `configs` are Kafka's topic settings, such as `cleanup.policy`."""

    name: str
    partitions: int
    replication: int = 1
    configs: Mapping[str, str] = field(default_factory=dict)


def create_topics(settings: Settings, topics: Iterable[Topic]) -> list[str]:
    """Create those topics that do not exist, wait until they have leaders, and name the new ones.

    An existing topic stays as it is, whatever its partitions and configs. Safe when several processes do it
    at once.

    Raises:
        kafka.errors.KafkaError: no broker answers, or one refuses to create a topic.
    """
    wanted = {
        topic.name: {
            "num_partitions": topic.partitions,
            "replication_factor": topic.replication,
            "configs": dict(topic.configs),
        }
        for topic in topics
    }
    if not wanted:
        return []
    with _admin(settings) as admin:
        answers = admin.create_topics(wanted, raise_errors=False)["topics"]
        for answer in answers:
            error = for_code(answer["error_code"])
            if error not in (NoError, TopicAlreadyExistsError):
                raise error(
                    f"cannot create topic {answer['name']}: {answer['error_message'] or error.__name__}"
                )
        admin.wait_for_topics(list(wanted))
    return [answer["name"] for answer in answers if answer["error_code"] == NoError.errno]


def stream_epochs(settings: Settings, topics: Iterable[str]) -> dict[str, str]:
    """The epoch of each topic: a text that is another one once the topic was deleted and made again.

    It is the topic id as Kafka prints it (22 characters), or `<cluster id>/<topic>` where the brokers have no
    topic ids (before Kafka 2.8).

    Raises:
        kafka.errors.KafkaError: no broker answers, or a topic does not exist.
    """
    names = list(topics)
    with contextlib.closing(StreamEpochs(settings)) as epochs:
        found = epochs.look_up(names)
    for name in names:
        if name not in found:
            raise UnknownTopicOrPartitionError(f"topic {name} does not exist")
    return found


class StreamEpochs:
    """`stream_epochs` again and again, over one connection.

    A look-up that nobody waits for any more goes on in its thread, so the next one waits for its turn.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin: KafkaAdminClient | None = None
        self._turn = threading.Lock()

    def look_up(self, topics: Iterable[str]) -> dict[str, str]:
        """The epochs of those topics that exist.

        Raises:
            kafka.errors.KafkaError: no broker answers; the next call connects anew.
        """
        with self._turn:
            try:
                admin = self._admin = self._admin or KafkaAdminClient(**client.kafka_python(self._settings))
                described = {topic["name"]: topic for topic in admin.describe_topics(list(topics))}
                return {
                    name: _epoch(admin, name, topic)
                    for name, topic in described.items()
                    if for_code(topic["error_code"]) is not UnknownTopicOrPartitionError
                }
            except BaseException:
                self._disconnect()
                raise

    def close(self) -> None:
        """Disconnect, unless a look-up is under way: the process that ends does not wait for it."""
        if self._turn.acquire(blocking=False):
            try:
                self._disconnect()
            finally:
                self._turn.release()

    def _disconnect(self) -> None:
        if self._admin:
            self._admin.close()
        self._admin = None


def _epoch(admin: KafkaAdminClient, name: str, described: Mapping[str, object]) -> str:
    error = for_code(described["error_code"])
    if error is not NoError:
        raise error(f"topic {name}: {error.__name__}")
    topic_id = uuid.UUID(str(described.get("topic_id") or _NO_TOPIC_ID))
    if topic_id == _NO_TOPIC_ID:
        return f"{admin.describe_cluster()['cluster_id']}/{name}"
    return base64.urlsafe_b64encode(topic_id.bytes).decode().rstrip("=")


@contextlib.contextmanager
def _admin(settings: Settings) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(**client.kafka_python(settings))
    try:
        yield admin
    finally:
        admin.close()
