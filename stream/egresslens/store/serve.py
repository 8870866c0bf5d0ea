"""Run the store in the foreground until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import web

from egresslens.store.engine import Engine, Limits, StoreUnavailableError
from egresslens.store.passwords import ACCOUNTS, load_or_create, password_file
from egresslens.store.server import Hosts, Server

log = logging.getLogger(__name__)
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# After SIGTERM, requests under way get this long to end by themselves, and the process to end.
GRACE_S: Final = 3.0
DEADLINE_S: Final = 5.0


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
        # Where a relative name of a file would be looked for: an empty folder.
        os.chdir(folder / "files")
        server = Server(engine, load_or_create(folder), _hosts(host, hosts), limits)
        asyncio.run(_run(server, folder, Address(host, port), with_parent=with_parent, announce=announce))
    except OSError as error:
        engine.close()
        raise StoreUnavailableError(f"the store cannot use {folder} or {host}:{port}: {error}") from error
    server.close()
    engine.close()


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int


async def _run(
    server: Server, folder: Path, address: Address, *, with_parent: bool, announce: Callable[[str], object]
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
        await web.TCPSite(runner, address.host, address.port).start()
        announce(f"store listening on {_url(runner, address.host)}")
        for account in ACCOUNTS:
            announce(f"{account} password in {password_file(folder, account)}")
        await stop.wait()
        loop.call_later(DEADLINE_S, _leave)
    finally:
        await runner.cleanup()


def _leave() -> None:
    """End the process with threads in the engine: they cannot be stopped, nor the engine closed under them.

    What has been acknowledged is on disk: a kill at any moment loses nothing of it.
    """
    log.warning("stopped with requests unanswered")
    logging.shutdown()
    os._exit(0)


def _hosts(host: str, others: Iterable[str]) -> Hosts:
    wildcard = host in ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
    names = LOOPBACK_NAMES | {name.lower() for name in others} | {host.lower()}
    return Hosts(names, addresses=wildcard)


def _url(runner: web.AppRunner, host: str) -> str:
    port = runner.addresses[0][1]
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"
