"""`egresslens store`: the embedded ClickHouse engine over HTTP."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from egresslens.cli import EX_UNAVAILABLE
from egresslens.settings import load
from egresslens.store.engine import StoreUnavailableError
from egresslens.store.serve import serve


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the store; one process owns it.  [default: EGRESSLENS_DATA_DIR/store]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8123, show_default=True, help="0 picks a free one."
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Host name clients may use, beside the loopback's.",
)
@click.option("--with-parent", is_flag=True, hidden=True, help="Stop when standard input closes.")
def command(folder: Path | None, host: str, port: int, hosts: tuple[str, ...], with_parent: bool) -> None:
    """Serve the embedded ClickHouse engine over ClickHouse's HTTP interface.

    Every request needs a password: the writer's or the reader's, made at the first start and kept in
    writer.password and reader.password (mode 0600) in the folder. So listening beyond the loopback with
    --host is possible; there is no TLS, so put a proxy that has it in front. Clients must then name the
    store by its address or by a name given with --allow-host.

    Exit codes: 0 after Ctrl-C or SIGTERM, 69 if the store cannot start
    (the folder belongs to another store, the port is taken, chdb is not installed).
    """
    try:
        folder = (folder or load().data_dir / "store").absolute()
        serve(folder, host, port, hosts, with_parent=with_parent, announce=click.echo)
    except StoreUnavailableError as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(EX_UNAVAILABLE)
