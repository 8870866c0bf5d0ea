"""From batches to stored rows, exactly once in effect.

Theory of operation. Batches wait in a queue until a flush is due (rows, bytes or time). Then they are one
unit: read and labelled in a thread, its windows loaded where they are not held, applied, and delivered:
events, dead letters and topics first, then windows, then progress, and only then are the batches acked, which
lets the transport commit their offsets. While one unit is delivered, the next is applied and the one after it
is read; the order never changes.

Every assignment begins an era with empty state. What belongs to an earlier era is cancelled or comes to
nothing: its acks are void, and rows it may still have written are what the new era will write as well.

Any exception here is the process's end; a supervisor starts it again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl

from egresslens.kafka.transport import Batch
from egresslens.kafka.transport.ledger import Partition
from egresslens.metrics import WorkerMetrics
from egresslens.parse.partials import Partials
from egresslens.rules import Rules
from egresslens.windows import Windows
from egresslens.worker import unit
from egresslens.worker.accounts import Account
from egresslens.worker.breaker import Breaker
from egresslens.worker.replays import Origin, Place
from egresslens.worker.unit import Output, Prepared

# A window that no record has touched for this many flushes is let go, whatever room there is.
IDLE_FLUSHES = 120


class RefusedRowsError(RuntimeError):
    """Some events are never taken by ClickHouse; they are remembered, and the next start leaves them out."""


class Store(Protocol):
    """What the pipeline asks of ClickHouse. Calls retry for ever; what they raise is fatal."""

    async def rules_version(self, rules: Rules) -> int:
        """The number of these rules; new rules get a number above all others."""

    async def insert(self, table: str, frame: pl.DataFrame) -> pl.DataFrame:
        """Store rows; returns, when the others are acknowledged, those that ClickHouse will never take."""

    async def load_windows(self, places: pl.DataFrame) -> pl.DataFrame:
        """Stored rows (record.WINDOW) of these places (windows.PLACE)."""

    async def load_accounts(
        self, epochs: Mapping[str, str], partitions: Iterable[Partition]
    ) -> list[Account]:
        """The stored counts of each partition's current epoch; an empty account where there are none."""

    async def load_replays(self, origins: AbstractSet[Origin]) -> Mapping[tuple[Origin, int], Place]:
        """Which replays have applied which parts of these origins."""

    async def undo(self, account: Account, rules: int) -> int:
        """Undo what other rules stored beyond the account; the number of window rows rewritten."""


class Publisher(Protocol):
    """What the pipeline asks of Kafka besides batches."""

    async def publish(self, output: Output) -> None:
        """Publish a unit's records, windows and dead letters; returns when the brokers have them."""


@dataclass(frozen=True)
class Limits:
    """When a flush is due, and how much may be held."""

    rows: int
    bytes: int
    interval_s: float
    window_keys: int


@dataclass
class Waiting:
    """A batch and what to call when it is safe."""

    batch: Batch
    done: Callable[[int], None]
    """Takes the offset that may be committed."""


class Applied(NamedTuple):
    """A unit that is to be delivered, and the turn of the windows that it was."""

    output: Output
    turn: int


@dataclass
class Era:
    """State between two assignments."""

    generation: int
    partitions: frozenset[Partition]
    windows: Windows
    accounts: dict[Partition, Account] = field(default_factory=dict)
    partials: dict[Partition, Partials] = field(default_factory=dict)
    read_to: dict[Partition, int] = field(default_factory=dict)
    """The last offset that was read; the accounts follow when it is applied."""
    replayed: deque[dict[tuple[Origin, int], Place]] = field(default_factory=lambda: deque(maxlen=2))
    """Replays of the last two units, which may still be on their way into the store."""
    queue: deque[Waiting] = field(default_factory=deque)
    rows: int = 0
    bytes: int = 0
    rules_version: int = 0
    delivered: int = 0
    """Turn of the windows up to which their rows are stored."""
    task: asyncio.Task[None] | None = None


class Pipeline:
    """Feeds on batches, ends in ClickHouse and Kafka."""

    def __init__(
        self,
        *,
        store: Store,
        publisher: Publisher,
        epochs: Callable[[frozenset[str]], Awaitable[Mapping[str, str]]],
        verify_epochs: Callable[[Mapping[str, str]], Awaitable[None]],
        rules: Rules,
        limits: Limits,
        metrics: WorkerMetrics,
        breaker: Breaker,
        replay_topic: str,
        publish: bool,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._epochs = epochs
        self._verify_epochs = verify_epochs
        self._rules = rules
        self._limits = limits
        self._metrics = metrics
        self._breaker = breaker
        self._replay_topic = replay_topic
        self._publish = publish
        self._era: Era | None = None
        self._room = asyncio.Event()
        self._more = asyncio.Event()
        self._flush = asyncio.Event()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pending = 0
        """Batches taken in the current era that are not stored yet."""

    @property
    def error(self) -> BaseException | None:
        """What has ended the pipeline, if anything has."""
        return self.failed.exception() if self.failed.done() else None

    def counted_from(self, topic: str, partition: int, offset: int) -> bool:
        """Whether messages at or behind this offset are counted already, under the topic's current epoch."""
        account = self._era.accounts.get(Partition(topic, partition)) if self._era else None
        return account is not None and account.last_offset >= offset

    def assign(self, generation: int, partitions: frozenset[Partition]) -> None:
        """Begin an era: discard all state and everything that waits."""
        self.stop()
        self._metrics.assigned({partition.topic for partition in partitions})
        self.pending = 0
        era = Era(generation, partitions, Windows(self._rules.max_destinations))
        self._era = era
        self._room.set()
        if partitions:
            era.task = asyncio.create_task(self._run(era))
            era.task.add_done_callback(self._ended)

    def stop(self) -> None:
        """Cancel the current era; nothing of it is acked any more."""
        if self._era and self._era.task:
            self._era.task.cancel()
        self._era = None

    def flush_now(self) -> None:
        """Deliver what waits without waiting for more."""
        self._flush.set()
        self._more.set()

    async def submit(self, batch: Batch, done: Callable[[int], None]) -> None:
        """Take a batch; returns when there is room for more.

        Once the batch's records are safe, `done` is called with the offset that may be committed: behind the
        batch, or less where a split line that began in it is still open.
        """
        era = self._era
        if era is None or batch.generation != era.generation:
            return
        era.queue.append(Waiting(batch, done))
        self.pending += 1
        era.rows += len(batch)
        era.bytes += batch.size
        self._more.set()
        if era.rows >= self._limits.rows or era.bytes >= self._limits.bytes:
            self._room.clear()
            await self._room.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() and not self.failed.done():
            self.failed.set_exception(task.exception() or RuntimeError("the pipeline ended"))

    async def _run(self, era: Era) -> None:
        topics = frozenset(partition.topic for partition in era.partitions)
        epochs = await self._epochs(topics)
        era.rules_version = await self._store.rules_version(self._rules)
        for account in await self._store.load_accounts(epochs, era.partitions):
            partition = Partition(account.topic, account.partition)
            era.accounts[partition] = account
            era.partials[partition] = Partials()
            if account.rules_version != era.rules_version:
                await self._store.undo(account, era.rules_version)
        applying: asyncio.Task[Applied] | None = None
        # Of the last unit, which waits for the one before it, and of that one.
        delivery: asyncio.Task[None] | None = None
        earlier: asyncio.Task[None] | None = None
        try:
            while True:
                waiting = await self._collect(era, delivery)
                # A topic never goes back to an earlier epoch: one that still has it had it when it was read.
                _, prepared = await asyncio.gather(self._verify_epochs(epochs), self._read(era, waiting))
                for task in (applying, earlier):
                    if task:
                        await task
                applying = asyncio.create_task(self._apply(era, prepared))
                earlier, delivery = (
                    delivery,
                    asyncio.create_task(self._deliver(era, waiting, applying, delivery)),
                )
        finally:
            for left in (applying, earlier, delivery):
                if left:
                    left.cancel()
                    left.add_done_callback(_heard)

    async def _collect(self, era: Era, delivery: asyncio.Task[None] | None) -> list[Waiting]:
        """Wait until a flush is due and take what it holds."""
        while not era.queue:
            self._flush.clear()
            delivery = await self._some(delivery)
        deadline = time.monotonic() + self._limits.interval_s
        while era.rows < self._limits.rows and era.bytes < self._limits.bytes and not self._flush.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                break
            delivery = await self._some(delivery, left)
        taken: list[Waiting] = []
        rows = 0
        while era.queue and (not taken or rows + len(era.queue[0].batch) <= self._limits.rows):
            taken.append(era.queue.popleft())
            rows += len(taken[-1].batch)
            era.bytes -= taken[-1].batch.size
        era.rows -= rows
        if era.rows < self._limits.rows and era.bytes < self._limits.bytes:
            self._room.set()
        return taken

    async def _some(
        self, delivery: asyncio.Task[None] | None, timeout: float | None = None
    ) -> asyncio.Task[None] | None:
        """Wait for another batch, for the delivery's end, or for the time to pass.

        Returns the delivery while it is under way; what ended it is raised.
        """
        self._more.clear()
        more = asyncio.ensure_future(self._more.wait())
        try:
            await asyncio.wait(
                {more, delivery} if delivery else {more}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            more.cancel()
        if delivery and delivery.done():
            await delivery
            return None
        return delivery

    async def _read(self, era: Era, waiting: Sequence[Waiting]) -> Prepared:
        """Read a unit; no state but that of split lines changes."""
        runs = []
        for batch in sorted((one.batch for one in waiting), key=_place):
            partition = Partition(batch.topic, batch.partition)
            read_to = era.read_to.get(partition, -1)
            runs.append(unit.run(era.accounts[partition], era.partials[partition], batch, read_to))
            # A log that lost its end goes back to offsets that are read but not applied yet.
            era.read_to[partition] = max(read_to, batch.next_offset - 1)
        self._metrics.flush_messages.observe(sum(one.size for one in runs))
        with self._metrics.stage.labels("read").time():
            replays = unit.replays_in(runs, self._replay_topic)
            known = dict(await self._store.load_replays({one.origin for _, one in replays.values()}))
            for applied in era.replayed:
                known |= applied
            prepared = await asyncio.to_thread(
                unit.prepare, runs, self._rules, era.rules_version, replays, known
            )
        era.replayed.append(
            {(Origin(*row[:4]), row[4]): Place(*row[5:]) for row in prepared.replays.iter_rows()}
        )
        self._watch(prepared)
        return prepared

    async def _apply(self, era: Era, prepared: Prepared) -> Applied:
        """Apply a unit to the era's state."""
        with self._metrics.stage.labels("load").time():
            era.windows.evict(era.delivered, self._limits.window_keys)
            era.windows.evict(era.delivered - IDLE_FLUSHES, 0)
            missing = era.windows.missing(prepared.windowed)
            if missing.height:
                era.windows.load(missing, await self._store.load_windows(missing))
        with self._metrics.stage.labels("apply").time():
            output = await asyncio.to_thread(
                unit.apply,
                prepared,
                era.windows,
                era.rules_version,
                publish=self._publish,
                count=self._metrics.istio is not None,
            )
        return Applied(output, era.windows.turn)

    def _watch(self, prepared: Prepared) -> None:
        """Stop before a unit is stored that has too many dead letters."""
        rejects = prepared.enriched.rejects
        names = [f"{one.account.topic}/{one.account.partition}" for one in prepared.runs]
        sizes = [one.size for one in prepared.runs]
        rejected = np.zeros(sum(sizes), np.bool_)
        rejected[rejects["message"].to_numpy()] = True
        reason = rejects["reason"].mode().sort()[0] if rejects.height else ""
        self._breaker.watch(names, sizes, rejected, reason)

    async def _deliver(
        self,
        era: Era,
        waiting: Sequence[Waiting],
        applying: asyncio.Task[Applied],
        before: asyncio.Task[None] | None,
    ) -> None:
        """Store and publish a unit, in an order in which no crash can lose or double anything; then ack.

        Not before it is applied and the unit before it is delivered.
        """
        output, turn = await applying
        if before:
            await before
        with self._metrics.stage.labels("deliver").time():
            await asyncio.gather(self._store_records(output), self._publisher.publish(output))
            await self._insert("raw_replays", output.replays)
            await self._insert("raw_windows_1m", output.windows)
            # Progress says that everything up to its offset is stored, so it is stored last.
            await self._insert("raw_progress", output.progress)
        for one in waiting:
            place = (one.batch.topic, one.batch.partition)
            one.done(min(one.batch.next_offset, output.needed.get(place, one.batch.next_offset)))
        self.pending -= len(waiting)
        era.delivered = turn
        self._count(era, output, waiting)

    async def _store_records(self, output: Output) -> None:
        await self._insert("raw_events", output.events)
        await self._insert("raw_dead_letters", _bounded(output.dead_letters))

    async def _insert(self, table: str, frame: pl.DataFrame) -> None:
        if frame.is_empty():
            return
        refused = await self._store.insert(table, frame)
        if refused.height:
            # The windows in memory hold them already. The next start reads their messages again, and rejects
            # these records before it counts any.
            await self._store.insert("raw_dead_letters", unit.refused_letters(refused))
            raise RefusedRowsError(
                f"ClickHouse will never take {refused.height} of {frame.height} rows of {table} (has it "
                "constraints of its own?): from the next start on they are dead letters"
            )
        self._metrics.rows.labels(table).inc(frame.height)

    def _count(self, era: Era, output: Output, waiting: Sequence[Waiting]) -> None:
        for one in waiting:
            self._metrics.messages.labels(one.batch.topic).inc(len(one.batch))
        for label, count in output.enriched.records["label"].value_counts().iter_rows():
            self._metrics.records.labels(label).inc(count)
        for outcomes, counter in (
            (output.enriched.filtered, self._metrics.filtered),
            (output.enriched.rejects, self._metrics.rejected),
        ):
            for reason, count in outcomes["reason"].value_counts().iter_rows():
                counter.labels(reason).inc(count)
        self._metrics.window_keys.set(len(era.windows))
        if self._metrics.istio is not None and output.traffic is not None:
            self._metrics.istio.add(output.traffic, time.monotonic())


def _heard(task: asyncio.Task[Any]) -> None:
    """What ended one of the stages is raised once, not told again by those that waited for it."""
    if not task.cancelled():
        task.exception()


def _place(batch: Batch) -> tuple[str, int, int]:
    return batch.topic, batch.partition, batch.first_offset


def _bounded(dead_letters: pl.DataFrame) -> pl.DataFrame:
    return dead_letters.with_columns(pl.col("raw").bin.slice(0, unit.RAW_BYTES))
