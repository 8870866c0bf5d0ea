"""What tests of all modules share: a real Kafka broker per session, and topics of a test's own on it."""

import os
import uuid
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from egresslens import settings
from egresslens.kafka.broker import Broker, embedded_broker, missing
from egresslens.kafka.topics import Topic, create_topics
from functional.store_fixture import shared_store, store  # noqa: F401 - fixtures for all

# How long an example takes says what else the machine does.
hypothesis_settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("untimed")

# A broker of a test lives for seconds, in which its thorough compiler costs more than it saves.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")

MakeTopic = Callable[..., str]


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A running broker that all tests of the session share: never stop it, and use topics of your own."""
    require_kafka()
    with embedded_broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture(scope="session")
def kafka_settings(broker: Broker) -> settings.Settings:
    """The default settings, with the session's broker."""
    return settings.load({"EGRESSLENS_KAFKA_BROKERS": broker.bootstrap})


@pytest.fixture
def topic(kafka_settings: settings.Settings) -> MakeTopic:
    """`topic(partitions=1, **configs)` creates a topic and returns its unique name.

    Configs are Kafka's topic settings with underscores for dots: `topic(2, cleanup_policy="compact")`.
    """

    def make(partitions: int = 1, **configs: object) -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        spelt = {key.replace("_", "."): str(value) for key, value in configs.items()}
        create_topics(kafka_settings, [Topic(name, partitions, configs=spelt)])
        return name

    return make


def require_kafka() -> None:
    """Skip the test where the embedded broker cannot run, or fail it in CI."""
    why = missing()
    if why is not None and os.environ.get("CI") == "true":
        pytest.fail(why)
    if why is not None:
        pytest.skip(why)


# Whose modules take minutes: begun first, so that no process is left with one of them at the end.
_LONG = ("test_worker.py", "test_outages.py", "test_transport.py", "test_topics_change.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _LONG)
