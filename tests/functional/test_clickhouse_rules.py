"""Numbers of rules, claimed by workers that know nothing of each other, on the real engine."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from clickhouse_rows import Database, database, migrated
from egresslens.clickhouse.client import connect_async
from egresslens.clickhouse.rules import rules_version
from egresslens.rules import Rules
from egresslens.settings import Settings

__all__ = ["database", "migrated"]

pytestmark = pytest.mark.functional

Hook = Callable[[], Awaitable[None]]
A, B = Rules(keep_query=True), Rules(keep_query=False)


def register(settings: Settings, rules: Rules) -> int:
    """The number that a worker of its own gets."""

    async def act() -> int:
        client = await connect_async(settings, "writer")
        try:
            return await rules_version(client, settings, rules)
        finally:
            await client.close()

    return asyncio.run(act())


def test_the_first_rules_are_the_first(database: Database):
    assert register(database.settings, A) == 1


def test_rules_keep_their_number_while_they_are_the_newest(database: Database):
    assert [register(database.settings, rules) for rules in (A, A)] == [1, 1]


def test_rules_that_return_get_a_new_number(database: Database):
    assert [register(database.settings, rules) for rules in (A, B, A, A)] == [1, 2, 3, 3]


def test_workers_that_register_at_once_share_a_number_only_with_their_own_rules(database: Database):
    """Eight threads, each with a connection of its own, begin together; four sets of rules."""
    several = [Rules(max_destinations=1 + number % 4) for number in range(8)]
    together = threading.Barrier(len(several))
    found: list[tuple[int, str]] = []

    def worker(rules: Rules) -> None:
        together.wait()
        found.append((register(database.settings, rules), rules.fingerprint))

    threads = [threading.Thread(target=worker, args=(rules,)) for rules in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(several)
    owners: dict[int, set[str]] = {}
    for version, fingerprint in found:
        owners.setdefault(version, set()).add(fingerprint)
    assert all(len(fingerprints) == 1 for fingerprints in owners.values())


class Claiming:
    """A client that does something else just before or just after its first claim."""

    def __init__(self, client: Any, before: Hook | None = None, after: Hook | None = None) -> None:
        self._client, self._before, self._after = client, before, after

    async def query(self, *arguments: Any, **named: Any) -> Any:
        return await self._client.query(*arguments, **named)

    async def insert(self, *arguments: Any, **named: Any) -> None:
        before, after = self._before, self._after
        self._before = self._after = None
        if before:
            await before()
        await self._client.insert(*arguments, **named)
        if after:
            await after()


def test_a_number_that_was_taken_before_the_claim_is_not_taken_again(database: Database):
    async def act() -> int:
        async with await connect_async(database.settings, "writer") as client:

            async def other() -> None:
                assert await rules_version(client, database.settings, B) == 1

            claiming: Any = Claiming(client, before=other)
            return await rules_version(claiming, database.settings, A)

    assert asyncio.run(act()) == 2


def test_a_claim_that_comes_before_the_check_gives_the_number_to_nobody(database: Database):
    async def act() -> list[int]:
        claimed = [asyncio.Event(), asyncio.Event()]

        async def one(number: int, rules: Rules) -> int:
            async def both_have_claimed() -> None:
                claimed[number].set()
                await claimed[1 - number].wait()

            async with await connect_async(database.settings, "writer") as client:
                claiming: Any = Claiming(client, after=both_have_claimed)
                return await rules_version(
                    claiming, database.settings, rules, lambda _: asyncio.sleep(0.3 * number)
                )

        return await asyncio.gather(one(0, A), one(1, B))

    assert sorted(asyncio.run(act())) == [2, 3]
