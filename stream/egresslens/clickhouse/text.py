"""Texts as ClickHouse reads them."""

from __future__ import annotations


def like(pattern: str) -> str:
    r"""A pattern with `*` as ClickHouse's LIKE reads it; `%`, `_` and `\` stand for themselves."""
    for special in ("\\", "%", "_"):
        pattern = pattern.replace(special, f"\\{special}")
    return pattern.replace("*", "%")
