"""The Faust app: one agent that carries batches to the pipeline, and the services around it.

`create_app` is inert: nothing connects before the app is started.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from functools import partial
from typing import Any, Final, TypeVar

import faust
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from faust.types import EventT
from mode import Service

from egresslens.clickhouse.client import connect
from egresslens.clickhouse.retry import Failure, Recovery, Retry, log_outages
from egresslens.clickhouse.rollup import roll_up
from egresslens.health import Process, Server
from egresslens.kafka import client
from egresslens.kafka.publish import Publisher
from egresslens.kafka.quiet import quiet_repeats
from egresslens.kafka.topics import StreamEpochs, stream_epochs
from egresslens.kafka.transport import Batch, BatchApp, Hooks, ack, batch_topic
from egresslens.kafka.transport import create_app as create_batch_app
from egresslens.kafka.transport.ledger import Partition
from egresslens.metrics import WorkerMetrics
from egresslens.registry.upkeep import Upkeep
from egresslens.settings import Settings
from egresslens.worker import memory, tuning
from egresslens.worker.breaker import Breaker
from egresslens.worker.pipeline import Limits, Pipeline
from egresslens.worker.store import ClickHouseStore
from egresslens.worker.topics import Names, Topics

log: Final = logging.getLogger("egresslens.worker")
T = TypeVar("T")

# Within 10 seconds a stopping worker has flushed and committed, or leaves its batches to the next one.
_STOP_TIMEOUT_S: Final = 6.0
_EPOCHS_WAIT_S: Final = 2.0
_GIVE_BACK_S: Final = 60.0


class TopicChangedError(RuntimeError):
    """A topic was made again while it was read; a new start reads it under its own epoch."""


class Worker:
    """Everything that one worker process holds besides the Faust app."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = WorkerMetrics(settings.egress_metrics_series)
        self.outages: set[str] = set()
        self._upkeep = Upkeep()
        self.app = create_batch_app(
            settings.kafka_group,
            client.brokers(settings),
            hooks=Hooks(
                on_assigned=self._assigned, on_gap=self._gap, on_draining=self._draining, epochs=self._sought
            ),
            credentials=client.faust_credentials(settings),
            group_instance_id=settings.kafka_group_instance_id,
            session_timeout=settings.kafka_session_timeout_s,
            rebalance_timeout=settings.kafka_rebalance_timeout_s,
            stop_timeout=_STOP_TIMEOUT_S,
        )
        self.app.agent(batch_topic(self.app, *settings.access_log_topics, settings.replay_topic))(self._carry)
        self.app.service(_surroundings(self))
        self.pipeline: Pipeline | None = None
        self._store: ClickHouseStore | None = None
        self._publisher: Publisher | None = None
        self._server: Server | None = None
        self._lookup = StreamEpochs(settings)
        self._sought_epochs: Mapping[str, str] = {}
        self._report = log_outages(log)

    async def _carry(self, stream: faust.StreamT[Any]) -> None:
        """Carry each batch to the pipeline, which acks it when its records are safe."""
        events: AsyncIterator[EventT] = stream.noack().events()
        async for event in events:
            batch: Batch = event.value
            await self._started().submit(batch, partial(ack, event))

    def _assigned(self, generation: int, partitions: frozenset[Partition]) -> None:
        self._started().assign(generation, partitions)

    def _gap(self, topic: str, partition: int, position: int, beginning: int) -> None:
        if self._started().counted_from(topic, partition, beginning):
            log.error(
                "%s/%d was made again, or lost its end: offset %d is gone; what is counted up to it under "
                "this topic's id is not counted again",
                topic, partition, position,
            )  # fmt: skip
            return
        lost = max(0, beginning - position)
        self.metrics.gap_offsets.labels(topic).inc(lost)
        log.error(
            "%s/%d: the broker no longer has offsets %d to %d: %d messages are lost to retention, "
            "counted as gaps in progress",
            topic, partition, position, beginning - 1, lost,
        )  # fmt: skip

    def _draining(self) -> None:
        self._started().flush_now()

    def _started(self) -> Pipeline:
        """The pipeline, made on the running event loop when it is first needed."""
        if self.pipeline is None:
            settings = self.settings
            self._store = ClickHouseStore(settings, Retry(self._outage))
            self._publisher = Publisher(client.aiokafka(settings))
            self.pipeline = Pipeline(
                store=self._store,
                publisher=Topics(
                    self._publisher,
                    Names(settings.enriched_topic, settings.windows_topic, settings.dead_letter_topic),
                    self.metrics,
                    self._kafka_outage,
                ),
                epochs=self._epochs,
                verify_epochs=self._verify_epochs,
                replay_topic=settings.replay_topic,
                rules=settings.rules,
                limits=Limits(
                    settings.flush_rows,
                    settings.flush_bytes,
                    settings.flush_interval_s,
                    settings.max_window_keys,
                ),
                metrics=self.metrics,
                breaker=Breaker(settings.max_rejected_share, settings.max_rejected_run),
                publish=settings.publish_enriched,
            )
            self.pipeline.failed.add_done_callback(self._failed)
        return self.pipeline

    def _failed(self, failed: asyncio.Future[None]) -> None:
        error = failed.exception()
        if error:
            log.error("the pipeline has failed, ending: %r", error, exc_info=error)
            self._crash = asyncio.ensure_future(self.app.crash(error))

    async def _epochs(self, topics: frozenset[str]) -> Mapping[str, str]:
        return await self._looked_up(partial(stream_epochs, self.settings, topics))

    async def _looked_up(self, look_up: Callable[[], Mapping[str, str]]) -> Mapping[str, str]:
        """What a look-up in a thread gives; waits for a broker as long as it takes."""
        while True:
            try:
                return await asyncio.to_thread(look_up)
            except Exception as error:  # noqa: BLE001 - kafka-python raises many kinds; all mean: not now
                log.warning("cannot look up topic ids, trying again: %r", error)
                await asyncio.sleep(_EPOCHS_WAIT_S)

    async def _sought(self, topics: frozenset[str]) -> Mapping[str, str]:
        """The epochs whose committed offsets the transport goes to."""
        self._sought_epochs = await self._epochs(topics)
        return self._sought_epochs

    async def _verify_epochs(self, known: Mapping[str, str]) -> None:
        """Prove that what was read of these topics until now is of these epochs.

        A topic that is gone was deleted after it was read.

        Raises:
            TopicChangedError: a topic was made again; its offsets mean other records now.
        """
        found = await self._looked_up(partial(self._lookup.look_up, known))
        changed = [
            topic
            for topic, epoch in known.items()
            if not epoch == found.get(topic, epoch) == self._sought_epochs.get(topic, epoch)
        ]
        if changed:
            raise TopicChangedError(f"made again: {', '.join(sorted(changed))}; starting anew")

    def _outage(self, event: Failure | Recovery) -> None:
        self._report(event)
        if isinstance(event, Failure):
            self.outages.add("clickhouse")
            self.metrics.retries.labels("clickhouse").inc()
        else:
            self.outages.discard("clickhouse")
        self.metrics.outage.labels("clickhouse").set(int("clickhouse" in self.outages))

    def _kafka_outage(self, failing: bool, text: str) -> None:
        log.warning(text)
        if failing:
            self.outages.add("kafka")
        else:
            self.outages.discard("kafka")
        self.metrics.outage.labels("kafka").set(int(failing))

    async def serve(self) -> None:
        """Serve health and metrics."""
        quiet_repeats()
        process = Process(self.app.progress, lambda: frozenset(self.outages), self._has_failed, self.metrics)
        self._server = Server(self.settings.web_host, self.settings.web_port, process)
        log.info("health and metrics on %s (/healthz /readyz /metrics)", await self._server.start())

    def _has_failed(self) -> bool:
        return bool(self.pipeline and self.pipeline.failed.done())

    async def roll_up(self) -> None:
        """Roll minutes up and judge what is new, if this worker is the one to do it.

        That is the worker of the first topic's first partition, so that usually one of them does; two at once
        do the same work twice and end alike.
        """
        topic = self.settings.access_log_topics[0]
        if Partition(topic, 0) not in self.app.progress() or self.outages:
            return
        try:
            rolled = await asyncio.to_thread(self._with_writer, roll_up)
            judged = await asyncio.to_thread(self._with_writer, self._upkeep.look)
        except ClickHouseError as error:
            log.warning("cannot roll up windows and judge them now, trying again later: %s", error)
            return
        except ValueError as error:
            log.warning("cannot judge what was seen: %s", error)
            return
        for tier, windows in rolled.items():
            self.metrics.rolled.labels(tier).inc(windows)
        for kind, count in asdict(judged).items():
            self.metrics.judged.labels(kind).inc(count)

    def _with_writer(self, act: Callable[[Client, Settings, datetime], T]) -> T:
        writer = connect(self.settings, "writer")
        try:
            return act(writer, self.settings, datetime.now(timezone.utc))
        finally:
            writer.close()

    async def close(self) -> None:
        """Stop what the app itself does not know of."""
        if self.pipeline:
            self.pipeline.stop()
        if self._server:
            await self._server.stop()
        if self._publisher:
            await self._publisher.stop()
        await asyncio.to_thread(self._lookup.close)
        if self._store:
            await self._store.close()


def _surroundings(worker: Worker) -> type[Service]:
    """The service that starts and stops with the app what Faust does not know of."""

    class Surroundings(Service):  # type: ignore[misc]  # mode has no types
        async def on_start(self) -> None:
            await worker.serve()
            tuning.settle()

        @Service.task  # type: ignore[untyped-decorator]  # mode has no types
        async def _roll_up(self) -> None:
            while not self.should_stop:
                await self.sleep(worker.settings.roll_up_interval_s)
                await worker.roll_up()

        @Service.task  # type: ignore[untyped-decorator]  # mode has no types
        async def _give_back(self) -> None:
            while not self.should_stop:
                await self.sleep(_GIVE_BACK_S)
                await asyncio.to_thread(memory.give_back)

        async def on_stop(self) -> None:
            await worker.close()

    return Surroundings


def create_app(settings: Settings) -> BatchApp:
    """Make the Faust app of a worker; `app.worker` holds the rest."""
    worker = Worker(settings)
    worker.app.worker = worker
    return worker.app
