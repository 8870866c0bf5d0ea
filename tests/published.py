"""The published schemas in published_schemas/ (see its README for where each is from)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "published_schemas"


def schema(file: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / file).read_text())
    return found


def strict(file: str) -> dict[str, Any]:
    """A custom object's schema that takes no unknown field, as kubectl's strict validation does."""
    found = _closed(schema(file))
    # The API server's own types.
    found["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
    found["properties"]["metadata"] = {"type": "object"}
    return found


def _closed(value: Any) -> Any:
    if isinstance(value, list):
        return [_closed(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: _closed(one) for key, one in value.items()}
    if isinstance(found.get("properties"), dict) and found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found
