"""`egresslens console`: the web page and the JSON API."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import click

from egresslens.cli import EX_UNAVAILABLE
from egresslens.settings import Settings, load


@click.command()
@click.option("--host", help="Address to listen on.  [default: EGRESSLENS_CONSOLE_HOST]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port; 0 picks a free one.  [default: EGRESSLENS_CONSOLE_PORT]",
)
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings.")
def command(host: str | None, port: int | None, config: Path | None) -> None:
    """Serve the web page and the JSON API under /api/v1, over what is stored, read-only.

    On the loopback, nobody needs to log in. Beyond it, the console starts only with a password file
    (EGRESSLENS_CONSOLE_PASSWORD_FILE), or behind a reverse proxy that logs people in
    (EGRESSLENS_CONSOLE_USER_HEADER with EGRESSLENS_CONSOLE_PROXIES). /api/v1/openapi.json describes the API.

    Exit codes: 0 after Ctrl-C or SIGTERM, 69 the port is taken, 78 the settings cannot be used.
    """
    # Importing the answers takes a second, which --help need not wait for.
    from egresslens.cli.worker import log_to_stderr  # noqa: PLC0415
    from egresslens.console.app import serve  # noqa: PLC0415

    given = {"console_host": host, "console_port": port}
    chosen = {name: value for name, value in given.items() if value is not None}
    settings = Settings.model_validate({**load(file=config).model_dump(), **chosen})
    log_to_stderr(settings.log_level.upper())
    # What they say is answered or logged by the console, once; theirs holds statements, and with them values.
    for name in ("clickhouse_connect", "kafka"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        asyncio.run(serve(settings, lambda url: click.echo(f"console at {url}")))
    except OSError as error:
        click.secho(
            f"cannot listen on {settings.console_host}:{settings.console_port}: {error}", fg="red", err=True
        )
        sys.exit(EX_UNAVAILABLE)
