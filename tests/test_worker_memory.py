"""Free memory goes back to the system."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from egresslens.worker.memory import give_back


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is free")
def test_holes_between_what_lives_on_are_given_back():
    # Below glibc's threshold for mappings of their own, above what Python's allocator handles.
    pieces = [bytes(3_000) for _ in range(40_000)]
    kept = pieces[::40]
    full = resident()
    pieces.clear()
    give_back()
    assert full - resident() > 40_000 * 3_000 / 2
    assert len(kept) == 1_000
