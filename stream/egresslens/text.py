"""Other people's text, for terminals and comments."""

from __future__ import annotations


def visible(text: str) -> str:
    r"""The text with everything that is not printed written out (`\x1b`, `\u202e`, `\u2028`)."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _shown(char) for char in text)


def _shown(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
