"""Rates from looks at the pipeline, and Kafka that is away."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from egresslens.console.recent import Recent
from egresslens.kafka.broker import free_port
from egresslens.settings import Settings

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


def recent() -> Recent:
    return Recent(Settings(kafka_brokers=f"127.0.0.1:{free_port()}"))


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_the_first_look_knows_no_rate():
    assert recent().rate(NOW, 100) is None


def test_the_second_look_knows_one():
    looks = recent()
    looks.rate(NOW, 100)
    assert looks.rate(after(10), 150) == (5.0, 10.0)


def test_a_rate_is_over_a_minute_at_most():
    looks = recent()
    for second in range(0, 125, 5):
        found = looks.rate(after(second), second * 3)
    assert found == (3.0, 60.0)


def test_looks_that_follow_each_other_at_once_are_no_measure():
    looks = recent()
    looks.rate(NOW, 100)
    assert looks.rate(after(0.1), 101) is None


def test_fewer_messages_are_another_store():
    looks = recent()
    looks.rate(NOW, 100)
    assert looks.rate(after(10), 5) is None


def test_what_is_remembered_of_looks_is_bounded():
    looks = recent()
    for number in range(10_000):
        looks.rate(after(number / 100), number)
    assert len(looks._looks) < 100


def test_kafka_that_is_away_is_said_and_not_asked_again_at_once():
    looks = recent()
    places = frozenset({("egress.access-log", 0)})
    found = looks.ends(NOW, places)
    assert found.offsets == {}
    assert "EGRESSLENS_KAFKA_BROKERS" in str(found.why)
    assert looks.ends(after(10), places) is found
