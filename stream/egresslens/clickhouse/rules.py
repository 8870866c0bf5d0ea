"""Rules get a number when they come into force: the newest rules have the highest.

ClickHouse has no transactions. So a number is claimed by a row, and taken only by whoever then finds no claim
of other rules on it: claims are written before they are read, so of two that race at least one sees the
other, and gives way. If both do, both claim again after a random moment.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from clickhouse_connect.driver.asyncclient import AsyncClient

from egresslens.rules import Rules
from egresslens.settings import Settings

# Longer than a claim and its check take, so that of two that gave way one is alone the next time.
_LONGEST_WAIT_S: Final = 0.5


async def rules_version(
    client: AsyncClient,
    settings: Settings,
    rules: Rules,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> int:
    """The number of these rules: that of the newest if they are the newest, else a new one above it.

    No two rules ever have one number, however many workers register at the same moment. On a cluster this
    holds as long as no replica fails meanwhile: reads and writes of a shard go to the same one (`in_order`).

    Raises:
        clickhouse_connect.driver.exceptions.Error: a query failed.
    """
    table = f"{settings.database}.raw_rules"
    while True:
        version, claims = await _newest(client, table)
        if claims == {rules.fingerprint}:
            return version
        await client.insert(
            table,
            [[version + 1, rules.fingerprint, rules.model_dump_json()]],
            column_names=["version", "fingerprint", "rules"],
        )
        if await _claims(client, table, version + 1) == {rules.fingerprint}:
            return version + 1
        await sleep(random.uniform(0, _LONGEST_WAIT_S))  # noqa: S311 - no secret


async def _newest(client: AsyncClient, table: str) -> tuple[int, set[str]]:
    """The highest number that is claimed, and by which rules; (0, nothing) where none is."""
    found = await client.query(f"SELECT max(version) FROM {table}")  # noqa: S608 - a name by its pattern
    version = int(found.result_rows[0][0])
    return version, await _claims(client, table, version)


async def _claims(client: AsyncClient, table: str, version: int) -> set[str]:
    found = await client.query(
        f"SELECT DISTINCT fingerprint FROM {table} WHERE version = {{version:UInt32}}",  # noqa: S608 - as above
        parameters={"version": version},
    )
    return {str(fingerprint) for (fingerprint,) in found.result_rows}
