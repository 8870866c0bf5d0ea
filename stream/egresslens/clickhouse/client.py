"""Clients of ClickHouse's HTTP interface, for one server or a cluster, as writer or as reader."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from egresslens import __version__
from egresslens.settings import Settings

if TYPE_CHECKING:
    # It brings aiohttp, which takes commands that have no use for it 0.1 s to import.
    from clickhouse_connect.driver.asyncclient import AsyncClient

Role = Literal["writer", "reader"]

# Sent with every insert: an acknowledged insert is written, and a repeated one is never taken for a duplicate
# (the rows' own identity makes repeating harmless, also after rows were deleted on purpose).
WRITER_SETTINGS: Final[dict[str, Any]] = {
    "async_insert": 0,
    "insert_deduplicate": 0,
    "input_format_null_as_default": 0,
    "max_insert_threads": 1,  # one block, one part: an insert into one table partition is seen whole or not
}
# On a cluster as well: acknowledged means written to a quorum of the shard's replicas, not queued here.
CLUSTER_SETTINGS: Final[dict[str, Any]] = {
    "distributed_foreground_insert": 1,
    "insert_quorum": "auto",
    "load_balancing": "in_order",
}


def request_settings(settings: Settings, role: Role) -> dict[str, Any]:
    """Give the ClickHouse settings of each of this role's requests."""
    if role == "reader":
        return {}
    return {**WRITER_SETTINGS, **(CLUSTER_SETTINGS if settings.cluster else {})}


def connect(settings: Settings, role: Role, **options: Any) -> Client:
    """Connect, blocking. No default database: statements name theirs.

    Args:
        settings: where, and with which passwords.
        role: whose account.
        options: of clickhouse-connect, over those of the settings.

    Raises:
        clickhouse_connect.driver.exceptions.Error: unreachable, or the password is wrong.
    """
    return clickhouse_connect.get_client(**{**_arguments(settings, role), **options})


async def connect_async(settings: Settings, role: Role) -> AsyncClient:
    """Connect for use in the running event loop; otherwise as `connect`."""
    return await clickhouse_connect.get_async_client(**_arguments(settings, role))


def is_loopback(settings: Settings) -> bool:
    """Whether ClickHouse is on this machine: compressing what is sent there only costs."""
    host = urlsplit(settings.clickhouse_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _arguments(settings: Settings, role: Role) -> dict[str, Any]:
    url = urlsplit(settings.clickhouse_url)
    secure = url.scheme == "https"
    reader = role == "reader"
    password = settings.clickhouse_reader_password if reader else settings.clickhouse_password
    return {
        "host": url.hostname,
        "port": url.port or (8443 if secure else 8123),
        "interface": url.scheme,
        "proxy_path": url.path,
        "username": settings.clickhouse_reader_user if reader else settings.clickhouse_user,
        "password": password.get_secret_value(),
        "verify": settings.clickhouse_verify,
        "ca_cert": str(settings.clickhouse_cafile) if settings.clickhouse_cafile else None,
        "connect_timeout": min(10, int(settings.clickhouse_timeout_s) or 1),
        "send_receive_timeout": settings.clickhouse_timeout_s,
        "settings": request_settings(settings, role),
        "compress": False if is_loopback(settings) else "lz4",
        "query_retries": 0,  # the sink retries, and says so
        "autogenerate_session_id": False,  # a session runs one query at a time
        "client_name": f"egresslens/{__version__}",
    }
