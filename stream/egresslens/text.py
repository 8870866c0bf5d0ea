"""Other people's text, for terminals and comments."""

from __future__ import annotations

import json
import re
from typing import Final

_BEYOND_ASCII: Final = re.compile(r"[^\x00-\x7f]")


def ascii_json(text: str) -> str:
    r"""A JSON text with everything beyond ASCII as `\u202e`: the same values, nothing a terminal obeys."""
    if text.isascii():
        return text
    return _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text)


def visible(text: str) -> str:
    r"""The text with everything that is not printed written out (`\x1b`, `\u202e`, `\u2028`)."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _shown(char) for char in text)


def _shown(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
