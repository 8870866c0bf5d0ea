"""The command line. One file per command; a command's module is imported when it is called."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Final

import click

from egresslens import __version__
from egresslens.settings import SettingsError

# Command -> what `egresslens --help` says of it. The module is `egresslens.cli.<command>`, its function
# `command` (a click command).
COMMANDS: Final[dict[str, str]] = {
    "advise": "Print the ServiceEntries and Sidecars that would allow what was seen.",
    "alerts": "Watch for incidents, tell who should know, list and try them.",
    "analyze": "Answer from log files, without any server.",
    "config": "Print the effective settings, secrets masked.",
    "console": "Serve the web page and the JSON API, read-only.",
    "demo": "Run real traffic through the whole pipeline and print the answers.",
    "dlq": "List, show and replay what could not be read.",
    "doctor": "Look at every part of a deployment, and say how to mend what is wrong.",
    "events": "Search single records, and follow those that come in.",
    "explain": "Say how one line was parsed and what labelled it.",
    "formats": "Say which layouts a log file holds, and what could not be read.",
    "kafka": "Start Apache Kafka on this machine, for trying and testing.",
    "migrate": "Bring ClickHouse's tables and views to this version.",
    "parse": "Print one JSON object per record of a log file.",
    "purge": "Remove what should never have been stored, from every table.",
    "reconcile": "Prove that nothing was lost and nothing counts twice.",
    "registry": "Keep what people declare about the mesh: ServiceEntries, pods, regions.",
    "report": "Print who calls what: external, databases, regions, blocked, new, modes, coverage.",
    "ship": "Follow log files into Kafka.",
    "sql": "Ask in SQL, read-only.",
    "store": "Serve the embedded ClickHouse engine over HTTP.",
    "whatif": "Say what REGISTRY_ONLY would have blocked.",
    "worker": "Run the stream: Kafka to ClickHouse.",
}

# Exit codes (sysexits.h): what a supervisor or a script can act on.
EX_USAGE: Final = 64
EX_DATAERR: Final = 65
EX_NOINPUT: Final = 66
EX_UNAVAILABLE: Final = 69
EX_TEMPFAIL: Final = 75
EX_CONFIG: Final = 78


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"egresslens.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="egresslens")
def cli() -> None:
    """What leaves your service mesh, from which workload, to where, and was it allowed.

    Settings come from EGRESSLENS_… variables and an optional TOML file (EGRESSLENS_CONFIG_FILE);
    `egresslens config --describe` lists them.
    """


def main() -> None:
    """Run the command line; a setting that cannot be used ends it with exit code 78."""
    # Commands say themselves, and once, what a server answers; these would print it a second time.
    for client in ("aiokafka", "clickhouse_connect", "kafka"):
        logging.getLogger(client).addHandler(logging.NullHandler())
    try:
        cli()
    except BrokenPipeError:
        raise
    except OSError as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(EX_NOINPUT if error.filename else EX_UNAVAILABLE)
    except SettingsError as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(EX_CONFIG)
