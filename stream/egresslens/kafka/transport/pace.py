"""Keep aiokafka's clients from spinning.

While a partition has no leader, or no broker answers, aiokafka's fetcher and sender ask for metadata again as
soon as an answer or an error has come: thousands of times a second, a core's worth of work.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

INTERVAL_S: Final = 0.2


def pace(client: Any, interval: float = INTERVAL_S) -> None:
    """Let an AIOKafkaClient look up metadata at most once per `interval` seconds."""
    update, last = client._metadata_update, float("-inf")  # noqa: SLF001

    async def paced(*arguments: Any) -> Any:
        nonlocal last
        await asyncio.sleep(max(0.0, last + interval - time.monotonic()))
        last = time.monotonic()
        return await update(*arguments)

    client._metadata_update = paced  # noqa: SLF001
