"""Frames into ClickHouse: one table partition at a time, tried until they are there.

An insert that spans several table partitions can be torn by a crash, and one that spans more than a hundred
is refused for ever; so each insert here touches one. Writing rows again is always harmless (their identity
makes it so), which is why every doubt ends in another try.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import polars as pl
from clickhouse_connect.driver.asyncclient import AsyncClient

from egresslens.clickhouse import client, frames
from egresslens.clickhouse.errors import Trouble, Verdict
from egresslens.clickhouse.frames import Table
from egresslens.clickhouse.retry import RefusedError, Retry, passing, passing_for_one, persist
from egresslens.settings import Settings

T = TypeVar("T")

# So many rows refused and none accepted: the rest is not tried.
ENOUGH_POISON: Final = 32


class Sink:
    """The writer's connection: made when it is first needed, kept through outages, closed by `close`.

    Frames are cut and encoded in threads. Several tasks may use it at once.
    """

    def __init__(self, settings: Settings, retry: Retry) -> None:
        self._settings = settings
        self._retry = retry
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()
        self._compress = not client.is_loopback(settings)

    async def insert(self, table: str, frame: pl.DataFrame) -> pl.DataFrame:
        """Store rows of a raw table; returns when ClickHouse has acknowledged all of them.

        Args:
            table: `frames.TABLES` has the names and columns.
            frame: those columns, in any order; others are ignored.

        Returns:
            Events that ClickHouse will never take (normally none), for the dead letters. Of the other tables
            it must take every row.

        Raises:
            RefusedError: the request itself is wrong, or ClickHouse takes none of several events, or not one
                row of another table.
            polars.exceptions.PolarsError: the frame lacks a column or has one of another type.
        """
        of = frames.TABLES[table]
        poison = [pl.DataFrame(schema=of.schema)]
        for part in await asyncio.to_thread(frames.split, of, frames.rows(of, frame)):
            poison += await self._insert(of, part)
        return pl.concat(poison)

    async def call(
        self,
        operation: str,
        act: Callable[[AsyncClient], Awaitable[T]],
        passes: Callable[[Trouble], bool] = passing,
    ) -> T:
        """Do anything with the writer's client, tried for ever. `operation` names it in reports.

        Raises:
            RefusedError: ClickHouse refused the request for good.
        """

        async def attempt() -> T:
            return await act(await self._connected())

        return await persist(operation, attempt, self._retry, passes)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _connected(self) -> AsyncClient:
        async with self._connecting:
            if self._client is None:
                self._client = await client.connect_async(self._settings, "writer")
            return self._client

    async def _insert(self, table: Table, frame: pl.DataFrame) -> list[pl.DataFrame]:
        """Store rows of one table partition, halved where they are refused; returns the poison ones."""
        todo, poison, accepted = [frame], list[pl.DataFrame](), 0
        while todo:
            part = todo.pop()
            try:
                await self._send(table, part)
                accepted += part.height
            except RefusedError as error:
                if error.trouble.verdict is Verdict.FATAL:
                    raise
                if part.height > 1:
                    half = part.height // 2
                    todo += [part[half:], part[:half]]
                    continue
                poison.append(part)
                if table is not frames.EVENTS:
                    raise
                if accepted == 0 and len(poison) == min(frame.height, ENOUGH_POISON) > 1:
                    # Not one row fits: no matter of rows, but of a table or a program of another version.
                    raise
        return poison

    async def _send(self, table: Table, frame: pl.DataFrame) -> None:
        body = await asyncio.to_thread(frames.encode, table, frame, compress=self._compress)

        async def act(connected: AsyncClient) -> None:
            await connected.raw_insert(
                f"{self._settings.database}.{table.name}",
                column_names=frame.columns,
                insert_block=body,
                fmt=table.format,
            )

        await self.call(f"insert into {table.name}", act, passing if frame.height > 1 else passing_for_one)
