"""The transport driver: Faust's aiokafka driver, with batches for events and commits that wait for acks."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import aiokafka
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as stock
from faust.types import TP, ConsumerMessage
from mode.utils.futures import notify

from egresslens.kafka.transport.batch import Batch
from egresslens.kafka.transport.fetch import Fetched, take
from egresslens.kafka.transport.ledger import Entry, Lane, Ledger, Partition
from egresslens.kafka.transport.pace import pace

_IDLE_S: Final = 0.05
_RETRY_S: Final = 0.5
_RETRY_MAX_S: Final = 10.0
_LOOKUP_TIMEOUT_S: Final = 20.0
# A stopping worker commits a few times; all of it must end within seconds, with or without a broker.
_LAST_COMMIT_S: Final = 1.0
_DISCONNECT_TIMEOUT_S: Final = 3.0


def _ignore(*_: Any) -> None:
    """Do nothing."""


async def _no_epochs(_: frozenset[str]) -> Mapping[str, str]:
    """Tell topics apart by their names alone."""
    return {}


@dataclass(frozen=True)
class Hooks:
    """What the application wants to be told. All are called on the event loop; only `epochs` may take time.

    An exception in one of them ends the process.
    """

    on_assigned: Callable[[int, frozenset[Partition]], None] = _ignore
    """(generation, partitions): at every assignment, also of partitions that were kept. All batches handed
    out before are void, their acks change nothing, and their records come again: discard all state."""
    on_gap: Callable[[str, int, int, int], None] = _ignore
    """(topic, partition, position, beginning): the broker does not have `position`, so reading goes on at
    `beginning`, the first offset it has. Greater: retention has removed what was not yet read. Smaller: the
    topic lost its end or was made again."""
    on_draining: Callable[[], None] = _ignore
    """No further batch comes until all that were handed out are acked or a deadline has passed: flush now."""
    epochs: Callable[[frozenset[str]], Awaitable[Mapping[str, str]]] = _no_epochs
    """(topics): a text for each topic that is another one once the topic was made again. It is committed with
    each offset, so that an offset of an earlier topic of the same name is not taken for one of this."""


class Progress(NamedTuple):
    """Where a partition stands: the next offset to read, the next offset to commit, and the log's end."""

    position: int
    committed: int | None
    end: int | None
    pending: int = 0
    """Batches that were read and are not committed."""
    since: int | None = None
    """Timestamp (Kafka's, milliseconds) of the oldest record that is not committed; where none has been read
    yet, of the last one that has; None where neither is known."""

    @property
    def waiting(self) -> bool:
        """Whether there is something to read or to commit. A split line whose end has not come is neither."""
        return self.pending > 0 or (self.end is not None and self.position < self.end)


class BatchMessage(ConsumerMessage):  # type: ignore[misc]  # Faust is untyped
    """Faust's message around a batch; `offset` is the batch's first offset."""

    __slots__ = ("entry",)

    entry: Entry


class Options(NamedTuple):
    """What the driver needs beyond Faust's settings."""

    hooks: Hooks
    request_timeout: float
    commit_timeout: float
    drain_timeout: float
    stop_timeout: float
    max_records: int


class ConsumerThread(stock.AIOKafkaConsumerThread):  # type: ignore[misc]
    """The aiokafka consumer in its thread. Methods without underscore are called from Faust's event loop."""

    _always_polling: AbstractContextManager[None]
    epochs: Mapping[str, str] = MappingProxyType({})

    async def on_start(self) -> None:
        """Connect; the group is joined when topics are subscribed to."""
        await super().on_start()
        # aiokafka leaves the group when nothing was polled for max_poll_interval and cannot come back while
        # Faust's flow is suspended. A full buffer is no failure: count as polling all the time. An agent that
        # hangs is a matter for health checks.
        self._always_polling = self._ensure_consumer()._subscription.fetch_context()  # noqa: SLF001
        self._always_polling.__enter__()

    async def on_thread_stop(self) -> None:
        """Leave the group and disconnect, within seconds."""
        try:
            await asyncio.wait_for(super().on_thread_stop(), _DISCONNECT_TIMEOUT_S)
        except (asyncio.TimeoutError, asyncio.CancelledError) as error:
            # aiokafka waits for a rebalance to end, and a fetch that is failing just then cancels its `stop`.
            self.log.info("the group was not left in order: %r", error)
            await self._ensure_consumer()._client.close()  # noqa: SLF001

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf, options = self.app.conf, transport.options
        consumer = aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=stock.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
            enable_auto_commit=False,
            # "none" reports a position that is out of range instead of moving it in silence.
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            request_timeout_ms=int(options.request_timeout * 1000),
            check_crcs=conf.broker_check_crcs,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
            **stock.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )
        pace(consumer._client)  # noqa: SLF001
        return consumer

    async def fetch(self, partitions: frozenset[TP], timeout: float) -> Fetched:
        """Whatever is buffered for these partitions, or what comes within `timeout` seconds."""
        fetched: Fetched = await self.call_thread(self._fetch, partitions, timeout)
        return fetched

    async def _fetch(self, partitions: frozenset[TP], timeout: float) -> Fetched:
        consumer = self._ensure_consumer()
        consumer._coordinator.check_errors()  # noqa: SLF001 - as AIOKafkaConsumer.getmany does
        fetcher = consumer._fetcher  # noqa: SLF001
        if consumer._closed or fetcher._closed:  # noqa: SLF001
            raise ConsumerStoppedError
        fetched = self._take(fetcher, partitions)
        if not fetched:
            waiter = fetcher._create_fetch_waiter()  # noqa: SLF001
            await asyncio.wait([waiter], timeout=timeout)
            if not waiter.done():
                waiter.cancel()
                return fetched
            waiter.result()
            fetched = self._take(fetcher, partitions)
        return fetched

    def _take(self, fetcher: Any, partitions: frozenset[TP]) -> Fetched:
        # What is taken moves the position, so it must belong to lanes that stand now: not to those that stood
        # when the wait began (a whole rebalance may have passed), nor to those that a seek is about to make.
        if not self.consumer.flow_active:
            return Fetched({})
        lanes = self.consumer.ledger.lanes()
        max_records = self.transport.options.max_records
        return take(fetcher, partitions, lanes, self.app.consumer_generation_id, max_records)

    async def commit_each(self, offsets: Mapping[TP, int]) -> set[TP]:
        """Commit, each topic by itself and within the commit timeout; what was committed."""
        committed: set[TP] = await self.call_thread(self._commit_each, offsets)
        return committed

    async def _commit_each(self, offsets: Mapping[TP, int]) -> set[TP]:
        topics: dict[str, dict[TP, int]] = defaultdict(dict)
        for tp, offset in offsets.items():
            topics[tp.topic][tp] = offset
        done = await asyncio.gather(*map(self._commit_topic, topics.values()))
        return {tp for one, success in zip(topics.values(), done, strict=True) if success for tp in one}

    async def _commit_topic(self, offsets: Mapping[TP, int]) -> bool:
        """Commit offsets of one topic; False if the group has rebalanced or it took too long.

        aiokafka retries for ever where a topic is gone or no coordinator answers, and the other topics must
        not wait for that.
        """
        consumer = self._ensure_consumer()
        wanted = {TopicPartition(*tp): self._committed(tp, offset) for tp, offset in offsets.items()}
        try:
            await asyncio.wait_for(consumer.commit(wanted), self._commit_timeout())
        except asyncio.TimeoutError:
            self.log.warning("no commit of %s within the time limit; it is tried again", _names(offsets))
            return False
        except (CommitFailedError, IllegalStateError) as error:
            self.log.info("no commit of %s: the group has rebalanced (%s)", _names(offsets), error)
            return False
        return True

    def _committed(self, tp: TP, offset: int) -> OffsetAndMetadata:
        return OffsetAndMetadata(offset, self.epochs.get(tp.topic, ""))

    def _commit_timeout(self) -> float:
        options: Options = self.transport.options
        return _LAST_COMMIT_S if self.app.should_stop else options.commit_timeout

    async def seek_to_starts(self, epochs: Mapping[str, str]) -> dict[TP, int]:
        """Seek every assigned partition to its committed offset, or to its beginning if it has none.

        `epochs` are the topics' own from now on.
        """
        self.epochs = epochs
        starts: dict[TP, int] = await self.call_thread(self._seek_to_starts)
        return starts

    async def _seek_to_starts(self) -> dict[TP, int]:
        assignment = self._assignment()
        starts = await asyncio.wait_for(self._starts(assignment.tps), _LOOKUP_TIMEOUT_S)
        self._seek_all(assignment, starts)
        return {TP(*tp): offset for tp, offset in starts.items()}

    async def _starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        consumer, assigned = self._ensure_consumer(), list(partitions)
        found = await consumer._coordinator.fetch_committed_offsets(assigned)  # noqa: SLF001 - in one request
        starts = {tp: one.offset for tp, one in found.items() if one.offset >= 0}
        for tp in [tp for tp in starts if self._is_of_another_topic(tp, found[tp])]:
            self.log.warning("%s/%d was made again: reading it from its beginning", tp.topic, tp.partition)
            del starts[tp]
        fresh = [tp for tp in assigned if tp not in starts]
        return starts | (await consumer.beginning_offsets(fresh) if fresh else {})

    def _is_of_another_topic(self, tp: TopicPartition, committed: OffsetAndMetadata) -> bool:
        epoch = self.epochs.get(tp.topic)
        return bool(epoch and committed.metadata and committed.metadata != epoch)

    async def seek_to_first(self, tp: TP) -> int:
        """Seek a partition to the first offset that the broker has, and tell it."""
        first: int = await self.call_thread(self._seek_to_first, tp)
        return first

    async def _seek_to_first(self, tp: TP) -> int:
        assignment, partition = self._assignment(), TopicPartition(*tp)
        looking = self._ensure_consumer().beginning_offsets([partition])
        found = await asyncio.wait_for(looking, _LOOKUP_TIMEOUT_S)
        self._seek_all(assignment, found)
        return int(found[partition])

    def _assignment(self) -> Any:
        assignment = self._ensure_consumer()._subscription.subscription.assignment  # noqa: SLF001
        if assignment is None:
            raise IllegalStateError("no partitions are assigned")
        return assignment

    def _seek_all(self, assignment: Any, offsets: Mapping[TopicPartition, int]) -> None:
        # A look-up that was overtaken by a rebalance must not move the positions of the next assignment.
        if not assignment.active:
            raise IllegalStateError("the group has rebalanced")
        for partition, offset in offsets.items():
            self._ensure_consumer().seek(partition, offset)

    def end(self, tp: TP) -> int | None:
        """The log's end as of the last fetch; None before it."""
        assignment = self._ensure_consumer()._subscription.subscription.assignment  # noqa: SLF001
        state = assignment.state_value(TopicPartition(*tp)) if assignment else None
        return state.highwater if state else None


def _times(batch: Batch | None) -> tuple[int | None, int | None]:
    if batch is None:
        return None, None
    first, last = int(batch.timestamps[0]), int(batch.timestamps[-1])
    return first if first >= 0 else None, last if last >= 0 else None


def _names(partitions: Iterable[TP]) -> str:
    return ", ".join(f"{topic}/{partition}" for topic, partition in sorted(partitions))


class Consumer(stock.Consumer):  # type: ignore[misc]
    """Faust's consumer; its acks, commits and offsets are the ledger's."""

    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options: Options = self.transport.options
        self.ledger = Ledger()
        # What agents have and did not ack. Faust's own set is weak: it forgets what an agent drops.
        self._unacked_messages: set[BatchMessage] = set()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, BatchMessage]]:
        """One message per partition that has records."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        active = frozenset(self._get_active_partitions())
        if self.should_stop or not active:
            # Partitions are paused during a rebalance.
            await self.sleep(_IDLE_S)
            return
        fetched = await self._thread.fetch(active, timeout)
        for piece in fetched.pieces:
            if not self.flow_active:
                return  # a seek follows
            if not self.ledger.is_current(piece.partition, fetched.lanes.get(piece.partition)):
                continue  # a seek has been
            entry = self.ledger.track(piece.partition, piece.position, piece.next_offset, _times(piece.batch))
            tp = TP(*piece.partition)
            self.app.monitor.track_tp_end_offset(tp, self._thread.end(tp) or piece.next_offset)
            if piece.batch is None:
                self.ledger.ack(entry)
                continue
            # Faust's loop drops what lies before this offset and counts what lies between as a gap.
            self._read_offset[tp] = piece.batch.first_offset
            yield tp, self._batch_message(tp, piece.batch, entry)
        for partition, position in fetched.out_of_range.items():
            await self._skip_gap(partition, fetched.lanes.get(partition), position)

    def _batch_message(self, tp: TP, batch: Batch, entry: Entry) -> BatchMessage:
        message = BatchMessage(
            tp.topic,
            tp.partition,
            batch.first_offset,
            timestamp=float(batch.timestamps[-1]) / 1000,
            timestamp_type=0,
            headers=None,
            key=None,
            value=batch,
            checksum=None,
            serialized_key_size=0,
            serialized_value_size=batch.size,
            tp=tp,
            generation_id=batch.generation,
        )
        message.entry = entry
        return message

    async def _skip_gap(self, partition: Partition, lane: Lane | None, position: int) -> None:
        if not self.flow_active or not self.ledger.is_current(partition, lane):
            return  # a seek follows, or has been
        name = f"{partition.topic}/{partition.partition}"
        try:
            beginning = await self._thread.seek_to_first(TP(*partition))
        except (KafkaError, asyncio.TimeoutError) as error:
            # Fetching fails again with the same offset, and brings us back here.
            self.log.warning(
                "%s: offset %d is out of range, and no other is known: %r", name, position, error
            )
            return
        if not self.ledger.is_current(partition, lane):
            return
        self.log.warning("%s: offset %d is out of range, going on at %d", name, position, beginning)
        self.ledger.seek({partition: beginning})
        self._unacked_messages -= {message for message in self._unacked_messages if message.entry.void}
        self._options.hooks.on_gap(partition.topic, partition.partition, position, beginning)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Offsets between batches need no account: the ledger knows where each batch ends."""

    def on_buffer_full(self, tp: TP) -> None:
        """Go on asking for a partition whose batches fill the buffer: the full buffer itself holds back."""

    def on_buffer_drop(self, tp: TP) -> None:
        """See `on_buffer_full`."""

    def ack(self, message: BatchMessage) -> bool:
        """Mark a batch as safe; False if that changes nothing (acked before, or void)."""
        acked = self.ledger.ack(message.entry)
        message.acked = True
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)
        return acked

    async def force_commit(
        self,
        topics: Any = None,
        start_new_transaction: bool = True,  # noqa: ARG002 - Faust's signature
    ) -> bool:
        """Commit what is acked, without waiting for anything else; whether something was committed."""
        sensor_state = self.app.sensors.on_commit_initiated(self)
        ready = {
            TP(*partition): entry
            for partition, entry in self.ledger.committable().items()
            if topics is None or partition in topics or partition.topic in topics
        }
        done = (
            await self._thread.commit_each({tp: entry.next for tp, entry in ready.items()})
            if ready
            else set()
        )
        for tp in done:
            self.ledger.committed(Partition(*tp), ready[tp])
        offsets = {tp: ready[tp].next for tp in done}
        self._committed_offset.update(offsets)
        self.app.monitor.on_tp_commit(offsets)
        self.app.sensors.on_commit_completed(self, sensor_state)
        return bool(done)

    async def wait_empty(self) -> None:
        """Wait until all batches that were handed out are acked and committed, up to a deadline.

        What is not acked by then is read again by whoever gets the partition.
        """
        if self.should_stop:
            return  # the stopping app has waited already
        stopping = self.app.should_stop
        deadline = self.loop.time() + (
            self._options.stop_timeout if stopping else self._options.drain_timeout
        )
        self._options.hooks.on_draining()
        while self._handed_out() and not self.app.crashed and self.loop.time() < deadline:
            await self.commit()
            if self._handed_out():
                await self._wait_for_ack(timeout=1)
        if self._commit_fut is not None:
            # It may have begun before the last acks, and a second `commit` only waits for the first.
            await self.commit()
        await self.commit()

    def _handed_out(self) -> bool:
        """Whether an agent has batches that it has not acked; those still in its queue do not count."""
        return any(not message.entry.void for message in self._unacked_messages)

    async def perform_seek(self) -> None:
        """Seek all partitions to where they are committed; Faust calls this before the flow begins.

        Waits for the broker as long as it takes.
        """
        topics = frozenset(tp.topic for tp in self.assignment())
        looked_up = await self.wait(self._options.hooks.epochs(topics))
        wait = _RETRY_S
        while not self.should_stop:
            try:
                starts = await self._thread.seek_to_starts(looked_up.result)
                break
            except IllegalStateError:
                raise  # the assignment has changed meanwhile: Faust begins anew
            except (KafkaError, asyncio.TimeoutError) as error:
                self.log.warning("cannot look up offsets, trying again: %r", error)
                await self.sleep(wait)
                wait = min(wait * 2, _RETRY_MAX_S)
        else:
            return
        self._committed_offset.update(starts)
        self._read_offset.update(starts)
        self.ledger.seek({Partition(*tp): offset for tp, offset in starts.items()})

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let the agents finish, commit, and forget these partitions."""
        await super().on_partitions_revoked(revoked)
        self.ledger.forget(Partition(*tp) for tp in revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Forget everything and tell the application to do so; only then does Faust go on."""
        self.ledger.clear()
        self._unacked_messages.clear()
        try:
            self._options.hooks.on_assigned(generation_id, frozenset(Partition(*tp) for tp in assigned))
        except Exception as error:  # noqa: BLE001 - aiokafka would log it and go on
            await self.crash(error)
            return
        await super().on_partitions_assigned(assigned, generation_id)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's watchdog reads offsets that mean something else here."""

    def progress(self) -> dict[Partition, Progress]:
        """Where each assigned partition stands."""
        return {
            partition: Progress(
                lane.position,
                self._committed_offset[TP(*partition)],
                self._thread.end(TP(*partition)),
                len(lane.entries),
                lane.entries[0].timestamp if lane.entries else lane.read,
            )
            for partition, lane in self.ledger.lanes().items()
        }


class Producer(stock.Producer):  # type: ignore[misc]
    """Faust's producer, idempotent: the default of aiokafka (acks=1) loses records with a broker."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    def _new_producer(self, transactional_id: str | None = None) -> aiokafka.AIOKafkaProducer:
        producer = super()._new_producer(transactional_id)
        pace(producer.client)
        return producer


class Transport(stock.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with the consumer of this module."""

    Consumer = Consumer
    Producer = Producer

    def __init__(self, *args: Any, options: Options, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = options
