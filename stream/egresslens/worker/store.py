"""ClickHouse as the pipeline asks for it: rows in, rows out, tried for ever."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import polars as pl
from clickhouse_connect.driver.asyncclient import AsyncClient

from egresslens.clickhouse import load, rebuild
from egresslens.clickhouse.retry import Retry
from egresslens.clickhouse.rules import rules_version
from egresslens.clickhouse.sink import Sink
from egresslens.kafka.transport.ledger import Partition
from egresslens.rules import Rules
from egresslens.settings import Settings
from egresslens.worker.accounts import REASONS, Account, frame
from egresslens.worker.replays import Origin, Place


class ClickHouseStore:
    """Two connections: one that inserts, in order, and one that loads meanwhile."""

    def __init__(self, settings: Settings, retry: Retry) -> None:
        self._settings = settings
        self._inserts = Sink(settings, retry)
        self._loads = Sink(settings, retry)

    async def rules_version(self, rules: Rules) -> int:
        """The number of these rules; new rules get a number above all others."""
        return await self._loads.call(
            "register rules", lambda client: rules_version(client, self._settings, rules)
        )

    async def insert(self, table: str, frame: pl.DataFrame) -> pl.DataFrame:
        """Store rows; returns those that ClickHouse will never take."""
        return await self._inserts.insert(table, frame)

    async def load_windows(self, places: pl.DataFrame) -> pl.DataFrame:
        """Stored rows (record.WINDOW) of these places (windows.PLACE)."""
        return await self._loads.call(
            "load windows", lambda client: load.load_windows(client, self._settings, places)
        )

    async def load_accounts(
        self, epochs: Mapping[str, str], partitions: Iterable[Partition]
    ) -> list[Account]:
        """The stored counts of each partition's current epoch; an empty account where there are none."""
        streams = [(epochs[one.topic], one.topic, one.partition) for one in partitions]

        async def act(client: AsyncClient) -> tuple[pl.DataFrame, pl.DataFrame]:
            await load.catch_up(client, self._settings)
            return (
                await load.load_progress(client, self._settings, streams),
                await load.load_refused(client, self._settings, streams),
            )

        stored, refused = await self._loads.call("load progress", act)
        accounts = {stream: Account(*stream) for stream in streams}
        for row in stored.iter_rows(named=True):
            accounts[row["stream_epoch"], row["topic"], row["partition"]] = _account(row)
        for *stream, offset, seq in refused.unique().iter_rows():
            account = accounts[stream[0], stream[1], stream[2]]
            if offset > account.last_offset:
                account.refused |= {(offset, seq)}
        return list(accounts.values())

    async def load_replays(self, origins: AbstractSet[Origin]) -> Mapping[tuple[Origin, int], Place]:
        """Which replays have applied which parts of these origins."""
        if not origins:
            return {}
        found = await self._loads.call(
            "load replays", lambda client: load.load_replays(client, self._settings, origins)
        )
        return {(Origin(*row[:4]), row[4]): Place(*row[5:]) for row in found.iter_rows()}

    async def undo(self, account: Account, rules: int) -> int:
        """Undo what other rules stored beyond the account, before consuming; the window rows rewritten."""
        stream = rebuild.Stream(account.stream_epoch, account.topic, account.partition, account.last_offset)

        async def act(client: AsyncClient) -> pl.DataFrame:
            await rebuild.forget_beyond(client, self._settings, stream)
            torn = await rebuild.torn_windows(client, self._settings, stream, rules)
            if torn.is_empty():
                return torn
            return await rebuild.recount(client, self._settings, stream, torn, rules)

        rows = await self._loads.call("rebuild windows", act)
        await self._inserts.insert("raw_windows_1m", rows)
        if account.first_offset is not None:
            # Under the new rules too, or no roll-up would take the rewritten windows for finished.
            await self._inserts.insert("raw_progress", frame([account], rules))
        return rows.height

    async def close(self) -> None:
        """Close the connections."""
        await self._inserts.close()
        await self._loads.close()


def _account(row: dict[str, Any]) -> Account:
    account = Account(**{name: value for name, value in row.items() if name not in REASONS})
    for name in REASONS:
        getattr(account, name).update({pair["key"]: pair["value"] for pair in row[name]})
    return account
