"""Judgements of what was seen lately, kept up by the workers.

Safe with several workers and beside `egresslens registry`: judgements are rows with a version, and these are
older than they could be. Whoever changes the registry judges everything by it; a worker leaves that alone for
`SETTLED` and dates its own judgements half of that back, so that a registry that is being stored just now
counts as newer and everything is judged once more.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, Final

from egresslens.judge.frames import Judges
from egresslens.registry import store
from egresslens.registry.geo import open_geo
from egresslens.registry.refresh import Refreshed, is_due, refresh
from egresslens.registry.store import Client
from egresslens.registry.value import Registries
from egresslens.settings import Settings

SETTLED: Final = timedelta(minutes=2)


class Upkeep:
    """Judges what is new; reads the registry again only when it changed. For one thread at a time."""

    def __init__(self) -> None:
        self._version: tuple[Any, ...] | None = None
        self._registries = Registries()
        self._judges = Judges(self._registries, None)

    def look(self, client: Client, settings: Settings, now: datetime) -> Refreshed:
        """Judge what was seen and is not judged yet.

        Args:
            client: a connected writer.
            settings: for the database's name, and the geographic database.
            now: the present (aware).

        Raises:
            clickhouse_connect.driver.exceptions.Error: a statement failed; what is written stays.
            RegistryError: an object was stored by a newer program and cannot be read by this one.
            ValueError: the geographic database of the settings cannot be used.
        """
        nothing = Refreshed(0, 0, 0)
        version = store.version(client, settings)
        # clickhouse-connect gives UTC without saying so.
        changed = version[0].replace(tzinfo=timezone.utc)
        if now - changed < SETTLED or not is_due(client, settings):
            return nothing
        if version != self._version:
            path = settings.geo_database
            self._registries = store.read(client, settings)
            self._judges = Judges(self._registries, open_geo(path) if path else None)
            self._version = version
        judged_at = now - SETTLED / 2
        return refresh(client, settings, self._registries, self._judges, judged_at, everything=False)
