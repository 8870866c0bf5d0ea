"""`egresslens formats`: which layouts a file holds, and what could not be read."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import click
import orjson
import polars as pl
from pydantic import ValidationError
from rich.text import Text

from egresslens.cli.reading import CutOff, read
from egresslens.cli.tables import console, print_table
from egresslens.parse import parse, template
from egresslens.rules import Rules
from egresslens.settings import load
from egresslens.text import ascii_json, visible

# An example is there to be recognised, not to be read to its end.
_EXAMPLE_CHARS: Final = 160
EXIT_NONE_FITS: Final = 1


@dataclass
class Census:
    """What the lines of a file became."""

    lines: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    records: Counter[str] = field(default_factory=Counter)
    damages: Counter[tuple[str, str]] = field(default_factory=Counter)
    rejects: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    filtered: Counter[str] = field(default_factory=Counter)
    examples: dict[tuple[str, str | None], tuple[int, str]] = field(default_factory=dict)

    def add(self, chunk: Sequence[bytes], rules: Rules) -> None:
        """Count a chunk of lines."""
        parsed = parse(chunk, rules)
        by_format = parsed.records.group_by("format").agg(pl.col("message").n_unique(), pl.len().alias("all"))
        for name, lines, records in by_format.iter_rows():
            self.formats[name] += lines
            self.records[name] += records
        damaged = parsed.records.filter(pl.col("damage").is_not_null())
        self.damages.update(damaged.select("format", "damage").iter_rows())
        self.filtered.update(parsed.filtered["reason"])
        for message, reason, name in parsed.rejects.select("message", "reason", "field").iter_rows():
            self.rejects[reason, name] += 1
            if (reason, name) not in self.examples:
                text = chunk[message][: 4 * _EXAMPLE_CHARS].decode("utf-8", "replace")
                self.examples[reason, name] = (self.lines + message + 1, _short(visible(text)))
        self.lines += len(chunk)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of the three tables, the most frequent first."""
        damages = {name: Counter[str]() for name in self.formats}
        for (name, damage), count in self.damages.items():
            damages[name][damage] += count
        return {
            "formats": [
                {
                    "format": name,
                    "lines": lines,
                    "records": self.records[name],
                    "forgiven": dict(damages[name].most_common()),
                }
                for name, lines in self.formats.most_common()
            ],
            "rejected": [
                {
                    "reason": reason,
                    "field": name,
                    "count": count,
                    "first_line": self.examples[reason, name][0],
                    "example": self.examples[reason, name][1],
                }
                for (reason, name), count in self.rejects.most_common()
            ],
            "filtered": [{"reason": reason, "count": count} for reason, count in self.filtered.most_common()],
        }


def _short(text: str) -> str:
    return text if len(text) <= _EXAMPLE_CHARS else text[: _EXAMPLE_CHARS - 1] + "…"


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--try",
    "tried",
    multiple=True,
    metavar="FORMAT",
    help="Read with this format instead of the configured ones; may be given several times.",
)
@click.option(
    "--format", "shape", type=click.Choice(["table", "json"]), default="table", help="How to print."
)
def command(file: str, tried: tuple[str, ...], shape: Literal["table", "json"]) -> None:
    r"""Say which layouts FILE holds (`-` reads standard input; gzip and zstd as well).

    How many lines each layout has, which lines could not be read and why, each with an example, and what
    was left out on purpose. With --try, a format string (Envoy's or Istio's `accessLogFormat`, text or
    JSON) is tested on real lines before it goes into EGRESSLENS_LOG_FORMAT.

    \b
    Exit codes: 0, 1 if no line is of a format given with --try, 65 a compressed file is damaged or cut off.
    """
    rules = _trying(load().rules, tried)
    census = Census()
    cut_off: CutOff | None = None
    try:
        for _, chunk in read([file]):
            census.add(chunk, rules)
    except CutOff as error:
        cut_off = error
    if not census.lines:
        if cut_off:
            raise cut_off
        raise click.ClickException("nothing to read: the input is empty")
    customs = [_custom(one) for one in template.compiled(rules.log_format)]
    if shape == "json":
        found = {"lines": census.lines, **census.tables(), "custom_formats": customs}
        click.echo(ascii_json(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()))
    else:
        _print(census, customs)
    if cut_off:
        raise cut_off
    if tried and not any(name.startswith("custom_") for name in census.formats):
        sys.exit(EXIT_NONE_FITS)


def _trying(rules: Rules, tried: tuple[str, ...]) -> Rules:
    if not tried:
        return rules
    try:
        return Rules.model_validate({**rules.model_dump(), "log_format": tried})
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise click.BadParameter(problem, param_hint="--try") from None


def _custom(one: template.CustomFormat) -> dict[str, Any]:
    """What a custom format tells, and which of its operators are read over."""
    reads = template.fields_of(one)
    return {
        "format": one.name,
        "fields": sorted(reads),
        "read_over": [str(read.operator) for read in one.reads if read.meaning.target is None],
        "labels": "upstream_cluster" in reads or "route_name" in reads,
    }


def _print(census: Census, customs: list[dict[str, Any]]) -> None:
    out = console()
    tables = census.tables()
    for row in tables["formats"]:
        row["forgiven"] = [f"{damage} {count}" for damage, count in row["forgiven"].items()]
    columns: dict[str, dict[str, pl.DataType]] = {
        "formats": {
            "format": pl.String(),
            "lines": pl.Int64(),
            "records": pl.Int64(),
            "forgiven": pl.List(pl.String()),
        },
        "rejected": {
            "reason": pl.String(),
            "field": pl.String(),
            "count": pl.Int64(),
            "first_line": pl.Int64(),
            "example": pl.String(),
        },
        "filtered": {"reason": pl.String(), "count": pl.Int64()},
    }
    titles = {"formats": "Layouts", "rejected": "Could not be read", "filtered": "Left out on purpose"}
    for name, title in titles.items():
        print_table(pl.DataFrame(tables[name], schema=columns[name], orient="row"), title, out)
    for custom in customs:
        out.print(Text(f"{custom['format']} tells {', '.join(custom['fields']) or 'nothing'}", style="dim"))
        if custom["read_over"]:
            over = visible(" ".join(custom["read_over"]))
            out.print(Text(f"{custom['format']} reads over {over}", style="dim"))
        if not custom["labels"]:
            warning = (
                f"{custom['format']} has neither %UPSTREAM_CLUSTER% nor %ROUTE_NAME%: "
                "nothing tells what became of a call"
            )
            out.print(Text(warning, style="yellow"))
    out.print(f"{census.lines:,} lines")
