"""Custom formats: operators' own Envoy format strings, compiled into columnar parsers.

A format is a text or a JSON object, as Envoy and Istio take them. Several may be active; their order is their
priority. They are tried before the default layouts, and a line is of a format only if all of it fits.
"""

from __future__ import annotations

from functools import lru_cache

import orjson
import polars as pl

from egresslens.parse.stage import Stage
from egresslens.parse.template import fields
from egresslens.parse.template.grammar import FormatError
from egresslens.parse.template.json_objects import JsonFormat, json_format
from egresslens.parse.template.slots import slots_of
from egresslens.parse.template.texts import TextFormat, stripped, text_format
from egresslens.parse.values import typed
from egresslens.rules import Rules

__all__ = [
    "CustomFormat",
    "FormatError",
    "JsonFormat",
    "TextFormat",
    "compiled",
    "fields_of",
    "read_objects",
    "read_texts",
    "reads_objects",
]


CustomFormat = TextFormat | JsonFormat


@lru_cache(maxsize=64)
def compiled(sources: tuple[str, ...]) -> tuple[CustomFormat, ...]:
    """Compile format strings, in order of priority; the n-th one's records carry `custom_n` as their format.

    Raises:
        FormatError: one cannot be read back.
    """
    return tuple(_compile(f"custom_{number}", source) for number, source in enumerate(sources, 1))


def fields_of(one: CustomFormat) -> frozenset[str]:
    """The fields that records of a format can have: TEXT_FIELDS and source_*."""
    return frozenset({*fields.expressions(one.reads), *fields.sources(one.reads)})


def _compile(name: str, source: str) -> CustomFormat:
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
    texts = [one for one in compiled(rules.log_format) if isinstance(one, TextFormat)]
    for text in texts:
        # Their order is their priority: none is tried before one that has to wait.
        if lines.is_empty() or (prefixed and not text.rooted):
            break
        rows, lines = text.read(lines)
        stage += typed(rows, rules)
    return stage, lines


def reads_objects(rules: Rules) -> bool:
    """Whether a JSON format is active."""
    return any(isinstance(one, JsonFormat) for one in compiled(rules.log_format))


def read_objects(lines: pl.DataFrame, rules: Rules) -> tuple[Stage, pl.DataFrame]:
    """Read lines (LINES) that begin with `{` and are of JSON formats; the others come back unchanged."""
    stage = Stage()
    for one in compiled(rules.log_format):
        if lines.is_empty():
            break
        if isinstance(one, TextFormat):
            continue
        rows, lines, filtered = one.read(lines)
        stage += filtered + typed(rows, rules)
    return stage, lines
