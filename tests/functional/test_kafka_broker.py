import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from kafka import KafkaProducer

from conftest import require_kafka
from egresslens import settings
from egresslens.kafka.broker import Broker, BrokerError, embedded_broker
from egresslens.kafka.topics import Topic, create_topics

pytestmark = pytest.mark.functional


@pytest.fixture(autouse=True)
def _kafka():
    require_kafka()


def publish(bootstrap, topic, value):
    settings_ = settings.load({"EGRESSLENS_KAFKA_BROKERS": bootstrap})
    create_topics(settings_, [Topic(topic, 1)])
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    producer.send(topic, value).get(timeout=10)
    producer.close()


async def read_one(bootstrap, topic):
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        return (await asyncio.wait_for(consumer.getone(), 10)).value


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_an_acknowledged_record_survives_kill_9_and_a_restart_on_the_same_ports(tmp_path):
    with embedded_broker(tmp_path) as broker:
        bootstrap, first = broker.bootstrap, broker.pid
        publish(bootstrap, "kept", b"value")
        broker.kill()
        broker.restart()
        assert broker.bootstrap == bootstrap
        assert broker.pid != first
        assert asyncio.run(read_one(bootstrap, "kept")) == b"value"


def test_a_folder_can_be_started_again_on_other_ports(tmp_path):
    with embedded_broker(tmp_path) as broker:
        publish(broker.bootstrap, "kept", b"value")
        port = int(broker.bootstrap.rpartition(":")[2])
    assert not is_open(port)
    with embedded_broker(tmp_path) as again:
        assert asyncio.run(read_one(again.bootstrap, "kept")) == b"value"


def test_a_folder_in_use_is_refused_and_its_broker_undisturbed(tmp_path):
    with embedded_broker(tmp_path) as broker:
        with pytest.raises(BrokerError, match="another broker uses the folder"):
            Broker(tmp_path).start()
        publish(broker.bootstrap, "still-there", b"value")


def test_a_broker_that_cannot_start_says_what_kafka_said(tmp_path):
    with pytest.raises(BrokerError, match="nonsense"):
        Broker(tmp_path, properties={"compression.type": "nonsense"}).start()


def test_two_first_starts_at_once_share_one_download(tmp_path):
    code = "from egresslens.kafka.broker import jars; print(len(list(jars().glob('*.jar'))))"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    with contextlib.ExitStack() as stack:
        start = [sys.executable, "-c", code]
        both = [
            stack.enter_context(subprocess.Popen(start, env=environment, stdout=subprocess.PIPE, text=True))
            for _ in range(2)
        ]
        counts = [process.communicate(timeout=120)[0] for process in both]
    assert counts[0] == counts[1]
    assert int(counts[0]) > 20
    assert sorted(path.name for path in (tmp_path / "egresslens").iterdir()) == [
        "kafka-4.1.0",
        "kafka-4.1.0.lock",
    ]


@pytest.fixture
def command():
    """`command(*arguments)` runs `egresslens kafka`; it is stopped after the test."""
    with contextlib.ExitStack() as stack:

        def run(*arguments):
            process = subprocess.Popen(
                [sys.executable, "-c", "from egresslens.cli import main; main()", "kafka", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.terminate)
            return process

        yield run


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_how_to_use_the_broker_and_stops_it_on_a_signal(command, tmp_path, signum):
    process = command("--dir", str(tmp_path), "--port", "0")
    line = process.stdout.readline()
    port = int(line.split("127.0.0.1:")[1].split()[0])
    assert is_open(port)
    process.send_signal(signum)
    rest = process.stdout.read()
    assert process.wait(timeout=30) == 0
    assert f"export EGRESSLENS_KAFKA_BROKERS=127.0.0.1:{port}" in rest
    assert not is_open(port)


def test_the_command_fails_with_69_when_the_port_is_taken(command, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = command("--dir", str(tmp_path), "--port", port)
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 69
    assert "in use" in said


def test_the_command_fails_with_69_when_kafka_ends_by_itself(command, tmp_path):
    process = command("--dir", str(tmp_path), "--port", "0")
    process.stdout.readline()
    (child,) = children_of(process.pid)
    os.kill(child, signal.SIGKILL)
    said = process.communicate(timeout=30)[0]
    assert process.returncode == 69
    assert "Kafka ended by itself" in said


def children_of(pid):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
        )
        if found.stdout.split():
            return [int(child) for child in found.stdout.split()]
        time.sleep(0.05)
    raise AssertionError("no child process")
