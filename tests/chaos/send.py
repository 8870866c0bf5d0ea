"""`python -m chaos.send`: a process that sends traffic as far as it is told.

Each line of its standard input is a message number; it sends up to there and prints the number when the
broker has acknowledged all of it. A batch that may or may not have arrived is sent again: what is in the
topic counts.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from typing import Final

from chaos.traffic import Traffic, make
from egresslens.kafka.publish import Publisher, PublishError, Record

_CHUNK: Final = 4_000
_TIMEOUT_S: Final = 120.0


def key(number: int) -> bytes:
    """The Kafka key of a message."""
    return number.to_bytes(8, "big")


async def _send(bootstrap: str, topic: str, traffic: Traffic) -> None:
    publisher = Publisher({"bootstrap_servers": bootstrap}, timeout=_TIMEOUT_S)
    sent = 0
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        until = int(line)
        while sent < until:
            stop = min(sent + _CHUNK, until)
            records: dict[int, list[Record]] = defaultdict(list)
            for number, value in traffic.render(sent, stop):
                records[number % traffic.partitions].append((key(number), value, []))
            while True:
                try:
                    await publisher.publish(topic, records)
                    break
                except PublishError as error:
                    print(f"sending again: {error}", file=sys.stderr, flush=True)
            sent = stop
            print(sent, flush=True)
    await publisher.stop()


def main() -> None:
    """Arguments: bootstrap, topic, seed, messages, partitions, now."""
    bootstrap, topic, *numbers = sys.argv[1:]
    asyncio.run(_send(bootstrap, topic, make(*map(int, numbers))))


if __name__ == "__main__":
    main()
