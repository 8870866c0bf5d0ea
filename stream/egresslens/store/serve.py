"""Run the store in the foreground until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from aiohttp import web

from egresslens.store.engine import Engine, Limits, StoreUnavailableError
from egresslens.store.passwords import ACCOUNTS, load_or_create, password_file
from egresslens.store.server import Server

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# Requests under way get this long after SIGTERM; all of the shutdown takes less than 10 s.
GRACE_S: Final = 5.0


def serve(
    folder: Path,
    host: str,
    port: int,
    hosts: Iterable[str],
    *,
    with_parent: bool,
    announce: Callable[[str], object],
) -> None:
    """Serve `folder` until SIGINT or SIGTERM (`with_parent`: or until standard input closes).

    `announce` gets the lines that say where and how to connect.

    Raises:
        StoreUnavailableError: the store cannot start.
    """
    limits = Limits()
    engine = Engine(folder, limits)
    try:
        passwords = load_or_create(folder)
    except OSError as error:
        engine.close()
        raise StoreUnavailableError(str(error)) from error
    allowed = LOOPBACK_NAMES | {name.lower() for name in hosts} | ({host.lower()} - {"0.0.0.0", "::"})  # noqa: S104
    try:
        asyncio.run(
            _run(Server(engine, passwords, allowed, limits), folder, host, port, with_parent, announce)
        )
    except OSError as error:
        engine.close()
        raise StoreUnavailableError(f"cannot listen on {host}:{port}: {error}") from error
    engine.close()


async def _run(
    server: Server, folder: Path, host: str, port: int, with_parent: bool, announce: Callable[[str], object]
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if with_parent:
        loop.add_reader(sys.stdin, stop.set)
    runner = web.AppRunner(
        server.app(), auto_decompress=False, access_log=None, shutdown_timeout=GRACE_S, read_bufsize=2**20
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        announce(f"store listening on {_url(runner, host)}")
        for account in ACCOUNTS:
            announce(f"{account} password in {password_file(folder, account)}")
        await stop.wait()
    finally:
        await runner.cleanup()


def _url(runner: web.AppRunner, host: str) -> str:
    port = runner.addresses[0][1]
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"
