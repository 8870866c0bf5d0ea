r"""Marks of Markdown and HTML around words, as a line has them that was pasted from a page or for one.

A mark counts only where it stands on both sides of a whole word, so a name that merely holds another's stays
itself. Escapes count only before Markdown's own punctuation.

All work is linear in the length of the text.
"""

from __future__ import annotations

import html
import re
from typing import Final

# No cluster's or route's name is longer.
MAX_WORD: Final = 512
# Marks stand inside each other (`**<code>x</code>**`), but not much.
_MOST_MARKS: Final = 4

_MARKED: Final = re.compile(r"(?s)(?P<mark>\*{1,3}|_{1,3}|`{1,3}|~~|==)(?P<inner>\S(?:.*\S)?)(?P=mark)")
_TAGGED: Final = re.compile(
    r"(?is)<(?P<tag>b|strong|i|em|u|code|kbd|tt|mark|span|font)(?:\s[^<>]*)?>(?P<inner>[^<>\s].*)</(?P=tag)>"
)
_ESCAPE: Final = re.compile(r"\\([\[\]{}()<>|_*.\-#+!~`])")
# Emphasis over words of a line, outside of quotes.
_EMPHASIS: Final = re.compile(r'(?<![^\s\[])(\*\*|~~|`)([^\s"*`~](?:[^"*`~]{0,200}[^\s"*`~])?)\1(?=\s|\]|$)')


def bare(word: str) -> str:
    """A word without the marks around it and without escapes; itself where there are none."""
    if len(word) > MAX_WORD:
        return word
    if "&" in word:
        word = html.unescape(word)
    word = _ESCAPE.sub(r"\1", word)
    for _ in range(_MOST_MARKS):
        found = _MARKED.fullmatch(word) or _TAGGED.fullmatch(word)
        if not found:
            break
        word = found["inner"]
    return word


def unmarked(text: str) -> str:
    """A line without emphasis over its words and without Markdown's escapes."""
    if "\\" in text:
        text = _ESCAPE.sub(r"\1", text)
    return _EMPHASIS.sub(r"\2", text)
