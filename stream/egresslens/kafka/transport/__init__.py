"""A Faust transport that carries batches: one event per Kafka partition and poll, acked by the application.

Faust's own cost is per event, so an event holds all records of one poll (`Batch`). Rebalances and flow
control stay Faust's. What differs from stock Faust 0.15.3:

- An offset is committed only when the application has acked every batch up to it, in whatever order it did
  so, and it counts as committed only when the broker said so (`ledger`).
- Out-of-range offsets are never reset in silence (`Hooks.on_gap`), and a batch that went missing between
  fetching and delivery ends the process instead of being committed past.
- Any exception in an agent ends the process; a supervisor outside starts it again.
- A worker that is full, however long, stays in its group.

An agent reads `stream.noack().events()`, keeps the events, and calls `ack(event)` once their records are
safe::

    app = create_app("my-group", ["127.0.0.1:9092"], hooks=Hooks(on_assigned=discard_everything))

    @app.agent(batch_topic(app, "access-log"))
    async def consume(stream):
        async for event in stream.noack().events():
            await store(event.value)  # a Batch
            ack(event)

Faust's automatic acks do not reach this transport: without `noack()` nothing is ever committed. An agent has
`concurrency=1`. This package knows nothing of the rest of egresslens.
"""

from __future__ import annotations

from egresslens.kafka.transport.app import BatchApp, ack, batch_topic, create_app
from egresslens.kafka.transport.batch import Batch
from egresslens.kafka.transport.driver import Hooks, Progress, Transport
from egresslens.kafka.transport.ledger import HoleError

__all__ = [
    "Batch",
    "BatchApp",
    "HoleError",
    "Hooks",
    "Progress",
    "Transport",
    "ack",
    "batch_topic",
    "create_app",
]
