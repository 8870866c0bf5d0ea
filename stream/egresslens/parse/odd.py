"""The exact way, one line at a time: for text that no columnar layout fits.

A line is read from both ends (`both_ends.py`), if need be after repairs; where that fails, as far as either
end carries (`torn.py`). What was forgiven is named in `damage`.

All work is linear in the length of the line.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Final

import polars as pl

from egresslens.outcome import Filtered, Reject
from egresslens.parse import prefixes, ztunnel
from egresslens.parse.both_ends import exact
from egresslens.parse.damage import Damage
from egresslens.parse.jsontext import inside
from egresslens.parse.markup import bare, unmarked
from egresslens.parse.reading import Reading, rows
from egresslens.parse.stage import Stage, filtered, rejected
from egresslens.parse.torn import torn
from egresslens.parse.values import typed
from egresslens.rules import Rules

# --- proxies' own logs --------------------------------------------------------------------------------------

_ISO: Final = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"
# istio-agent's and ztunnel's logs, and Envoy's through the agent: `TIME LEVEL SCOPE MESSAGE`, tabs between.
_AGENT_LOG: Final = (
    rf"^(?:[^\"\[\]{{}}\t]{{0,256}} )?{_ISO}\s+"
    r"(?i:trace|debug|info|warn|warning|error|critical|fatal|none)(?:\s|$)"
)
# Envoy's own: `[TIME][THREAD][LEVEL][LOGGER] MESSAGE`.
_ENVOY_LOG: Final = (
    rf"^(?:[^\"\[\]{{}}]{{0,256}} )?\[{_ISO}\] ?\[\d+\] ?"
    r"\[(?:trace|debug|info|warn|warning|error|critical|off)\]"
)


def step(lines: pl.DataFrame, rules: Rules) -> Stage:
    """Read odd lines (LINES): records, prefixed lines' texts (as lines), other logs, and rejects."""
    text = pl.col("text")
    lines, stage = ztunnel.step(lines, rules)
    own = lines.select(text.str.contains(_AGENT_LOG) | text.str.contains(_ENVOY_LOG)).to_series()
    stage += filtered(lines.filter(own), Filtered.PROXY_LOG)
    lines, stripped = prefixes.viewer(lines.filter(~own))
    stage += Stage(lines=[stripped])
    blank = lines["text"] == ""
    stage += rejected(lines.filter(blank), Reject.EMPTY)
    lines = lines.filter(~blank)
    readings = [read(text) for text in lines["text"]]
    unread = pl.Series([reading is None for reading in readings], dtype=pl.Boolean)
    stage += rejected(lines.filter(unread), Reject.UNKNOWN_FORMAT)
    return stage + typed(rows(lines.filter(~unread), [found for found in readings if found]), rules)


def read(text: str) -> Reading | None:
    """Read one line of text in any default layout, damaged or not; None if it is none."""
    if _SECOND_LINE.search(text):
        return None
    ends = list(_ends(text))
    for end, ended in ends:
        for candidate, damage in _repaired(end, ended):
            if found := exact(candidate):
                return _flagged(found, damage)
    # A terminal breaks words in two.
    if "\n" in text and (found := exact(_single_spaces(_plain_quotes(_unescaped(text.replace("\n", "")))))):
        return _flagged(found, (Damage.ODD_SPACES,))
    *_, (candidate, damage) = _repaired(*ends[0])
    found = torn(candidate)
    return found and _flagged(found, damage)


def _flagged(found: Reading, damage: tuple[Damage, ...]) -> Reading:
    return found._replace(damage=tuple(dict.fromkeys((*damage, *found.damage))))


# --- the line's end ---------------------------------------------------------------------------------------

# What sticks to a line that was cut out of a list, a program or a page, and ends no route's name.
STRAY: Final = r"(?:[`',]|\*\*|\\n)$"
_MOST_STRAYS: Final = 6
_STRAYS: Final = re.compile(r"(?:[`',]|\*\*|\\[nr])+$")
_STRAYS_OR_QUOTES: Final = re.compile(r"(?:[`',\"]|\*\*|\\[nr])+$")


def _ends(text: str) -> Iterator[tuple[str, tuple[Damage, ...]]]:
    """The line without what sticks to its end, and the line as it is."""
    word = text.rpartition(" ")[2]
    if (name := bare(word)) != word:
        yield text.removesuffix(word) + name, (Damage.MARKUP,)
    head, tail = text[:-_MOST_STRAYS], text[-_MOST_STRAYS:]
    # Layouts without a cluster end in a quote.
    quotes = (_STRAYS_OR_QUOTES.sub(instead, tail) for instead in ("", '"'))
    for end in dict.fromkeys((_STRAYS.sub("", tail), tail, *quotes)):
        yield head + end, (Damage.STRAY_END,) if end != tail else ()


# --- repairs ------------------------------------------------------------------------------------------------

_CURLY = str.maketrans("\u201c\u201d\u201e\u201f\u2033", '"""""')
# Two lines in one would give the one's head the other's tail. (`envelopes.split` takes whole lines apart.)
_SECOND_LINE = re.compile(r'\n\s*(?:\[20|"(?:[A-Z]{3,16}|-) )')


def _repaired(text: str, damage: tuple[Damage, ...]) -> Iterator[tuple[str, tuple[Damage, ...]]]:
    """The line as it is, then with one repair after the other, as far as they change anything."""
    yield text, damage
    for repair, name in (
        (_unescaped, Damage.ESCAPED_QUOTES),
        (_unescaped, Damage.ESCAPED_QUOTES),
        (_plain_quotes, Damage.ODD_QUOTES),
        (unmarked, Damage.MARKUP),
        (_single_spaces, Damage.ODD_SPACES),
    ):
        repaired = repair(text)
        if repaired != text:
            text, damage = repaired, (*damage, name)
            yield text, damage


def _unescaped(text: str) -> str:
    """Decode a JSON string that lost its quotes, or kept them."""
    if text.startswith('"[20') and text.endswith('"'):
        text = text[1:-1]
    elif '\\"' not in text:
        return text
    return inside(text)


def _plain_quotes(text: str) -> str:
    return html.unescape(text.translate(_CURLY)) if '"' not in text else text


def _single_spaces(text: str) -> str:
    return " ".join(text.split())
