"""The batch transport with the real broker and real worker processes: the test is the workers' sink."""

import asyncio
import contextlib
import json
import queue
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from conftest import require_kafka
from egresslens import settings
from egresslens.kafka.broker import embedded_broker
from egresslens.kafka.topics import Topic, create_topics

pytestmark = pytest.mark.functional

APP = Path(__file__).parent / "apps" / "batches.py"
PATIENCE_S = 30


class Worker:
    """A worker process; `got` holds what it has said so far, as dicts with `what`."""

    def __init__(self, broker, group, topics, **options):
        options = {"group": group, "broker": broker, "topics": topics, **options}
        self.got = []
        self._lines = queue.SimpleQueue()
        self.process = subprocess.Popen(
            [sys.executable, str(APP), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = []
        self._readers = [
            threading.Thread(target=self._read),
            threading.Thread(target=lambda: self.log.extend(self.process.stderr)),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self):
        for line in self.process.stdout:
            # kill -9 can cut the last line, and Faust writes an empty one when it is stopped early.
            if line.endswith("}\n"):
                self._lines.put(json.loads(line))

    def until(self, enough, patience=PATIENCE_S):
        """Read what the worker says until `enough(got)` is true; its value."""
        deadline = time.monotonic() + patience
        while not (answer := enough(self.got)):
            try:
                self.got.append(self._lines.get(timeout=0.1))
            except queue.Empty:
                if time.monotonic() < deadline:
                    continue
                said = "\n".join(map(str, self.got[-20:])) + "".join(self.log[-40:])
                raise AssertionError(f"the worker never said it:\n{said}") from None
        return answer

    def tell(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def ack(self, *batches):
        numbers = [batch["number"] for batch in batches]
        self.tell(ack=numbers)
        self.until(lambda got: any(one["what"] == "acked" and one["numbers"] == numbers for one in got))

    def batches(self, count=1, *, since=0):
        """The first `count` batches that came after the first `since` ones."""
        self.until(lambda _: len(self.told("batch")) >= since + count)
        return self.told("batch")[since : since + count]

    def told(self, what):
        with contextlib.suppress(queue.Empty):
            while True:
                self.got.append(self._lines.get_nowait())
        return [one for one in self.got if one["what"] == what]

    def values(self):
        return [value for batch in self.told("batch") for value in batch["values"]]

    def stop(self, signum=signal.SIGTERM):
        """Send a signal, wait for the end, and return the exit code."""
        self.process.send_signal(signum)
        return self.ended()

    def ended(self):
        code = self.process.wait(timeout=PATIENCE_S)
        for reader in self._readers:
            reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        return code


class Bench:
    """What a test has at hand: a broker, a group of its own, workers that end with the test."""

    def __init__(self, bootstrap, stack):
        self.bootstrap = bootstrap
        self.group = f"group-{uuid.uuid4().hex[:12]}"
        self._stack = stack

    def worker(self, *topics, **options):
        worker = Worker(self.bootstrap, self.group, topics, **options)
        self._stack.callback(self._end, worker)
        return worker

    @staticmethod
    def _end(worker):
        if worker.process.poll() is None:
            worker.stop(signal.SIGKILL)
        elif not worker.process.stdout.closed:
            worker.ended()

    def publish(self, topic, *values, partition=0, **options):
        """Each call is one Kafka batch (or several, if it is large); values may be None with a key."""
        records = [value if isinstance(value, tuple) else (None, value) for value in values]
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=100, **options)
        sent = [producer.send(topic, value, key=key, partition=partition) for key, value in records]
        producer.flush()
        for one in sent:
            one.get(timeout=PATIENCE_S)
        producer.close()

    @contextlib.contextmanager
    def transaction(self, topic, *values, commit=True):
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, transactional_id=f"tx-{uuid.uuid4().hex}")
        producer.init_transactions()
        producer.begin_transaction()
        for value in values:
            producer.send(topic, value, partition=0)
        producer.flush()
        yield
        producer.commit_transaction() if commit else producer.abort_transaction()
        producer.close()

    def committed(self, topic, partition=0):
        with self.admin() as admin:
            offsets = admin.list_group_offsets([self.group])[self.group]
        found = offsets.get(TopicPartition(topic, partition))
        return found.offset if found else None

    def wait_committed(self, topic, offset, partition=0):
        deadline, committed = time.monotonic() + PATIENCE_S, None
        while committed != offset:
            assert time.monotonic() < deadline, f"committed is {committed}, not {offset}"
            time.sleep(0.05)
            # A new broker has no group coordinator at first.
            with contextlib.suppress(KafkaError):
                committed = self.committed(topic, partition)

    def admin(self):
        return contextlib.closing(KafkaAdminClient(bootstrap_servers=self.bootstrap))


@pytest.fixture
def bench(broker):
    with contextlib.ExitStack() as stack:
        yield Bench(broker.bootstrap, stack)


@pytest.fixture
def own(tmp_path):
    """A bench with a broker of its own, for tests that stop it: `own.broker`."""
    require_kafka()
    with embedded_broker(tmp_path / "kafka") as broker, contextlib.ExitStack() as stack:
        bench = Bench(broker.bootstrap, stack)
        bench.broker = broker
        yield bench


def several_batches(bench, topic, count, partition=0):
    """`count` Kafka batches of two records each; a worker with `max_records=1` gets them one at a time."""
    for number in range(count):
        bench.publish(topic, b"%d-a" % number, b"%d-b" % number, partition=partition)


ONE_BY_ONE = {"max_records": 1}


def test_commits_wait_for_the_earliest_batch_whatever_the_order_of_acks(bench, topic):
    name = topic()
    several_batches(bench, name, 3)
    worker = bench.worker(name, app=ONE_BY_ONE)
    first, second, third = worker.batches(3)
    assert [first["offsets"], second["offsets"], third["offsets"]] == [[0, 1], [2, 3], [4, 5]]
    worker.ack(third, second)
    worker.tell(progress=True)
    worker.until(lambda _: worker.told("progress"))
    assert bench.committed(name) is None
    worker.ack(first)
    bench.wait_committed(name, 6)


def test_a_stop_commits_what_is_acked_and_leaves_the_rest(bench, topic):
    name = topic()
    several_batches(bench, name, 3)
    worker = bench.worker(name, app={**ONE_BY_ONE, "stop_timeout": 1})
    first, _, third = worker.batches(3)
    worker.ack(first, third)
    begun = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - begun < 10
    assert bench.committed(name) == 2
    assert worker.told("draining")


def test_a_stop_waits_for_the_acks_of_what_was_handed_out(bench, topic):
    name = topic()
    bench.publish(name, b"a")
    worker = bench.worker(name, app={"stop_timeout": 20})
    (batch,) = worker.batches()
    worker.process.send_signal(signal.SIGTERM)
    worker.until(lambda _: worker.told("draining"))
    worker.ack(batch)
    assert worker.ended() == 0
    assert bench.committed(name) == 1


def test_an_exception_ends_the_process_and_the_next_one_reads_the_same_records(bench, topic):
    name = topic()
    several_batches(bench, name, 1)
    bench.publish(name, b"poison")
    several_batches(bench, name, 1)
    worker = bench.worker(name, app=ONE_BY_ONE)
    worker.ack(*worker.batches(1))
    assert worker.ended() == 1
    assert any("poisoned" in line for line in worker.log)
    seen = worker.told("batch")
    assert seen[-1]["values"] == ["poison"]
    again = bench.worker(name, app=ONE_BY_ONE, auto=True, antidote=True)
    first = again.batches()[0]
    assert first["offsets"][0] <= 2
    again.until(lambda _: again.values()[-1:] == ["0-b"] and len(again.values()) >= 3)
    assert "poison" in again.values()
    bench.wait_committed(name, 5)


def test_an_exception_in_a_hook_ends_the_process(bench, topic):
    worker = bench.worker(topic(), refuse=True)
    assert worker.ended() == 1
    assert any("refused" in line for line in worker.log)


def test_after_kill_9_the_records_that_were_not_committed_come_again(bench, topic):
    name = topic()
    several_batches(bench, name, 3)
    worker = bench.worker(name, app={**ONE_BY_ONE, "session_timeout": 6})
    first, second, _ = worker.batches(3)
    worker.ack(first)
    bench.wait_committed(name, 2)
    worker.ack(second)
    worker.stop(signal.SIGKILL)
    again = bench.worker(name, auto=True)
    assert again.batches()[0]["offsets"][0] in (2, 4)
    bench.wait_committed(name, 6)


def test_two_workers_joining_and_leaving_mid_batch_lose_nothing_and_void_what_they_held(bench, topic):
    name = topic(partitions=2)
    for partition in (0, 1):
        several_batches(bench, name, 2, partition)
    quick = {**ONE_BY_ONE, "rebalance_timeout": 4, "session_timeout": 6}
    first = bench.worker(name, app=quick)
    held = first.batches(4)
    second = bench.worker(name, app=quick, auto=True)
    shared = first.until(lambda _: len(first.told("assigned")) == 2 and first.told("assigned")[1])
    second.until(lambda _: second.told("assigned"))
    assert len(shared["partitions"]) == 1
    assert shared["generation"] > held[0]["generation"]
    # Neither was acked: both partitions are read again from their beginning, also the one that was kept.
    again = first.batches(2, since=4)
    assert [batch["offsets"] for batch in again] == [[0, 1], [2, 3]]
    assert {batch["partition"] for batch in again} == {shared["partitions"][0][1]}
    second.until(lambda _: len(second.told("batch")) == 2)
    # An ack of a void batch says nothing about the batches that stand in its place.
    kept = shared["partitions"][0][1]
    first.tell(ack=[batch["number"] for batch in held])
    assert bench.committed(name, kept) is None
    second.stop()
    first.tell(auto=True)
    for partition in (0, 1):
        bench.wait_committed(name, 4, partition)
    assert {*first.values(), *second.values()} == {"0-a", "0-b", "1-a", "1-b"}


def test_records_that_come_right_after_a_rebalance_are_delivered(bench, topic):
    name = topic(partitions=2)
    first = bench.worker(name, auto=True)
    first.until(lambda _: first.told("assigned"))
    second = bench.worker(name, auto=True)
    second.until(lambda _: second.told("assigned"))
    first.until(lambda _: len(first.told("assigned")) == 2)
    # The first worker has waited for records since before the rebalance.
    for partition in (0, 1):
        several_batches(bench, name, 1, partition)
    for partition in (0, 1):
        bench.wait_committed(name, 2, partition)
    assert first.process.poll() is None


def feed(bootstrap, topic, partitions, stop):
    """Publish to all partitions until told to stop; the number of records of each."""

    async def run():
        count = 0
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True) as producer:
            while not stop.is_set():
                for partition in range(partitions):
                    await producer.send(topic, b"%d" % count, partition=partition)
                count += 1
                await asyncio.sleep(0.002)
        return count

    return asyncio.run(run())


def offsets_of(workers):
    found = defaultdict(set)
    for worker in workers:
        for batch in worker.told("batch"):
            found[batch["partition"]].update(batch["offsets"])
    return found


def assert_got(workers, committed):
    """Everything below the committed offsets was handed out (a worker says so before it acks)."""
    deadline = time.monotonic() + PATIENCE_S
    while any(set(range(end)) - offsets_of(workers)[partition] for partition, end in committed.items()):
        assert time.monotonic() < deadline, f"committed past what was handed out: {committed}"
        time.sleep(0.05)


def test_workers_that_come_and_go_under_load_lose_nothing(bench, topic):
    name, partitions = topic(partitions=3), range(3)
    stop, dice = threading.Event(), random.Random(20)
    options = {"auto": True, "app": {"max_records": 50, "session_timeout": 6, "rebalance_timeout": 6}}
    everyone = [bench.worker(name, **options)]
    alive = list(everyone)
    with ThreadPoolExecutor() as pool:
        total = pool.submit(feed, bench.bootstrap, name, len(partitions), stop)
        try:
            for _ in range(6):
                time.sleep(dice.uniform(0.2, 2.5))
                if len(alive) > 1 and dice.random() < 0.5:
                    alive.pop(dice.randrange(len(alive))).stop(dice.choice([signal.SIGKILL, signal.SIGTERM]))
                else:
                    alive.append(bench.worker(name, **options))
                    everyone.append(alive[-1])
                with contextlib.suppress(KafkaError):
                    assert_got(everyone, {key: bench.committed(name, key) or 0 for key in partitions})
        finally:
            stop.set()
    for partition in partitions:
        bench.wait_committed(name, total.result(), partition)
    assert offsets_of(everyone) == {key: set(range(total.result())) for key in partitions}
    assert [worker.process.poll() for worker in alive] == [None] * len(alive)


async def publish_compressed(bootstrap, topic, values, codec):
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type=codec) as producer:
        batch = producer.create_batch()
        for value in values:
            batch.append(key=None, value=value, timestamp=None)
        await (await producer.send_batch(batch, topic, partition=0))


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_topics_are_read(bench, topic, codec):
    name = topic()
    values = [b"%d" % number for number in range(200)]
    asyncio.run(publish_compressed(bench.bootstrap, name, values, codec))
    worker = bench.worker(name, auto=True)
    worker.until(lambda _: len(worker.values()) >= 200)
    assert worker.values() == [value.decode() for value in values]
    bench.wait_committed(name, 200)


def test_offsets_that_compaction_removed_leave_no_gap_in_the_commits(bench, topic):
    name = topic(
        cleanup_policy="compact",
        segment_ms=100,
        min_cleanable_dirty_ratio=0.001,
        max_compaction_lag_ms=100,
    )
    bench.publish(name, *[(b"key", b"%d" % number) for number in range(50)], (b"other", b"x"))
    deadline = time.monotonic() + PATIENCE_S
    while len(asyncio.run(all_offsets(bench.bootstrap, name))) > 20:
        assert time.monotonic() < deadline, "Kafka did not compact the topic"
        # A new record rolls the segment, and only rolled segments are compacted.
        bench.publish(name, (b"roll", b"y"))
        time.sleep(0.2)
    end = asyncio.run(all_offsets(bench.bootstrap, name))[-1] + 1
    worker = bench.worker(name, auto=True)
    bench.wait_committed(name, end)
    offsets = [offset for batch in worker.told("batch") for offset in batch["offsets"]]
    assert len(offsets) < end
    assert offsets == sorted(offsets)


async def all_offsets(bootstrap, name):
    partition, found = TopicPartition(name, 0), []
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        while await consumer.position(partition) < end:
            records = await consumer.getmany(timeout_ms=1000)
            found += [record.offset for record in records.get(partition, [])]
    return found


def test_transactions_are_read_when_they_commit_and_their_markers_leave_no_gap(bench, topic):
    name = topic()
    with bench.transaction(name, b"aborted", commit=False):
        pass
    with bench.transaction(name, b"one", b"two"):
        pass
    worker = bench.worker(name, auto=True)
    # aborted + marker, one, two + marker: the end of the log is 5, with nothing left to read.
    bench.wait_committed(name, 5)
    worker.until(lambda _: len(worker.values()) == 2)
    assert worker.values() == ["one", "two"]
    assert worker.told("batch")[0]["offsets"] == [2, 3]


def test_a_full_worker_goes_on_after_an_outage_longer_than_the_poll_interval(bench, topic):
    name = topic()
    several_batches(bench, name, 12)
    worker = bench.worker(name, app={**ONE_BY_ONE, "max_poll_interval": 1, "session_timeout": 6})
    worker.batches(4)
    # The sink is away: nothing is acked, the buffers are full, nothing is fetched.
    away_until = time.monotonic() + 4
    with pytest.raises(AssertionError, match="never said it"):
        worker.until(lambda _: len(worker.told("batch")) > 4, patience=away_until - time.monotonic())
    worker.tell(auto=True)
    bench.wait_committed(name, 24)
    assert len(worker.told("assigned")) == 1
    assert worker.process.poll() is None


def test_a_worker_goes_on_after_the_broker_was_away(own):
    name = "logs"
    create_topics(settings.load({"EGRESSLENS_KAFKA_BROKERS": own.bootstrap}), [Topic(name, 1)])
    several_batches(own, name, 1)
    limits = {"session_timeout": 6, "rebalance_timeout": 4, "commit_timeout": 0.5}
    worker = own.worker(name, app=limits)
    (batch,) = worker.batches()
    own.broker.kill()
    # Acked while no broker can take the commit: it must not count as committed.
    worker.ack(batch)
    worker.until(lambda _: any("no commit of" in line for line in worker.log))
    # The worker may come back as a new member and read the batch again: then it acks it again.
    worker.tell(auto=True)
    own.broker.restart()
    own.wait_committed(name, 2)
    several_batches(own, name, 1)
    own.wait_committed(name, 4)
    assert worker.process.poll() is None


def test_a_stop_ends_within_seconds_while_sink_and_broker_are_away(own):
    create_topics(settings.load({"EGRESSLENS_KAFKA_BROKERS": own.bootstrap}), [Topic("logs", 1)])
    several_batches(own, "logs", 2)
    worker = own.worker("logs", app={**ONE_BY_ONE, "stop_timeout": 3})
    first, _ = worker.batches(2)
    own.broker.kill()
    worker.ack(first)
    begun = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - begun < 10


def test_a_deleted_topic_does_not_hold_up_the_commits_of_others(bench, topic):
    doomed, kept = topic(), topic()
    several_batches(bench, doomed, 1)
    several_batches(bench, kept, 1)
    worker = bench.worker(doomed, kept, app={"commit_timeout": 1})
    found = worker.batches(2)
    with bench.admin() as admin:
        admin.delete_topics([doomed])
    worker.ack(*found)
    bench.wait_committed(kept, 2)
    several_batches(bench, kept, 1)
    worker.tell(auto=True)
    bench.wait_committed(kept, 4)
    assert worker.process.poll() is None


def delete_up_to(bench, topic, offset):
    with bench.admin() as admin:
        admin.delete_records({TopicPartition(topic, 0): offset})


def test_an_offset_that_retention_removed_is_reported_and_reading_goes_on(bench, topic):
    name = topic()
    several_batches(bench, name, 1)
    worker = bench.worker(name, auto=True)
    bench.wait_committed(name, 2)
    worker.stop()
    several_batches(bench, name, 3)
    delete_up_to(bench, name, 6)
    again = bench.worker(name, auto=True)
    (gap,) = again.until(lambda _: again.told("gap"))
    assert (gap["topic"], gap["partition"], gap["position"], gap["beginning"]) == (name, 0, 2, 6)
    bench.wait_committed(name, 8)
    assert [batch["offsets"] for batch in again.told("batch")] == [[6, 7]]


def test_retention_that_overtakes_a_running_worker_is_reported(bench, topic):
    name = topic()
    several_batches(bench, name, 12)
    worker = bench.worker(name, app=ONE_BY_ONE)
    worker.batches(4)
    several_batches(bench, name, 2)
    delete_up_to(bench, name, 27)
    worker.tell(auto=True)
    (gap,) = worker.until(lambda _: worker.told("gap"))
    assert gap["beginning"] == 27
    assert gap["position"] <= 24
    bench.wait_committed(name, 28)


def test_headers_timestamps_and_tombstones_arrive(bench, topic):
    name = topic()
    producer = KafkaProducer(bootstrap_servers=bench.bootstrap, linger_ms=100)
    producer.send(name, b"plain", timestamp_ms=1_700_000_000_000)
    producer.send(name, b"tagged", headers=[("origin", b"x")], timestamp_ms=1_700_000_000_001)
    producer.send(name, None, key=b"gone", timestamp_ms=1_700_000_000_002)
    producer.flush()
    producer.close()
    worker = bench.worker(name, auto=True)
    worker.until(lambda _: len(worker.values()) == 3)
    (batch,) = worker.told("batch")
    assert batch["values"] == ["plain", "tagged", None]
    assert batch["headers"] == {"1": "origin"}
    assert batch["timestamps"] == [1_700_000_000_000, 1_700_000_000_001, 1_700_000_000_002]


def test_a_worker_writes_nothing_into_its_folder(bench, topic, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    worker = bench.worker(topic())
    worker.until(lambda _: worker.told("assigned"))
    worker.stop()
    assert list(tmp_path.iterdir()) == []
