"""Trying for ever: how long it waits, what it reports, when it gives up."""

import asyncio
import itertools
import logging
from collections.abc import Callable

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from egresslens.clickhouse.retry import (
    Failure,
    Recovery,
    RefusedError,
    Retry,
    log_outages,
    passing_for_one,
    persist,
)

DOWN = OperationalError("connection refused")


class Outage:
    """A clock that only sleeping moves, and an operation that fails as it is told."""

    def __init__(self, *errors: Exception, jitter: float = 1.0) -> None:
        self.errors = list(errors)
        self.now = 0.0
        self.waits: list[float] = []
        self.reported: list[Failure | Recovery] = []
        self.retry = Retry(
            self.reported.append, clock=lambda: self.now, jitter=lambda: jitter, sleep=self.sleep
        )

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    async def operation(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    def run(self) -> str:
        return asyncio.run(persist("insert", self.operation, self.retry))


def test_what_works_is_not_reported():
    outage = Outage()
    assert outage.run() == "done"
    assert outage.reported == []


def test_waits_double_up_to_the_cap():
    outage = Outage(*[DOWN] * 10)
    outage.run()
    assert outage.waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


def test_jitter_takes_away_up_to_half():
    outage = Outage(DOWN, DOWN, jitter=0.0)
    outage.run()
    assert outage.waits == [0.1, 0.2]


def test_every_failure_and_the_recovery_are_reported():
    outage = Outage(DOWN, DatabaseError("disk", code=243))
    outage.run()
    first, second, recovery = outage.reported
    assert isinstance(first, Failure)
    assert isinstance(second, Failure)
    assert (first.tries, first.seconds, first.trouble.reason.value) == (1, 0.0, "unreachable")
    assert (second.tries, second.seconds, second.trouble.reason.value) == (2, 0.2, "disk_full")
    assert recovery == Recovery("insert", 2, pytest.approx(0.6))


@pytest.mark.parametrize("code", [62, 241, 349])
def test_what_waiting_does_not_mend_is_refused_at_once(code: int):
    outage = Outage(DatabaseError("no", code=code))
    with pytest.raises(RefusedError):
        outage.run()
    assert outage.waits == []


def test_one_row_waits_for_memory():
    outage = Outage(DatabaseError("memory", code=241))
    assert asyncio.run(persist("insert", outage.operation, outage.retry, passing_for_one)) == "done"


def test_a_bug_passes_through():
    with pytest.raises(KeyError):
        Outage(KeyError("x")).run()


def test_it_can_be_cancelled_while_it_waits():
    async def main() -> None:
        retry = Retry(lambda _: None, base_s=60.0, cap_s=60.0)
        outage = Outage(*[DOWN] * 3)
        task = asyncio.create_task(persist("insert", outage.operation, retry))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[Outage], list[str]]:
    def run(outage: Outage) -> list[str]:
        logger = logging.getLogger("outage")
        object.__setattr__(outage.retry, "report", log_outages(logger))
        with caplog.at_level(logging.INFO, "outage"):
            outage.run()
        return [record.getMessage() for record in caplog.records]

    return run


def test_an_outage_is_two_lines_however_often_it_is_tried(lines: Callable[[Outage], list[str]]):
    assert lines(Outage(*[DOWN] * 50)) == [
        "ClickHouse: insert does not work, trying for ever: unreachable: connection refused",
        "ClickHouse works again: insert after 1311.0 s, 51 tries",
    ]


def test_another_kind_of_trouble_is_a_line_of_its_own(lines: Callable[[Outage], list[str]]):
    full = DatabaseError("disk", code=243)
    assert len(lines(Outage(*itertools.chain([DOWN] * 5, [full] * 5)))) == 3
