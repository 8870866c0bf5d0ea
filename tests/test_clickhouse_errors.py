"""Every error of ClickHouse or of the way to it is sorted by one table."""

import asyncio

import aiohttp
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError, ProgrammingError

from egresslens.clickhouse.errors import CODES, Reason, Verdict, sort


def answered(code: int, message: str = "refused", name: str | None = None) -> tuple[Verdict, Reason]:
    trouble = sort(DatabaseError(message, code=code, name=name))
    assert trouble is not None
    return trouble.verdict, trouble.reason


@pytest.mark.parametrize(
    ("code", "verdict", "reason"),
    [
        (210, Verdict.RETRY, Reason.UNREACHABLE),
        (159, Verdict.RETRY, Reason.SLOW),
        (242, Verdict.RETRY, Reason.READ_ONLY),
        (243, Verdict.RETRY, Reason.DISK_FULL),
        (60, Verdict.RETRY, Reason.SCHEMA),
        (16, Verdict.RETRY, Reason.SCHEMA),
        (516, Verdict.RETRY, Reason.ACCESS),
        (241, Verdict.SPLIT, Reason.MEMORY),
        (349, Verdict.DEAD_LETTER, Reason.DATA),
        (62, Verdict.FATAL, Reason.REQUEST),
    ],
)
def test_a_code_has_its_verdict(code: int, verdict: Verdict, reason: Reason):
    assert answered(code) == (verdict, reason)


def test_too_many_parts_are_waited_for():
    message = "Code: 252. DB::Exception: Too many parts (3000 with average size of 1 MiB)"
    assert answered(252, message) == (Verdict.RETRY, Reason.TOO_MANY_PARTS)


def test_too_many_partitions_have_the_same_code_and_are_split():
    message = "Code: 252. DB::Exception: Too many partitions for single INSERT block (more than 100)"
    assert answered(252, message) == (Verdict.SPLIT, Reason.TOO_MANY_PARTITIONS)


def test_a_code_that_nobody_knows_is_retried():
    assert answered(123_456) == (Verdict.RETRY, Reason.OTHER)


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("Network Error: connection refused"),
        DatabaseError("HTTP driver received HTTP status 502"),
        aiohttp.ClientConnectionError("gone"),
        asyncio.TimeoutError(),
        ConnectionResetError("reset"),
    ],
)
def test_a_way_that_is_cut_is_retried(error: Exception):
    trouble = sort(error)
    assert trouble is not None
    assert (trouble.verdict, trouble.reason) == (Verdict.RETRY, Reason.UNREACHABLE)
    assert trouble.message


def test_a_body_that_a_proxy_finds_too_large_is_split():
    trouble = sort(DatabaseError("HTTP driver received HTTP status 413, server response: too large"))
    assert trouble is not None
    assert (trouble.verdict, trouble.reason) == (Verdict.SPLIT, Reason.TOO_LARGE)


def test_a_misused_driver_is_fatal():
    trouble = sort(ProgrammingError("the session is closed"))
    assert trouble is not None
    assert trouble.verdict is Verdict.FATAL


def test_a_bug_elsewhere_is_none_of_its_business():
    assert sort(KeyError("x")) is None


def test_a_message_is_bounded():
    trouble = sort(DatabaseError("x" * 10_000, code=60))
    assert trouble is not None
    assert len(str(trouble)) < 600


def test_the_name_is_shown_with_the_code():
    trouble = sort(DatabaseError("no space left", code=243))
    assert str(trouble) == "disk_full (243 NOT_ENOUGH_SPACE): no space left"


def test_every_code_of_the_table_is_named():
    assert all(name.isupper() for name, _, _ in CODES.values())
