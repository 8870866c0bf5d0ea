"""The short chaos, which CI runs by itself behind `make test`. `make chaos` is the whole of it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chaos.run import Plan, run
from conftest import require_kafka
from functional.store_fixture import require_chdb

pytestmark = [pytest.mark.functional, pytest.mark.extended, pytest.mark.timeout(600)]


def test_killed_parts_under_load_leave_every_view_equal_to_the_truth(tmp_path: Path):
    require_chdb()
    require_kafka()
    plan = Plan(
        seed=random.SystemRandom().randrange(10**6),
        messages=80_000,
        kills=6,
        snapshots=4,
        outage_s=8.0,
        joins=1,
        freezes=0,
        reconciles=1,
    )
    figures = run(plan, tmp_path, print)
    assert sum(figures.kills.values()) >= 5
    assert figures.problems == [], f"SEED={plan.seed}\n{figures.text()}"
