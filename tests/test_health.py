"""Health: what is stuck, what only waits, and how far behind a partition is."""

from __future__ import annotations

import aiohttp
import pytest

from egresslens.health import STALL_S, Condition, Process, Server, Watch
from egresslens.kafka.transport import Progress
from egresslens.kafka.transport.ledger import Partition
from egresslens.metrics import StreamMetrics

HERE = Partition("logs", 0)
THERE = Partition("logs", 1)
NOW = 1_800_000_000.0


def condition(*looks: tuple[float, Progress], outage: bool = False) -> Condition:
    """The condition after looks at one partition, each at a moment."""
    watch = Watch()
    for moment, progress in looks:
        standings = watch.look({HERE: progress}, outage, moment, NOW)
    return Condition(standings, frozenset(["clickhouse"] if outage else []), failed=False)


def reading(committed: int, end: int = 100, pending: int = 1, position: int = 100) -> Progress:
    return Progress(position, committed, end, pending, since=int((NOW - 7) * 1000))


def test_records_that_wait_without_a_commit_are_a_stall():
    found = condition((0, reading(10)), (STALL_S + 1, reading(10)))
    assert found.stalled_s == STALL_S + 1
    assert not found.healthy
    assert not found.ready


def test_a_commit_ends_a_stall():
    assert condition((0, reading(10)), (STALL_S + 1, reading(20))).stalled_s == 0


def test_a_partition_with_nothing_to_do_is_healthy_for_ever():
    idle = reading(100, pending=0)
    found = condition((0, idle), (10 * STALL_S, idle))
    assert found.healthy
    assert found.ready
    assert found.lag == 0


def test_the_first_record_after_a_quiet_time_is_no_stall():
    assert condition((0, reading(100, pending=0)), (10 * STALL_S, reading(100, end=101))).stalled_s == 0


def test_a_split_line_whose_end_has_not_come_is_no_stall():
    # Nothing is committed past the open line, and there is nothing else to read or to commit.
    held = reading(99, pending=0)
    found = condition((0, held), (10 * STALL_S, held))
    assert found.healthy
    assert found.lag == 1


def test_what_was_read_and_is_not_committed_waits_though_the_end_is_not_known():
    progress = Progress(100, 10, None, pending=1)
    assert not condition((0, progress), (STALL_S + 1, progress)).healthy


def test_what_lies_in_kafka_and_is_not_read_waits():
    progress = reading(10, pending=0, position=10)
    assert not condition((0, progress), (STALL_S + 1, progress)).healthy


def test_an_outage_is_no_stall_and_no_readiness():
    found = condition((0, reading(10)), (10 * STALL_S, reading(10)), outage=True)
    assert found.healthy
    assert not found.ready


def test_after_an_outage_the_time_for_a_commit_begins():
    watch = Watch()
    assert watch.look({HERE: reading(10)}, True, 0, NOW)[HERE].stalled_seconds == 0
    assert watch.look({HERE: reading(10)}, False, 500, NOW)[HERE].stalled_seconds == 0
    assert watch.look({HERE: reading(10)}, False, 505, NOW)[HERE].stalled_seconds == 5


def test_one_stuck_partition_among_others_is_found():
    watch = Watch()
    watch.look({HERE: reading(10), THERE: reading(10)}, False, 0, NOW)
    standings = watch.look({HERE: reading(90), THERE: reading(10)}, False, STALL_S + 1, NOW)
    assert not Condition(standings, frozenset(), failed=False).healthy


def test_a_partition_that_comes_back_begins_anew():
    watch = Watch()
    watch.look({HERE: reading(10)}, False, 0, NOW)
    watch.look({}, False, 1, NOW)
    assert watch.look({HERE: reading(10)}, False, STALL_S + 1, NOW)[HERE].stalled_seconds == 0


def test_a_process_without_partitions_is_healthy_and_not_ready():
    found = Condition({}, frozenset(), failed=False)
    assert found.healthy
    assert not found.ready


def test_a_failed_process_is_neither():
    found = Condition({}, frozenset(), failed=True)
    assert not found.healthy
    assert not found.ready


@pytest.mark.parametrize(
    ("progress", "records", "seconds"),
    [
        (reading(40), 60, 7),
        (reading(100, pending=0), 0, 0),
        (Progress(40, 40, 100), 60, 0),
        (Progress(40, None, None), None, 0),
    ],
    ids=["some wait", "all is committed", "no record was read yet", "nothing is known yet"],
)
def test_lag_is_in_records_and_in_seconds(progress, records, seconds):
    standing = Watch().look({HERE: progress}, False, 0, NOW)[HERE]
    assert (standing.lag_records, standing.lag_seconds) == (records, seconds)


def test_clocks_that_disagree_give_no_negative_lag():
    assert Watch().look({HERE: reading(40)}, False, 0, NOW - 60)[HERE].lag_seconds == 0


async def test_a_process_is_asked_over_http():
    assigned = {HERE: reading(40)}
    outages: set[str] = set()
    metrics = StreamMetrics()
    server = Server(
        "127.0.0.1", 0, Process(lambda: assigned, lambda: frozenset(outages), lambda: False, metrics)
    )
    url = await server.start()
    # As Prometheus asks.
    async with aiohttp.ClientSession(headers={"Accept-Encoding": "gzip"}) as client:

        async def ask(path: str) -> tuple[int, str]:
            async with client.get(url + path) as answer:
                assert path != "/metrics" or answer.headers["Content-Encoding"] == "gzip"
                return answer.status, await answer.text()

        assert [(await ask(path))[0] for path in ("/healthz", "/readyz")] == [200, 200]
        assert 'egresslens_lag_records{partition="0",topic="logs"} 60.0' in (await ask("/metrics"))[1]
        outages.add("kafka")
        assert [(await ask(path))[0] for path in ("/healthz", "/readyz")] == [200, 503]
        assert "egresslens_ready 0.0" in (await ask("/metrics"))[1]
        # What went to another process is not this one's lag any more.
        assigned.clear()
        assert "egresslens_lag_records{" not in (await ask("/metrics"))[1]
    await server.stop()
