"""The Faust app around the transport: made by a factory, connects nothing until it is started."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import faust
from faust.types import EventT, Message, TopicT
from mode.supervisors import CrashingSupervisor

from egresslens.kafka.transport.driver import Hooks, Options, Progress, Transport
from egresslens.kafka.transport.ledger import Partition

_NEVER_S: Final = 30 * 86_400.0


class BatchApp(faust.App):  # type: ignore[misc]  # Faust is untyped
    """A Faust app whose events are batches."""

    def __init__(self, *args: Any, transport_options: Options, **kwargs: Any) -> None:
        self._transport_options = transport_options
        super().__init__(*args, **kwargs)

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self, options=self._transport_options)

    def _create_directories(self) -> None:
        """No tables, no folders."""

    def progress(self) -> dict[Partition, Progress]:
        """Where each assigned partition stands; empty before the first assignment."""
        return self.consumer.progress() if self.started else {}


class _AsItIs(faust.Schema):  # type: ignore[misc]
    """The message's value is the event's value: nothing to decode."""

    def loads_key(self, app: Any, message: Message, **_: Any) -> Any:  # noqa: ARG002 - Faust's signature
        return message.key

    def loads_value(self, app: Any, message: Message, **_: Any) -> Any:  # noqa: ARG002
        return message.value


def create_app(
    group: str,
    brokers: Sequence[str],
    *,
    hooks: Hooks | None = None,
    credentials: Any = None,
    group_instance_id: str | None = None,
    session_timeout: float = 30.0,
    rebalance_timeout: float = 60.0,
    commit_interval: float = 1.0,
    commit_timeout: float = 5.0,
    stop_timeout: float = 5.0,
    max_poll_interval: float = _NEVER_S,
    metadata_age: float = 15.0,
    max_records: int = 50_000,
    max_fetch_bytes: int = 1_048_576,
    buffered_batches: int = 4,
) -> BatchApp:
    """Make a Faust app that reads batches; times are in seconds.

    Arguments:
        group: the consumer group.
        brokers: `host:port` of each bootstrap broker.
        hooks: what the application wants to be told.
        credentials: Faust's `broker_credentials`.
        group_instance_id: static member id (KIP-345).
        session_timeout: how long the group waits for a member that went silent.
        rebalance_timeout: how long the group waits for its members in a rebalance. For half of it a worker
            waits for its agents' acks before it lets go of its partitions.
        commit_interval: time between commits of what is acked.
        commit_timeout: time limit of one topic's commit.
        stop_timeout: how long a stopping worker waits for its agents' acks.
        max_poll_interval: of no effect on group membership here (see the driver); the setting's own bound.
        metadata_age: how often topics and partitions are looked up.
        max_records: records of one partition in a batch, about: a Kafka batch is never cut.
        max_fetch_bytes: compressed bytes of one partition in a fetch, about.
        buffered_batches: batches that wait for an agent; when it is full, nothing is fetched.
    """
    options = Options(
        hooks=hooks or Hooks(),
        # A JoinGroup request is answered when all members have come.
        request_timeout=max(session_timeout, rebalance_timeout) + 10,
        commit_timeout=commit_timeout,
        drain_timeout=rebalance_timeout / 2,
        stop_timeout=stop_timeout,
        max_records=max_records,
    )
    return BatchApp(
        group,
        transport_options=options,
        # Faust lets variables such as BROKER_URL win over what it is told here.
        env={},
        broker=";".join(f"kafka://{broker}" for broker in brokers),
        broker_credentials=credentials,
        broker_session_timeout=session_timeout,
        broker_heartbeat_interval=session_timeout / 10,
        broker_rebalance_timeout=rebalance_timeout,
        # Faust bounds the look-up of offsets with this and hangs when it passes; requests have another limit.
        broker_request_timeout=_NEVER_S,
        broker_commit_interval=commit_interval,
        broker_max_poll_interval=max_poll_interval,
        consumer_group_instance_id=group_instance_id,
        consumer_max_fetch_size=max_fetch_bytes,
        # A topic that was made again, or has more partitions, is noticed within this time.
        consumer_metadata_max_age_ms=int(metadata_age * 1000),
        producer_acks=-1,
        processing_guarantee="at_least_once",
        # An exception ends the process: a restarted agent would go on behind the records it lost.
        agent_supervisor=CrashingSupervisor,
        stream_buffer_maxsize=buffered_batches,
        stream_wait_empty=True,
        stream_recovery_delay=0.0,
        topic_disable_leader=True,
        topic_allow_declare=False,
        store="memory://",
        web_enabled=False,
        worker_redirect_stdouts=False,
        autodiscover=False,
    )


def batch_topic(app: BatchApp, *names: str) -> TopicT:
    """The channel for an agent that reads batches of these topics, which must exist."""
    return app.topic(*names, schema=_AsItIs(), internal=False)


def ack(event: EventT, commit: int | None = None) -> None:
    """Say that all records of the event's batch are safe, in any order; on the app's event loop.

    `commit` is the offset that may be committed for it, where that is less than the batch's `next_offset`:
    from there on records are read again after a restart. Without effect for a batch that was handed out
    before the latest assignment.
    """
    if commit is not None:
        entry = event.message.entry
        entry.next = min(entry.next, commit)
    event.ack()
