"""Try for ever: capped exponential backoff with jitter, and a report of every failure."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from egresslens.clickhouse.errors import Reason, Trouble, Verdict, sort

T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """A try that failed and will be repeated. `tries` counts from 1, `seconds` since the first."""

    operation: str
    trouble: Trouble
    tries: int
    seconds: float


@dataclass(frozen=True)
class Recovery:
    """An operation that worked after `tries` failures."""

    operation: str
    tries: int
    seconds: float


Report = Callable[[Failure | Recovery], None]


class RefusedError(Exception):
    """ClickHouse refused a request, and waiting would not help (verdict split, dead-letter or fatal)."""

    def __init__(self, operation: str, trouble: Trouble) -> None:
        super().__init__(f"{operation}: {trouble}")
        self.operation = operation
        self.trouble = trouble


@dataclass(frozen=True)
class Retry:
    """How to wait and whom to tell. Jitter is a number of [0, 1), so that workers do not return together."""

    report: Report
    base_s: float = 0.2
    cap_s: float = 30.0
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def wait_s(self, tries: int) -> float:
        """Seconds to wait after this many failures: between half and the whole of the capped doubling."""
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(tries - 1, 30))
        return ceiling * (0.5 + 0.5 * self.jitter())


def passing(trouble: Trouble) -> bool:
    """Whether a trouble goes away by waiting."""
    return trouble.verdict is Verdict.RETRY


def passing_for_one(trouble: Trouble) -> bool:
    """The same for one row, which cannot be split: a server short of memory is waited for."""
    return passing(trouble) or (trouble.verdict is Verdict.SPLIT and trouble.reason is not Reason.TOO_LARGE)


async def persist(
    operation: str,
    attempt: Callable[[], Awaitable[T]],
    retry: Retry,
    passes: Callable[[Trouble], bool] = passing,
) -> T:
    """Call `attempt` until it works. May be cancelled at any time.

    Raises:
        RefusedError: the trouble does not pass.
        Exception: whatever `attempt` raises that is no error of a request to ClickHouse.
    """
    began = retry.clock()
    tries = 0
    while True:
        try:
            result = await attempt()
        except Exception as error:
            trouble = sort(error)
            if trouble is None:
                raise
            if not passes(trouble):
                raise RefusedError(operation, trouble) from error
            tries += 1
            retry.report(Failure(operation, trouble, tries, retry.clock() - began))
            await retry.sleep(retry.wait_s(tries))
        else:
            if tries:
                retry.report(Recovery(operation, tries, retry.clock() - began))
            return result


def log_outages(logger: logging.Logger) -> Report:
    """Report into a log: one line when an outage begins, one when its kind changes, one when it ends."""
    last: dict[str, object] = {}

    def report(event: Failure | Recovery) -> None:
        if isinstance(event, Recovery):
            last.pop(event.operation, None)
            logger.warning(
                "ClickHouse works again: %s after %.1f s, %d tries",
                event.operation,
                event.seconds,
                event.tries + 1,
            )
        elif last.get(event.operation) != event.trouble.reason:
            last[event.operation] = event.trouble.reason
            logger.warning(
                "ClickHouse: %s does not work, trying for ever: %s", event.operation, event.trouble
            )

    return report
