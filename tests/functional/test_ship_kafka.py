"""`egresslens ship` as a process, into a real Kafka."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient

from egresslens.kafka.broker import embedded_broker
from egresslens.kafka.topics import Topic, create_topics
from egresslens.settings import load

pytestmark = pytest.mark.functional

DEADLINE_S = 60


class Shipper:
    """A running `egresslens ship` with its own positions."""

    def __init__(self, bootstrap: str, folder: Path, *arguments: str) -> None:
        self.log = folder / "ship.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "from egresslens.cli import main; main()",
                    "ship",
                    "--position",
                    str(folder / "ship.json"),
                    *arguments,
                ],
                env=os.environ | {"EGRESSLENS_KAFKA_BROKERS": bootstrap, "EGRESSLENS_DATA_DIR": str(folder)},
                stdout=log,
                stderr=log,
            )

    def stop(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(DEADLINE_S)

    def said(self) -> str:
        return self.log.read_text()


@pytest.fixture
def ship(broker, tmp_path) -> Iterator[Callable[..., Shipper]]:
    """`ship(*arguments)` starts a shipper; whatever still runs is killed at the end."""
    started = []

    def start(*arguments: object) -> Shipper:
        shipper = Shipper(broker.bootstrap, tmp_path, *map(str, arguments))
        started.append(shipper)
        return shipper

    yield start
    for shipper in started:
        shipper.process.kill()
        shipper.process.wait()


def test_once_sends_all_lines_of_a_pod_in_order_to_one_partition(broker, ship, topic, tmp_path):
    name, file = topic(3), tmp_path / "access.log"
    file.write_bytes(b"".join(b"line %d\n" % n for n in range(5_000)) + b"the last")
    assert ship(file, "--once", "--topic", name, "--pod", "p", "--namespace", "n").process.wait(60) == 0
    found = consumed(broker.bootstrap, name, lambda messages: len(messages) >= 5_001)
    assert [json.loads(message.value)["log"] for message in found] == [
        *(f"line {n}" for n in range(5_000)),
        "the last",
    ]
    assert {(message.key, message.partition) for message in found} == {(b"n/p", found[0].partition)}


def test_without_metadata_the_bytes_of_the_line_are_the_message(broker, ship, topic, tmp_path):
    name, file = topic(), tmp_path / "access.log"
    file.write_bytes(b"\xff\xfe caf\xe9\n")
    assert ship(file, "--once", "--topic", name).process.wait(60) == 0
    assert values(consumed(broker.bootstrap, name, len)) == [b"\xff\xfe caf\xe9"]


def test_messages_are_compressed_with_zstd(broker, ship, topic, tmp_path):
    name, file = topic(), tmp_path / "access.log"
    file.write_bytes(b"one\n" * 1_000)
    assert ship(file, "--once", "--topic", name).process.wait(60) == 0
    # A batch's codec is in the low bits of its attributes (bytes 21 and 22): 4 is zstd.
    segment = next((broker.folder / "log" / f"{name}-0").glob("*.log")).read_bytes()
    assert int.from_bytes(segment[21:23], "big") & 7 == 4


def test_a_second_run_sends_only_what_is_new(broker, ship, topic, tmp_path):
    name, file = topic(), tmp_path / "access.log"
    file.write_bytes(b"one\n")
    assert ship(file, "--once", "--topic", name).process.wait(60) == 0
    append(file, b"two\n")
    assert ship(file, "--once", "--topic", name).process.wait(60) == 0
    assert values(consumed(broker.bootstrap, name, lambda messages: len(messages) >= 2)) == [b"one", b"two"]


def test_once_refuses_a_file_that_does_not_exist(ship, tmp_path):
    shipper = ship(tmp_path / "nothing.log", "--once")
    assert shipper.process.wait(60) == 2
    assert "there is no file" in shipper.said()


def test_a_file_that_is_not_there_yet_is_waited_for_and_it_says_so(broker, ship, topic, tmp_path):
    name, file = topic(1), tmp_path / "later.log"
    shipper = ship(file, "--topic", name)
    deadline = time.monotonic() + DEADLINE_S
    while "later.log yet: waiting for it" not in shipper.said():
        assert time.monotonic() < deadline, shipper.said()
        time.sleep(0.05)
    file.write_bytes(b"first\n")
    assert [one.value for one in consumed(broker.bootstrap, name, bool)] == [b"first"]


def test_a_followed_file_is_sent_as_it_grows_and_sigterm_ends_cleanly(broker, ship, topic, tmp_path):
    name, file = topic(), tmp_path / "access.log"
    shipper = ship(file, "--topic", name)
    file.write_bytes(b"one\n")
    consumed(broker.bootstrap, name, len)
    append(file, b"two\n")
    found = consumed(broker.bootstrap, name, lambda messages: len(messages) >= 2)
    assert shipper.stop() == 0
    assert values(found) == [b"one", b"two"]
    assert saved_offset(tmp_path) == file.stat().st_size


def test_kill_9_under_load_and_rotation_loses_no_line(broker, ship, topic, tmp_path):
    name, file = topic(), tmp_path / "access.log"
    file.touch()
    writer = threading.Thread(target=write_rotating, args=(file, 20_000, 5_000))
    writer.start()
    # A file that came and went while nobody looked is found by its new name only.
    pattern = f"{file}*"
    for _ in range(3):
        known = end_offset(broker.bootstrap, name)
        shipper = ship(pattern, "--topic", name)
        wait_until_more_than(known, broker.bootstrap, name)
        shipper.stop(signal.SIGKILL)
    writer.join()
    ship(pattern, "--topic", name)
    found = consumed(
        broker.bootstrap, name, lambda messages: len({message.value for message in messages}) >= 20_000
    )
    assert sorted(set(values(found))) == sorted(b"line %d" % n for n in range(20_000))


def test_a_topic_named_by_hand_is_not_made(broker, ship, tmp_path):
    file = tmp_path / "access.log"
    file.write_bytes(b"one\n")
    shipper = ship(file, "--topic", "misspelt")
    wait_until(lambda: "no acknowledgement from Kafka" in shipper.said())
    assert shipper.stop() == 75
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap)
    assert "misspelt" not in consumer.topics()
    consumer.close()


def test_a_message_that_the_topic_refuses_ends_it_with_a_clear_word(ship, topic, tmp_path):
    name, file = topic(max_message_bytes=2_000), tmp_path / "access.log"
    file.write_bytes(b"one\n" + os.urandom(5_000).hex().encode() + b"\n")
    shipper = ship(file, "--topic", name)
    assert shipper.process.wait(60) == 69
    assert f"Kafka refuses {name}: MessageSizeTooLargeError" in shipper.said()
    assert "Traceback" not in shipper.said()


def test_a_topic_that_is_deleted_and_made_again_gets_what_follows(
    broker, kafka_settings, ship, topic, tmp_path
):
    name, file = topic(), tmp_path / "access.log"
    shipper = ship(file, "--topic", name)
    file.write_bytes(b"one\n")
    consumed(broker.bootstrap, name, len)
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.delete_topics([name])
    wait_until(lambda: name not in admin.list_topics())
    admin.close()
    append(file, b"two\n")
    create_topics(kafka_settings, [Topic(name, 1)])
    append(file, b"three\n")
    found = consumed(broker.bootstrap, name, lambda messages: len(messages) >= 2)
    assert values(found) == [b"two", b"three"]
    assert shipper.stop() == 0


def test_an_outage_of_kafka_loses_nothing_and_keeps_the_order(tmp_path):
    with embedded_broker(tmp_path / "kafka") as own:
        settings = load({"EGRESSLENS_KAFKA_BROKERS": own.bootstrap})
        create_topics(settings, [Topic("logs", 1)])
        file = tmp_path / "access.log"
        file.write_bytes(b"before\n")
        shipper = Shipper(own.bootstrap, tmp_path, str(file), "--topic", "logs")
        try:
            consumed(own.bootstrap, "logs", len)
            # A consumer may see a line before the shipper has heard that it is there.
            wait_until(lambda: saved_offset(tmp_path) == len(b"before\n"))
            own.kill()
            append(file, b"".join(b"during %d\n" % n for n in range(1_000)))
            wait_until(lambda: "no acknowledgement from Kafka" in shipper.said())
            assert saved_offset(tmp_path) == len(b"before\n")
            own.start()
            append(file, b"after\n")
            found = consumed(own.bootstrap, "logs", lambda messages: b"after" in values(messages))
            assert values(found) == [b"before", *(b"during %d" % n for n in range(1_000)), b"after"]
        finally:
            shipper.stop(signal.SIGKILL)


def test_sigterm_without_kafka_ends_within_ten_seconds_and_saves_nothing_unacknowledged(tmp_path):
    file = tmp_path / "access.log"
    file.write_bytes(b"one\n")
    shipper = Shipper("127.0.0.1:1", tmp_path, str(file), "--topic", "logs")
    try:
        wait_until(lambda: "following" in shipper.said())
        begin = time.monotonic()
        assert shipper.stop() == 75
        assert time.monotonic() - begin < 10
        assert saved_offset(tmp_path) == 0
        assert "Traceback" not in shipper.said()
    finally:
        shipper.process.kill()


def consumed(bootstrap: str, name: str, enough: Callable[[list], object]) -> list:
    """All messages of a topic, as soon as there are enough."""
    consumer = KafkaConsumer(
        name,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        group_id=None,
        enable_auto_commit=False,
    )
    messages: list = []
    deadline = time.monotonic() + DEADLINE_S
    try:
        while not enough(messages):
            assert time.monotonic() < deadline, f"only {len(messages)} messages came"
            for batch in consumer.poll(timeout_ms=200).values():
                messages += batch
    finally:
        consumer.close()
    return messages


def values(messages: list) -> list[bytes]:
    return [message.value for message in messages]


def wait_until_more_than(known: int, bootstrap: str, name: str) -> None:
    wait_until(lambda: end_offset(bootstrap, name) > known)


def end_offset(bootstrap: str, name: str) -> int:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    try:
        return sum(consumer.end_offsets([TopicPartition(name, 0)]).values())
    finally:
        consumer.close()


def saved_offset(folder: Path) -> int:
    return json.loads((folder / "ship.json").read_text())["files"][0]["offset"]


def append(file: Path, content: bytes) -> None:
    with file.open("ab") as log:
        log.write(content)


def write_rotating(file: Path, lines: int, per_file: int) -> None:
    """Write numbered lines, renaming the file and beginning a new one after every so many."""
    for number in range(lines):
        if number and number % per_file == 0:
            file.rename(file.with_name(f"{file.name}.{number}"))
        append(file, b"line %d\n" % number)


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
