"""strftime as Envoy prints times: what such a text looks like, and how to read it column by column.

Envoy takes strftime's conversions and adds `%s` (epoch seconds) and `%f`, `%1f` to `%9f` (digits of the
fraction, 9 by default). Times are UTC; `*_LOCAL` ones are in the proxy's zone, and without `%z` they are
taken for UTC, in which Istio's containers run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import polars as pl

from egresslens.parse.template.grammar import Operator

# What %START_TIME% prints without arguments: 2026-01-02T03:04:05.678Z.
DEFAULT: Final = "%Y-%m-%dT%H:%M:%S.%3fZ"
_LOCAL_DEFAULT: Final = "%Y-%m-%dT%H:%M:%S.%3f%z"

_SHORTHAND: Final = {
    "%": "%%", "D": "%m/%d/%y", "F": "%Y-%m-%d", "R": "%H:%M", "T": "%H:%M:%S", "c": "%a %b %e %H:%M:%S %Y",
    "h": "%b", "n": "\n", "r": "%I:%M:%S %p", "t": "\t", "x": "%m/%d/%y", "X": "%H:%M:%S",
}  # fmt: skip
_NAME: Final = "[A-Za-z]+"
# Conversion -> pattern of what it prints. Only `e`, `k` and `l` print a space, to pad.
_PRINTS: Final = {
    "Y": "[0-9]{4}", "m": "[0-9]{2}", "d": "[0-9]{2}", "H": "[0-9]{2}", "M": "[0-9]{2}", "S": "[0-9]{2}",
    "y": "[0-9]{2}", "I": "[0-9]{2}", "j": "[0-9]{3}", "e": "[ 0-9][0-9]", "k": "[ 0-9][0-9]",
    "l": "[ 0-9][0-9]", "s": "[0-9]{1,11}", "b": _NAME, "B": _NAME, "a": _NAME, "A": _NAME, "p": "[AaPp][Mm]",
    "z": "[+-][0-9]{4}", ":z": "[+-][0-9]{2}:[0-9]{2}", "Z": "[A-Za-z]+|[+-][0-9]{2}",
    "u": "[1-7]", "w": "[0-6]",
    "U": "[0-9]{2}", "W": "[0-9]{2}", "V": "[0-9]{2}", "G": "[0-9]{4}", "g": "[0-9]{2}", "C": "[0-9]{2}",
    "P": "[ap]m", "%": "%",
}  # fmt: skip
_PADDED: Final = frozenset("ekl")
# Conversions that say nothing more, or that chrono does not read: any text of their shape is skipped.
_SKIPPED: Final = frozenset("aAuwUWVGgC")
_CONVERSION: Final = re.compile(r"%(?:([0-9])f|(:z|[A-Za-z%]))")
# absl::FormatTime's own: seconds and fractions of n digits, an offset with a colon, a year of four digits.
_EXTENDED: Final = (
    (re.compile("%E([0-9])S"), r"%S.%\1f"), (re.compile("%E([0-9])f"), r"%\1f"), (re.compile("%Ez"), "%:z"),
    (re.compile("%E4Y"), "%Y"), (re.compile("%ET"), "T"),
)  # fmt: skip
_DAY: Final = ({"Y", "m", "d"}, {"Y", "j"}, {"Y", "b", "d"}, {"Y", "b", "e"}, {"Y", "m", "e"},
               {"Y", "B", "d"}, {"Y", "B", "e"}, {"y", "m", "d"}, {"y", "b", "d"}, {"s"})  # fmt: skip


@dataclass(frozen=True)
class Time:
    """A strftime format, its shorthands spelt out."""

    format: str

    @classmethod
    def of(cls, operator: Operator) -> Time:
        """Read an operator's arguments; none means Envoy's default."""
        source = operator.args or (_LOCAL_DEFAULT if operator.name.endswith("_LOCAL") else DEFAULT)
        for pattern, plain in _EXTENDED:
            source = pattern.sub(plain, source)
        return cls(re.sub("%([%DFRTchnrtxX])", lambda match: _SHORTHAND[match[1]], source))

    @cached_property
    def _parts(self) -> tuple[tuple[str, str], ...]:
        """(conversion, text): the text of a literal has the conversion ``; a fraction has its digits."""
        parts: list[tuple[str, str]] = []
        at = 0
        for match in _CONVERSION.finditer(self.format):
            if match.start() > at:
                parts.append(("", self.format[at : match.start()]))
            parts.append(("f", match[1]) if match[1] else (match[2], "9" if match[2] == "f" else ""))
            at = match.end()
        if at < len(self.format):
            parts.append(("", self.format[at:]))
        return tuple(parts)

    @cached_property
    def pattern(self) -> str:
        """Regular expression of what it prints (no groups)."""
        return "".join(f"(?:{_shape(conversion, text)})" for conversion, text in self._parts)

    @cached_property
    def readable(self) -> bool:
        """Whether it says which moment it was, in a way that can be read."""
        given = {conversion for conversion, _ in self._parts if conversion}
        if not any(day <= given for day in _DAY) or not given <= {*_PRINTS, "f"}:
            return False
        try:
            pl.select(self.iso(pl.lit("")))
        except pl.exceptions.PolarsError:
            # Polars reads no hour without a minute, for one.
            return False
        return True

    def count(self, delimiter: str) -> int | None:
        """How often it prints `delimiter`, or None where that varies."""
        if delimiter == " " and any(conversion in _PADDED for conversion, _ in self._parts):
            return None
        if delimiter.isalnum() or delimiter in "+-%" or (delimiter == ":" and "%:z" in self.format):
            return None
        return sum(text.count(delimiter) for conversion, text in self._parts if not conversion)

    def fits(self, text: pl.Expr) -> pl.Expr:
        """Whether a text looks like it."""
        if self.format == DEFAULT:
            return (text.str.len_bytes() == 24) & text.str.ends_with("Z")
        return text.str.contains(rf"\A{self.pattern}\z")

    def iso(self, text: pl.Expr) -> pl.Expr:
        """The time as RFC 3339 text of milliseconds; what cannot be read stays as it is."""
        if self.format == DEFAULT:
            return text
        moment = self._epoch(text) if any(part[0] == "s" for part in self._parts) else self._calendar(text)
        return pl.coalesce(rfc3339(moment), text)

    def _epoch(self, text: pl.Expr) -> pl.Expr:
        seconds = text.str.extract(self._grouped("s")).cast(pl.Int64, strict=False)
        return (seconds * 1000 + self._millis(text)).cast(pl.Datetime("ms"), strict=False)

    def _calendar(self, text: pl.Expr) -> pl.Expr:
        """Read with chrono, the fraction apart (chrono reads 3, 6 and 9 digits only)."""
        chrono, shape = "", ""
        keeps: list[str] = []
        for conversion, part in self._parts:
            pattern = _shape(conversion, part)
            if conversion == "f" or conversion in _SKIPPED:
                shape += f"(?:{pattern})"
            else:
                shape += f"({pattern})"
                keeps.append(f"${{{len(keeps) + 1}}}")
                chrono += part.replace("%", "%%") if not conversion else f"%{conversion}"
        if len(keeps) < len(self._parts):
            text_kept = text.str.replace(rf"\A{shape}\z", "".join(keeps))
        else:
            text_kept = text
        moment = text_kept.str.to_datetime(chrono, time_unit="ms", strict=False)
        if "z" in {conversion[-1:] for conversion, _ in self._parts}:
            moment = moment.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return moment + pl.duration(milliseconds=self._millis(text))

    def _millis(self, text: pl.Expr) -> pl.Expr:
        if not any(part[0] == "f" for part in self._parts):
            return pl.lit(0, pl.Int64)
        digits = text.str.extract(self._grouped("f"))
        return digits.str.slice(0, 3).str.pad_end(3, "0").cast(pl.Int64, strict=False)

    def _grouped(self, wanted: str) -> str:
        """The whole pattern, anchored, with one group: the first `wanted` conversion."""
        pattern, found = "", False
        for conversion, text in self._parts:
            capture = conversion == wanted and not found
            found |= capture
            pattern += f"({_shape(conversion, text)})" if capture else f"(?:{_shape(conversion, text)})"
        return rf"\A{pattern}\z"


def _shape(conversion: str, text: str) -> str:
    if not conversion:
        return re.escape(text)
    return f"[0-9]{{{text}}}" if conversion == "f" else _PRINTS.get(conversion, ".*?")


def rfc3339(moment: pl.Expr) -> pl.Expr:
    """A time as Envoy's default prints it."""
    return moment.dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")


def epoch(text: pl.Expr) -> pl.Expr:
    """Such text as a time; null where it is none."""
    return text.str.to_datetime("%Y-%m-%dT%H:%M:%S.%3fZ", time_unit="ms", strict=False)
