"""JSON as text: what every reader of JSON here must agree on before a parser sees it."""

from __future__ import annotations

import re
from typing import Final

import orjson

_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f]")


def has_lone_surrogate(text: str) -> bool:
    r"""Whether JSON text holds half of a surrogate pair, such as `\ud800` alone."""
    high_at = -1
    for escape in _ESCAPE.finditer(text):
        code = int(escape[1], 16) if escape[1] else 0
        if 0xDC00 <= code <= 0xDFFF:
            if high_at != escape.start():
                return True
            high_at = -1
            continue
        if high_at >= 0:
            return True
        high_at = escape.end() if 0xD800 <= code <= 0xDBFF else -1
    return high_at >= 0


def encoded(value: object) -> bytes | None:
    """JSON of what was read from JSON or OTLP; None if it cannot be written.

    orjson reads deeper nesting than it writes, and writes no integer beyond 64 bits.
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return None


def decoded(inner: str) -> str | None:
    """What the inside of a JSON string says; None if it is none, as with half of a surrogate pair."""
    try:
        return str(orjson.loads(f'"{inner}"'))
    except orjson.JSONDecodeError:
        return None


def inside(text: str) -> str:
    """What the inside of a JSON string says, or nearly one."""
    found = decoded(text)
    return (text.replace('\\"', '"') if found is None else found).strip()


def unquoted(text: str) -> str:
    """Decode an object that is the text of a JSON string, with its quotes or without."""
    return inside(text[1:-1] if text.startswith('"') and text.endswith('"') else text.removeprefix('"'))


def escape_controls(text: str) -> str:
    """Escape control characters, which Polars leaves as they are when it writes a nested value as JSON."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
