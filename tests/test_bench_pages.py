"""What bench/results.json shows and what the pages say are the same figures."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
RESULTS = json.loads((ROOT / "bench" / "results.json").read_text())


def bench(name: str) -> ModuleType:
    """A module of bench/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / "bench" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_capacity_page_is_computed_from_the_results():
    capacity = bench("capacity")
    assert (ROOT / "docs" / "capacity.md").read_text() == capacity.capacity(RESULTS)


def test_the_capacity_page_has_a_figure_in_every_cell():
    assert not re.search(r"\b(nan|inf|None)\b", bench("capacity").capacity(RESULTS))


@pytest.mark.parametrize("name", ["RESULTS.md", "RESULTS.svg"])
def test_the_results_are_shown(name):
    assert (ROOT / "bench" / name).stat().st_size > 1_000


def test_the_results_page_shows_the_commit_of_every_part():
    page = (ROOT / "bench" / "RESULTS.md").read_text()
    assert {part["machine"]["commit"] for part in RESULTS.values()} <= set(
        re.findall(r"commit ([\w+]+)", page)
    )
