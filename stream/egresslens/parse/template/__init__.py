"""Custom formats: operators' own Envoy format strings, compiled into columnar parsers.

A format is a text or a JSON object, as Envoy and Istio take them. Several may be active; their order is their
priority. They are tried before the default layouts, and a line is of a format only if all of it fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import orjson
import polars as pl

from egresslens.parse.stage import Stage
from egresslens.parse.template.grammar import FormatError
from egresslens.parse.template.json_objects import JsonFormat, json_format
from egresslens.parse.template.slots import slots_of
from egresslens.parse.template.texts import TextFormat, stripped, text_format
from egresslens.parse.values import typed
from egresslens.rules import Rules

__all__ = ["FormatError", "Formats", "JsonFormat", "TextFormat", "compiled", "read_objects", "read_texts"]


@dataclass(frozen=True)
class Formats:
    """The active custom formats, in order of priority."""

    texts: tuple[TextFormat, ...]
    objects: tuple[JsonFormat, ...]


@lru_cache(maxsize=64)
def compiled(sources: tuple[str, ...]) -> Formats:
    """Compile format strings; the n-th one's records carry `custom_n` as their format.

    Raises:
        FormatError: one cannot be read back.
    """
    formats = [_compile(f"custom_{number}", source) for number, source in enumerate(sources, 1)]
    return Formats(
        tuple(one for one in formats if isinstance(one, TextFormat)),
        tuple(one for one in formats if isinstance(one, JsonFormat)),
    )


def _compile(name: str, source: str) -> TextFormat | JsonFormat:
    try:
        template = orjson.loads(source)
    except orjson.JSONDecodeError:
        template = None
    if isinstance(template, dict):
        return json_format(name, source, template)
    text = text_format(name, source)
    if not slots_of(text.pattern.pieces):
        raise FormatError(
            "a format needs a command operator, such as %START_TIME%", stripped(source) or " ", 0
        )
    return text


def read_texts(lines: pl.DataFrame, rules: Rules, *, prefixed: bool) -> tuple[Stage, pl.DataFrame]:
    """Read lines (LINES) of text formats; the other lines come back unchanged.

    Args:
        lines: the lines.
        rules: name the formats.
        prefixed: whether a container runtime's prefix may stand before a line. Then only formats are tried
            that tell where they begin: what looks like a prefix may be theirs.
    """
    stage = Stage()
    for text in compiled(rules.log_format).texts:
        # Their order is their priority: none is tried before one that has to wait.
        if lines.is_empty() or (prefixed and not text.rooted):
            break
        rows, lines = text.read(lines)
        stage += typed(rows, rules)
    return stage, lines


def read_objects(lines: pl.DataFrame, rules: Rules) -> tuple[Stage, pl.DataFrame]:
    """Read lines (LINES) that begin with `{` and are of JSON formats; the others come back unchanged."""
    stage = Stage()
    for one in compiled(rules.log_format).objects:
        if lines.is_empty():
            break
        rows, lines, filtered = one.read(lines)
        stage += filtered + typed(rows, rules)
    return stage, lines
