"""Reads compose/: what the files say, with versions put in, merged with what they include."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "compose"

Service = dict[str, Any]


def versions() -> dict[str, str]:
    """Give the variables of compose/.env."""
    lines = (COMPOSE / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def written(name: str) -> dict[str, Any]:
    """Give a file as it is written, variables and all."""
    found: dict[str, Any] = yaml.safe_load((COMPOSE / name).read_text())
    return found


def stack(name: str) -> dict[str, Any]:
    """Give a file with versions put in and included files beside its own parts (`include` of plain paths)."""
    found: dict[str, Any] = _interpolated(written(name), versions())
    for included in found.pop("include", []):
        for part, values in stack(included).items():
            if isinstance(values, dict):
                assert values.keys().isdisjoint(found.get(part, {})), (
                    f"{included} and {name} both have {part}"
                )
                found[part] = values | found.get(part, {})
    return found


def services(name: str) -> dict[str, Service]:
    """Give the services of a file and of what it includes."""
    found: dict[str, Service] = stack(name)["services"]
    return found


def ours(name: str) -> dict[str, Service]:
    """Give the services that run an egresslens command."""
    return {
        service: values
        for service, values in services(name).items()
        if values["image"].startswith("egresslens:")
    }


def _interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolated(item, variables) for item in value]
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)\}", lambda match: variables[match[1]], value)
    return value
