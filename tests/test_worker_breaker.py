"""The limit on dead letters."""

from __future__ import annotations

import numpy as np
import pytest

from egresslens.worker.breaker import Breaker, TooManyRejectsError


def watch(breaker: Breaker, *parts: tuple[str, list[bool]]) -> None:
    rejected = np.array([flag for _, flags in parts for flag in flags], np.bool_)
    breaker.watch(
        [topic for topic, _ in parts], [len(flags) for _, flags in parts], rejected, "unknown_format"
    )


def test_a_share_below_the_limit_goes_on():
    watch(Breaker(0.5, 0), ("t/0", [True, False] * 5000))


def test_a_share_above_the_limit_stops():
    with pytest.raises(TooManyRejectsError, match="unknown_format"):
        watch(Breaker(0.5, 0), ("t/0", [True, True, False] * 1000))


def test_a_few_bad_messages_prove_nothing():
    watch(Breaker(0.1, 0), ("t/0", [True] * 999))


def test_a_good_past_does_not_hide_a_bad_present():
    breaker = Breaker(0.5, 0)
    for _ in range(100):
        watch(breaker, ("t/0", [False] * 1000))
    bad = ("t/0", [True] * 1000)
    watch(breaker, bad)
    with pytest.raises(TooManyRejectsError):
        watch(breaker, bad, bad)


def test_a_run_over_several_units_stops():
    breaker = Breaker(1.0, 10)
    watch(breaker, ("t/0", [False] + [True] * 6))
    with pytest.raises(TooManyRejectsError, match="t/0"):
        watch(breaker, ("t/0", [True] * 5 + [False]))


def test_runs_of_two_partitions_are_not_one_run():
    watch(Breaker(1.0, 10), ("t/0", [True] * 8), ("t/1", [True] * 8))


def test_a_run_inside_a_unit_stops():
    with pytest.raises(TooManyRejectsError):
        watch(Breaker(1.0, 3), ("t/0", [False, True, True, True, True, False]))


def test_limits_can_be_switched_off():
    watch(Breaker(1.0, 0), ("t/0", [True] * 100_000))
