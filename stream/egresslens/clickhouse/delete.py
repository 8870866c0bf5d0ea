"""Removing rows for good, on one server or on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clickhouse_connect.driver.client import Client

from egresslens.settings import Settings


def delete(client: Client, settings: Settings, table: str, where: str, parameters: Mapping[str, Any]) -> None:
    """Delete rows of a raw table; returns when they are gone.

    Raises:
        clickhouse_connect.driver.exceptions.Error: the statement failed.
    """
    local = "_local" if settings.cluster else ""
    on_cluster = f" ON CLUSTER '{settings.cluster}'" if settings.cluster else ""
    client.command(
        f"ALTER TABLE {settings.database}.{table}{local}{on_cluster} DELETE WHERE {where}",
        parameters,
        settings={"mutations_sync": 2},
    )
