"""The border of the pure core: what parses, labels and counts does no I/O and asks no clock."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "stream" / "egresslens"
CORE = [
    *(PACKAGE / name for name in (
        "record.py", "outcome.py", "rules.py", "mapping.py", "destination.py", "label.py", "enrich.py",
        "encode.py", "windows.py", "summary.py", "explain.py", "messages.py", "text.py", "observed.py",
        "whatif.py", "registry/value.py", "registry/models.py",
    )),
    *(path for room in ("parse", "judge", "advise") for path in sorted((PACKAGE / room).rglob("*.py"))),
]  # fmt: skip
FORBIDDEN = {
    "aiohttp", "aiokafka", "asyncio", "chdb", "clickhouse_connect", "click", "faust", "http", "kafka", "mode",
    "os", "random", "requests", "rich", "secrets", "shutil", "socket", "subprocess", "tempfile", "threading",
    "time", "urllib",
}  # fmt: skip
SHELL = {"cli", "clickhouse", "demo", "kafka", "ship", "store", "worker", "alerts", "report", "settings"}
CLOCKS = {"now", "utcnow", "today", "time", "monotonic"}


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("path", CORE, ids=[str(path.relative_to(PACKAGE)) for path in CORE])
def test_the_core_does_no_io(path):
    names = imports_of(path)
    assert not {name.split(".")[0] for name in names} & FORBIDDEN
    assert not {name.split(".")[1] for name in names if name.startswith("egresslens.")} & SHELL


@pytest.mark.parametrize("path", CORE, ids=[str(path.relative_to(PACKAGE)) for path in CORE])
def test_the_core_asks_no_clock(path):
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    asked = [call.attr for call in calls if isinstance(call, ast.Attribute) and call.attr in CLOCKS]
    assert asked == []
