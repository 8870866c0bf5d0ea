"""Where the files of `schemas/` are: inside an installed package, or beside a checkout's `stream/`."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def schemas() -> Path:
    """Folder that holds `clickhouse/`, `topics/` and `istio/`."""
    installed = _HERE / "_schemas"
    return installed if installed.is_dir() else _HERE.parent.parent / "schemas"
