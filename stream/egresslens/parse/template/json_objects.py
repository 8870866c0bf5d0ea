"""JSON formats: `accessLogFormat` with JSON encoding, `logFormat.labels`.

Keys are the operator's own, in any order, and may nest. Envoy prints a value of one operator alone with its
type (or as text, before Istio 1.8) and anything mixed as text; with `omit_empty_values` keys go missing.

The same text may also be an `accessLogFormat` with TEXT encoding, where nothing is escaped: such lines are
read as text wherever they are no JSON, or hold a key twice, which is how a forged value would look.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import orjson
import polars as pl

from egresslens.parse import envelopes, ndjson
from egresslens.parse.damage import Damage
from egresslens.parse.ndjson import KEY
from egresslens.parse.stage import LINES, Stage
from egresslens.parse.template.fields import Read
from egresslens.parse.template.grammar import FormatError
from egresslens.parse.template.operators import ALWAYS
from egresslens.parse.template.pattern import Pattern
from egresslens.parse.template.slots import Slot, slots_of
from egresslens.parse.template.texts import TextFormat, named, pattern, reads, stripped, text_format


class Leaf(NamedTuple):
    """A value of the template: where it is, and what it is."""

    path: tuple[str | int, ...]
    pattern: Pattern

    @property
    def single(self) -> Slot | None:
        """The slot of a value that is one operator and nothing else."""
        first = self.pattern.pieces[0]
        return first if len(self.pattern.pieces) == 1 and isinstance(first, Slot) else None

    @property
    def constant(self) -> str | None:
        """A value without operators."""
        return None if slots_of(self.pattern.pieces) else "".join(map(str, self.pattern.pieces))

    @property
    def always(self) -> bool:
        """Whether every record has it."""
        return self.single is None or self.single.operator.name in ALWAYS


@dataclass(frozen=True)
class JsonFormat:
    """A compiled JSON format; `name` is what records of it carry as `format`."""

    name: str
    template: Mapping[str, Any]
    leaves: tuple[Leaf, ...]
    text: TextFormat | None

    @cached_property
    def schema(self) -> dict[str, pl.DataType]:
        """Types of the top-level keys."""
        return {key: _dtype(value) for key, value in self.template.items()}

    @cached_property
    def reads(self) -> list[Read]:
        """Its operators, with their columns."""
        return [read for leaf in self.leaves for read in reads(slots_of(leaf.pattern.pieces))]

    @cached_property
    def keys(self) -> list[str]:
        """Every key of the template, as often as it occurs."""
        return list(_keys(self.template))

    @cached_property
    def looks_like(self) -> pl.Expr:
        """Whether a text has the keys that every record has; a quick look only."""
        keys = {leaf.path[-1] for leaf in self.leaves if leaf.always and isinstance(leaf.path[-1], str)}
        plain = [key for key in keys if isinstance(key, str) and key.isascii() and key.isprintable()]
        return pl.all_horizontal(
            pl.lit(value=True), *(pl.col("text").str.contains(_quoted(key), literal=True) for key in plain)
        )

    def read(self, lines: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, Stage]:
        """Split lines into those of this format and the others.

        Args:
            lines: LINES that begin with `{`.

        Returns:
            (what `values.typed` takes, the other lines, what was filtered)
        """
        similar = lines.select(self.looks_like).to_series()
        if not similar.any():
            return pl.DataFrame(), lines, Stage()
        others = [lines.filter(~similar)]
        lines, stage = _sent(lines.filter(similar))
        found: list[pl.DataFrame] = []
        twice = lines["text"].str.count_matches(self._any_key) > len(self.keys)
        rows, repeated = self._as_text(lines.filter(twice))
        found.append(rows)
        for chosen, damage in ((lines.filter(~twice), None), (repeated, Damage.REPEATED_KEYS.value)):
            if chosen.is_empty():
                continue
            objects, broken = ndjson.read(chosen, self.schema)
            rows, unlike = self._match(objects)
            found.append(named(rows.with_columns(pl.lit(damage).alias("damage")), self.reads, self.name))
            rows, broken = self._as_text(broken)
            found.append(rows)
            others += [broken, unlike.select(list(LINES))]
        full = [rows for rows in found if rows.height]
        return pl.concat(full, how="diagonal") if full else pl.DataFrame(), pl.concat(others), stage

    def _as_text(self, lines: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Lines of this format that are not JSON-encoded; the others."""
        return self.text.read(lines) if self.text and lines.height else (pl.DataFrame(), lines)

    @cached_property
    def _any_key(self) -> str:
        return "(?:" + "|".join(re.escape(_quoted(key)) for key in sorted(set(self.keys))) + r")\s*:"

    def _match(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Rows of this template, with a column per wanted slot; the others."""
        values = {leaf: _value(leaf.path, self.template) for leaf in self.leaves}
        tests = [
            values[leaf].is_not_null() if leaf.constant is None else values[leaf] == leaf.constant
            for leaf in self.leaves
            if leaf.always
        ] or [pl.any_horizontal(value.is_not_null() for value in values.values())]
        fits = rows.select(pl.all_horizontal(tests).fill_null(value=False)).to_series()
        others = rows.filter(~fits)
        rows = rows.filter(fits).with_columns(
            values[leaf].alias(leaf.single.column)
            for leaf in self.leaves
            if leaf.single and leaf.single.wanted
        )
        for leaf in self.leaves:
            if leaf.single or leaf.constant is not None:
                continue
            rows = rows.with_columns(values[leaf].alias("@"))
            rows, unlike = leaf.pattern.read(rows, "@")
            rows = rows.drop("@", "damage")
            others = pl.concat([others, unlike.select(others.columns)])
        return rows, others


def json_format(name: str, source: str, template: Mapping[str, Any]) -> JsonFormat:
    """Compile a JSON format.

    Raises:
        FormatError: a value cannot be read back.
    """
    leaves: list[Leaf] = []
    slots = 0
    for path, value in _leaves(template):
        try:
            compiled = pattern(value, slots)
        except FormatError as error:
            # The caret of a value's own text; its place is its key.
            raise FormatError(f"{'.'.join(map(str, path))}: {error.problem}", value, error.position) from None
        slots += len(slots_of(compiled.pieces))
        leaves.append(Leaf(path, compiled))
    if not slots:
        raise FormatError("a JSON format needs a value with a command operator", source, 0)
    try:
        # Objects that are written over several lines come with their line breaks as spaces.
        text = text_format(name, re.sub("[\r\n]", " ", stripped(source)))
    except FormatError:
        text = None
    return JsonFormat(name, template, tuple(leaves), text)


def _sent(lines: pl.DataFrame) -> tuple[pl.DataFrame, Stage]:
    """Lines, with what a shipper tells of the pod where it put the record's keys beside its own."""
    beside = lines["text"].str.contains('"kubernetes":', literal=True)
    if not beside.any():
        return lines, Stage()
    rows, broken = ndjson.read(lines.filter(beside), ndjson.texts(envelopes.COMMON_KEYS))
    told, stage = envelopes.beside(rows)
    return pl.concat([lines.filter(~beside), broken, told]), stage


def _leaves(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Texts and numbers of a template; lists of objects are not looked into."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        if _is_flat(value):
            for index, inner in enumerate(value):
                yield from _leaves(inner, (*path, index))
    elif isinstance(value, str) and value:
        yield path, value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, orjson.dumps(value).decode()


def _keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)


def _is_flat(value: list[Any]) -> bool:
    return not any(isinstance(inner, dict | list) for inner in value)


def _dtype(value: object) -> pl.DataType:
    if isinstance(value, dict) and value:
        return pl.Struct({key: _dtype(inner) for key, inner in value.items()})
    if isinstance(value, list) and value and _is_flat(value):
        return pl.List(pl.String())
    return pl.String()


def _value(path: tuple[str | int, ...], template: Mapping[str, Any]) -> pl.Expr:
    """The value at a path. A list that has lost elements (omit_empty_values) has no known order any more."""
    found, inner = pl.col(f"{KEY}{path[0]}"), template[path[0]]  # type: ignore[index]
    for step in path[1:]:
        if isinstance(step, str):
            found = found.struct.field(step)
        else:
            found = pl.when(found.list.len() == len(inner)).then(found.list.get(step, null_on_oob=True))
        inner = inner[step]
    return found


def _quoted(key: str) -> str:
    return orjson.dumps(key).decode()
