r"""The grammar of Envoy's format strings: text into literals and command operators.

Envoy finds an operator with `^%([A-Z0-9_]+)(?:\((.*?)\))?(?::([0-9]+))?%` (substitution_formatter.cc): its
arguments end at the first `)` that a length and a `%` can follow, so they may hold `%`, `:`, quotes and
nested parentheses. `%%` is a percent sign.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_OPERATOR: Final = re.compile(r"%([A-Z0-9_]+)(?:\((.*?)\))?(?::([0-9]+))?%")


class FormatError(ValueError):
    """A format string that cannot be read back; the message points at the place and says what to do."""

    def __init__(self, problem: str, source: str, position: int) -> None:
        self.problem = problem
        self.position = position
        super().__init__(f"{problem}, at position {position}:\n{_caret(source, position)}")


def _caret(source: str, position: int, reach: int = 60) -> str:
    """The place in `source`, and a caret line under it."""
    before = source[max(0, position - reach) : position]
    shown = "".join(char if char.isprintable() else "·" for char in before + source[position:][:reach])
    lead, tail = "…" * (position > reach), "…" * (position + reach < len(source))
    return f"  {lead}{shown}{tail}\n  {' ' * (len(lead) + len(before))}^"


@dataclass(frozen=True)
class Operator:
    """`%NAME(ARGS):MAX_LENGTH%`, and where it begins in its format string."""

    name: str
    args: str | None = None
    max_length: int | None = None
    position: int = field(default=0, compare=False)

    def __str__(self) -> str:
        args = "" if self.args is None else f"({self.args})"
        length = "" if self.max_length is None else f":{self.max_length}"
        return f"%{self.name}{args}{length}%"


Token = str | Operator


def tokens(source: str) -> tuple[Token, ...]:
    """Read a format string. Literals come unescaped, never empty and never two in a row.

    Raises:
        FormatError: a `%` that neither begins an operator nor stands for itself.
    """
    found: list[Token] = []
    literal = ""
    at = 0
    while at < len(source):
        if source[at] != "%":
            end = source.find("%", at)
            end = len(source) if end < 0 else end
            literal += source[at:end]
            at = end
        elif source.startswith("%%", at):
            literal += "%"
            at += 2
        else:
            match = _OPERATOR.match(source, at)
            if match is None:
                raise FormatError(
                    "`%` begins no command operator such as %PROTOCOL% or %REQ(:PATH)% (write %% for a "
                    "percent sign)",
                    source,
                    at,
                )
            if literal:
                found.append(literal)
                literal = ""
            length = int(match[3]) if match[3] else None
            found.append(Operator(match[1], match[2], length, at))
            at = match.end()
    if literal:
        found.append(literal)
    return tuple(found)
