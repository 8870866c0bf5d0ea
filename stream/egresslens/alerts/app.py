"""The alerts process: a Faust agent on the windows topic, and what goes on around it.

Order of effects: hits are found, the book is changed and stored, and only then is the batch acked. Telling
goes on beside that and never holds it up; what was told is stored as well. So after a crash nothing is lost:
rows are read again and change nothing that is counted, and who was not told is told then (perhaps twice).

Every assignment discards the book and loads the incidents of the callers in the assigned partitions.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta, timezone
from typing import Any, Final, TypeVar

import faust
import polars as pl
from clickhouse_connect.driver.exceptions import ClickHouseError
from faust.types import EventT
from mode import Service

from egresslens.alerts import detect, history
from egresslens.alerts.book import Book, Hit, Incident, Subject, incident_id
from egresslens.alerts.deliver import MANY, DeliveryError, Receiver, receivers
from egresslens.alerts.rules import AlertRules
from egresslens.clickhouse.client import connect
from egresslens.health import Process, Server
from egresslens.judge import Judges
from egresslens.kafka import client
from egresslens.kafka.publish import Publisher, PublishError, partition_for
from egresslens.kafka.transport import BatchApp, Hooks, ack, batch_topic
from egresslens.kafka.transport import create_app as create_batch_app
from egresslens.kafka.transport.ledger import Partition
from egresslens.metrics import AlertsMetrics
from egresslens.registry import store
from egresslens.registry.geo import open_geo
from egresslens.registry.problems import RegistryError
from egresslens.registry.value import Registries
from egresslens.settings import Settings

log: Final = logging.getLogger("egresslens.alerts")
T = TypeVar("T")

_LOOK_S: Final = 0.3
_REGISTRY_S: Final = 30.0
_VOLUME_S: Final = 60.0
_REPEAT_S: Final = 60.0
# Minutes are looked at again this long, for records that come late.
_LATE: Final = timedelta(minutes=5)
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 60.0
_KNOWN: Final = 500_000
_STOP_TIMEOUT_S: Final = 6.0


class Alerter:
    """Everything that the alerts process holds besides the Faust app."""

    def __init__(self, settings: Settings, rules: AlertRules) -> None:
        self.settings = settings
        self.rules = rules
        self.metrics = AlertsMetrics()
        self.outages: set[str] = set()
        self.app = create_batch_app(
            settings.alerts_group,
            client.brokers(settings),
            hooks=Hooks(on_assigned=self._assigned, on_gap=self._gap),
            credentials=client.faust_credentials(settings),
            session_timeout=settings.kafka_session_timeout_s,
            rebalance_timeout=settings.kafka_rebalance_timeout_s,
            stop_timeout=_STOP_TIMEOUT_S,
        )
        self.app.agent(batch_topic(self.app, settings.windows_topic))(self._carry)
        self.app.service(_surroundings(self))
        self._partitions: frozenset[Partition] = frozenset()
        self._generation = -1
        self._book: Book | None = None
        self._known: set[Subject] = set()
        self._registries = Registries()
        self._registry_version: tuple[Any, ...] = ()
        self._geo = open_geo(settings.geo_database) if settings.geo_database else None
        self._judges = Judges(self._registries, self._geo)
        self._lock = asyncio.Lock()
        self._stored = datetime.min.replace(tzinfo=timezone.utc)
        self._receivers: list[Receiver] = []
        self._client: Any = None
        self._server: Server | None = None
        self._mine: Callable[[Subject], bool] = lambda _: False
        self._waits: dict[str, tuple[float, float]] = {}
        self._due = {"registry": 0.0, "volume": 0.0, "repeat": 0.0}

    def _assigned(self, generation: int, partitions: frozenset[Partition]) -> None:
        self._generation, self._partitions = generation, partitions
        self._book = None
        self._known = set()
        self.metrics.assigned({partition.topic for partition in partitions})

    def _gap(self, topic: str, partition: int, position: int, beginning: int) -> None:
        self.metrics.gap_offsets.labels(topic).inc(max(0, beginning - position))
        log.error(
            "%s/%d: the broker no longer has offsets %d to %d: alerts of that time are missing",
            topic, partition, position, beginning - 1,
        )  # fmt: skip

    async def _carry(self, stream: faust.StreamT[Any]) -> None:
        events: AsyncIterator[EventT] = stream.noack().events()
        async for event in events:
            rows = await asyncio.to_thread(detect.read, event.value.values)
            await self._take(rows)
            self.metrics.windows.inc(rows.height)
            ack(event)

    async def _take(self, rows: pl.DataFrame) -> None:
        """Find hits in rows, change the book, store it."""
        async with self._lock:
            generation = self._generation
            await self._read_registry()
            book = await self._opened()
            now = _now()
            hits = await self._persist(lambda reader: self._hits(reader, rows, now))
            ids = {incident_id(one.rule, one.subject) for one in hits if one.once and not book.knows(one)}
            over = await self._persist(lambda reader: history.existing(reader, self.settings, ids))
            if generation != self._generation:
                return  # the rows come again
            book.apply(hits, now, over)
            await self._store(book)

    def _hits(self, reader: Any, rows: pl.DataFrame, now: datetime) -> list[Hit]:
        rules = self.rules
        hits = [
            *detect.blackholes(rows, rules, now),
            *detect.mismatches(rows, rules, now),
            *detect.violations(rows, rules, self._registries, self._judges, now),
        ]
        candidates = detect.pairs(rows) - self._known
        if candidates and any(rule.once for rule in rules.rules):
            seen = history.first_seen(reader, self.settings, candidates)
            hits += detect.new_destinations(rows, rules, seen, now)
            self._known = candidates if len(self._known) > _KNOWN else self._known | candidates
        return hits

    async def look(self) -> None:
        """What time brings: a new registry, minutes that are over, incidents that are over; and telling."""
        if not self._partitions:
            return
        async with self._lock:
            generation = self._generation
            await self._read_registry()
            book = await self._opened()
            now = _now()
            volumes = [rule for rule in self.rules.rules if rule.kind == "volume"]
            if volumes and self._is_due("volume", _VOLUME_S):
                minute = now.replace(second=0, microsecond=0)
                found = await self._persist(
                    lambda reader: history.volumes(reader, self.settings, minute - _LATE, minute)
                )
                mine = [one for one in found if self._mine(one.subject)]
                if generation == self._generation:
                    book.apply(detect.volumes(mine, self.rules, now), now)
            if self._caught_up():
                book.resolve({rule.name: rule.resolve_after for rule in self.rules.rules} | _OWN_TIMES, now)
            await self._store(book)
        await self._tell(book)

    async def _tell(self, book: Book) -> None:
        repeat = self._is_due("repeat", _REPEAT_S)
        for receiver in self._receivers:
            untold = book.untold(receiver.name)
            if repeat and receiver.name == "alertmanager":
                untold = [one for one in book if one.state == "firing" or one in untold]
            await self._tell_one(book, receiver, untold)
        self._count(book)
        async with self._lock:
            # A book of an earlier assignment is void: another process may have its incidents now.
            if book is self._book:
                await self._store(book)
                book.forget(receiver.name for receiver in self._receivers)

    def _count(self, book: Book) -> None:
        self.metrics.incidents.clear()
        for (rule, state), count in Counter((one.rule, one.state) for one in book).items():
            self.metrics.incidents.labels(rule, state).set(count)
        for receiver in self._receivers:
            self.metrics.untold.labels(receiver.name).set(len(book.untold(receiver.name)))

    async def _tell_one(self, book: Book, receiver: Receiver, incidents: list[Incident]) -> None:
        until, wait = self._waits.get(receiver.name, (0.0, 0.0))
        if time.monotonic() < until:
            return
        for at in range(0, len(incidents), MANY):
            part = incidents[at : at + MANY]
            try:
                await receiver.tell(part, _now())
            except DeliveryError as error:
                self.metrics.refused.labels(receiver.name).inc()
                longer = min(2 * wait or _FIRST_WAIT_S, _LONGEST_WAIT_S)
                self._waits[receiver.name] = (time.monotonic() + longer, longer)
                if not wait:
                    log.warning("%s does not take alerts, trying again: %s", receiver.name, error)
                return
            if wait:
                log.warning("%s takes alerts again", receiver.name)
            self._waits.pop(receiver.name, None)
            wait = 0.0
            self.metrics.told.labels(receiver.name).inc(len(part))
            book.tell((one.id, receiver.name, one.state) for one in part)

    async def _opened(self) -> Book:
        """The book, with the stored incidents of the assigned partitions; under the lock."""
        if self._book is None:
            count = await self._partition_count()
            mine = {one.partition for one in self._partitions}
            self._mine = lambda who: partition_for(who.key, count) in mine
            shard = ",".join(str(one) for one in sorted(mine))
            found, latest = await self._persist(
                lambda reader: history.load(reader, self.settings, _now(), self._mine)
            )
            self._stored = max(self._stored, latest)
            book = Book(self.rules.max_per_minute, shard)
            book.restore(found)
            self._book = book
        return self._book

    async def _partition_count(self) -> int:
        publisher = Publisher(client.aiokafka(self.settings))
        try:
            while True:
                try:
                    count = await publisher.partitions(self.settings.windows_topic)
                except PublishError as error:
                    log.warning("cannot look up the windows topic, trying again: %s", error)
                    self._mark("kafka", failing=True)
                    await asyncio.sleep(_FIRST_WAIT_S)
                else:
                    self._mark("kafka", failing=False)
                    return count
        finally:
            await publisher.stop()

    async def _store(self, book: Book) -> None:
        """Store what changed; under the lock, so that later states have later times."""
        changed = book.changed()
        if changed:
            self._stored = max(_now(), self._stored + timedelta(milliseconds=1))
            await self._persist(lambda writer: history.save(writer, self.settings, changed, self._stored))

    async def _persist(self, action: Callable[[Any], T]) -> T:
        """Do something with ClickHouse, trying for ever: no batch is acked meanwhile."""
        wait = _FIRST_WAIT_S
        while True:
            try:
                done = await asyncio.to_thread(self._with_client, action)
            except ClickHouseError as error:
                if wait == _FIRST_WAIT_S:
                    log.warning("ClickHouse cannot be asked, trying again: %s", error)
                self._mark("clickhouse", failing=True)
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_S)
            else:
                if wait != _FIRST_WAIT_S:
                    log.warning("ClickHouse can be asked again")
                    self._mark("clickhouse", failing=False)
                return done

    def _mark(self, part: str, *, failing: bool) -> None:
        if failing:
            self.outages.add(part)
            self.metrics.retries.labels(part).inc()
        else:
            self.outages.discard(part)
        self.metrics.outage.labels(part).set(int(failing))

    def _with_client(self, action: Callable[[Any], T]) -> T:
        if self._client is None:
            self._client = connect(self.settings, "writer")
        return action(self._client)

    async def _read_registry(self) -> None:
        """Read the registry when it is time to and it changed; under the lock: rows are judged by it."""
        if not self._is_due("registry", _REGISTRY_S):
            return
        version = await self._persist(lambda reader: store.version(reader, self.settings))
        if version == self._registry_version:
            return
        try:
            found: Registries = await self._persist(lambda reader: store.read(reader, self.settings))
        except RegistryError as error:
            log.warning("the registry cannot be read, going on with the last one: %s", error)
            return
        self._registry_version = version
        self._registries = found
        self._judges = Judges(found, self._geo)

    def _caught_up(self) -> bool:
        """Whether all rows up to now were read: else what seems over may go on in rows to come."""
        progress = self.app.progress()
        return bool(progress) and all(
            one.end is not None and one.position >= one.end for one in progress.values()
        )

    def _is_due(self, what: str, every: float) -> bool:
        if time.monotonic() < self._due[what]:
            return False
        self._due[what] = time.monotonic() + every
        return True

    async def start(self) -> None:
        """Make what belongs to the running event loop; serve health and metrics."""
        self._receivers = receivers(self.settings)
        process = Process(self.app.progress, lambda: frozenset(self.outages), lambda: False, self.metrics)
        self._server = Server(self.settings.web_host, self.settings.alerts_web_port, process)
        log.info("health and metrics on %s (/healthz /readyz /metrics)", await self._server.start())

    async def close(self) -> None:
        """Close connections; what was not told is told after the next start."""
        if self._server:
            await self._server.stop()
        for receiver in self._receivers:
            await receiver.close()
        if self._client is not None:
            self._client.close()


# Storms end with their hour's last incident, as others do.
_OWN_TIMES: Final = {"storm": timedelta(minutes=15)}


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _surroundings(alerter: Alerter) -> type[Service]:
    """The service that starts and stops with the app what Faust does not know of."""

    class Surroundings(Service):  # type: ignore[misc]  # mode has no types
        async def on_start(self) -> None:
            await alerter.start()

        @Service.task  # type: ignore[untyped-decorator]  # mode has no types
        async def _look(self) -> None:
            while not self.should_stop:
                await self.sleep(_LOOK_S)
                await alerter.look()

        async def on_stop(self) -> None:
            await alerter.close()

    return Surroundings


def create_app(settings: Settings, rules: AlertRules) -> BatchApp:
    """Make the Faust app of the alerts process; `app.alerter` holds the rest.

    Raises:
        ValueError: the geographic database of the settings cannot be used.
    """
    alerter = Alerter(settings, rules)
    alerter.app.alerter = alerter
    return alerter.app
