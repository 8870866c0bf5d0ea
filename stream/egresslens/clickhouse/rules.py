"""Rules get a number when they come into force: the newest rules have the highest."""

from __future__ import annotations

from clickhouse_connect.driver.asyncclient import AsyncClient

from egresslens.rules import Rules
from egresslens.settings import Settings


async def rules_version(client: AsyncClient, settings: Settings, rules: Rules) -> int:
    """The number of these rules: that of the newest if they are the newest, else a new one above it.

    Two workers that register at the same moment may claim one number for different rules; the later claim
    gives way and takes the next.

    Raises:
        clickhouse_connect.driver.exceptions.Error: a query failed.
    """
    table = f"{settings.database}.raw_rules"
    while True:
        version, fingerprint = await _newest(client, table)
        if fingerprint == rules.fingerprint:
            return version
        await client.insert(
            table,
            [[version + 1, rules.fingerprint, rules.model_dump_json()]],
            column_names=["version", "fingerprint", "rules"],
        )


async def _newest(client: AsyncClient, table: str) -> tuple[int, str]:
    found = await client.query(
        f"SELECT version, argMin(fingerprint, (registered_at, fingerprint)) FROM {table} "  # noqa: S608 - a name by its pattern
        "GROUP BY version ORDER BY version DESC LIMIT 1"
    )
    rows = found.result_rows
    return (int(rows[0][0]), str(rows[0][1])) if rows else (0, "")
