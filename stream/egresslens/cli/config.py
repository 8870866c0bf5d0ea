"""`egresslens config`: the effective settings."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from egresslens.settings import PREFIX, Settings, load


@click.command()
@click.option("--file", type=click.Path(path_type=Path), help="TOML file to read.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--describe", is_flag=True, help="Every setting: its variable, its default and what it means.")
def command(file: Path | None, as_json: bool, describe: bool) -> None:
    """Print the effective settings, secrets masked."""
    if describe:
        for name, field in Settings.model_fields.items():
            click.secho(PREFIX + name.upper(), bold=True, nl=False)
            click.echo(f"  (default: {field.get_default()!r})\n    {field.description}")
        return
    masked = load(file=file).masked()
    if as_json:
        click.echo(orjson.dumps(masked, option=orjson.OPT_INDENT_2))
        return
    for name, value in masked.items():
        click.echo(f"{name} = {value if value is not None else ''}")
