"""A real store for a test session: a process of its own, in a temporary folder, on a free port.

`tests/conftest.py` brings it in.
"""

from __future__ import annotations

import base64
import http.client
import importlib.util
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from egresslens.store.process import StoreProcess, embedded_store


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    """The store behind `store`."""
    require_chdb()
    with embedded_store(tmp_path_factory.mktemp("store")) as running:
        assert ask(running, "CREATE DATABASE t").status == 200
        yield running


@pytest.fixture(scope="module")
def store(shared_store: StoreProcess) -> Iterator[StoreProcess]:
    """A store all tests of the session share, with an empty database `t`: never stop it.

    `.url`, `.writer` and `.reader` (user, password). For `.kill()`, `.restart()` and `.stop()`, start one of
    your own with `embedded_store(folder)`. The databases that a module makes are dropped after it: the engine
    works for each of them for as long as it is there.
    """
    before = _databases(shared_store)
    yield shared_store
    for name in sorted(_databases(shared_store) - before):
        assert ask(shared_store, f"DROP DATABASE `{name}`").status == 200


def _databases(store: StoreProcess) -> set[str]:
    return set(ask(store, "SELECT name FROM system.databases").text.split())


def require_chdb() -> None:
    """Skip the test where the engine is not installed, or fail it in CI."""
    why = "chdb is not installed: pip install 'egresslens[embedded]'"
    missing = importlib.util.find_spec("chdb") is None
    if missing and os.environ.get("CI") == "true":
        pytest.fail(why)
    if missing:
        pytest.skip(why)


def client(store: StoreProcess, account: tuple[str, str], **options) -> Client:
    """An unmodified clickhouse-connect client of the writer or the reader."""
    url = urlsplit(store.url)
    return clickhouse_connect.get_client(
        host=url.hostname, port=url.port, username=account[0], password=account[1], **options
    )


@dataclass(frozen=True)
class Answered:
    """A response, as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> int:
        """ClickHouse's code of the error, 0 for none."""
        return int(self.headers.get("X-ClickHouse-Exception-Code", 0))

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


def ask(
    store: StoreProcess,
    sql: str | bytes = b"",
    *,
    account: tuple[str, str] | None = None,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    **parameters: object,
) -> Answered:
    """One plain request, as the writer unless told otherwise; `parameters` go into the URL."""
    address = urlsplit(store.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    user, password = account or store.writer
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    given = {"Authorization": f"Basic {basic}", **(headers or {})}
    try:
        connection.request(
            method,
            "/?" + urlencode(parameters),
            body=sql.encode() if isinstance(sql, str) else sql,
            headers={name: value for name, value in given.items() if value},
        )
        response = connection.getresponse()
        return Answered(response.status, response.headers, response.read())
    finally:
        connection.close()
