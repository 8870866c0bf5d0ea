"""Holds commands written elsewhere (compose files, charts) against the command line, without running them."""

from __future__ import annotations

import click

from egresslens.cli import cli


def parsed(arguments: list[str]) -> click.Context:
    """Have the command line read the arguments of a command, and run nothing.

    Raises:
        click.UsageError: there is no such command, option or value.
    """
    name, command, rest = "egresslens", cli, list(arguments)
    context = click.Context(cli)
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(context, rest)
        context = click.Context(command, parent=context)
    return command.make_context(name, rest)
