import pytest
from hypothesis import given
from hypothesis import strategies as st

from egresslens.kafka.transport.ledger import HoleError, Ledger, Partition

HERE = Partition("logs", 0)
THERE = Partition("logs", 1)


def ledger_at(position=0, *partitions):
    ledger = Ledger()
    ledger.seek(dict.fromkeys(partitions or (HERE,), position))
    return ledger


def track(ledger, *ends, partition=HERE, start=0):
    entries = []
    for end in ends:
        entries.append(ledger.track(partition, start, end))
        start = end
    return entries


def offsets(ledger):
    return {partition: entry.next for partition, entry in ledger.committable().items()}


def commit(ledger):
    for partition, entry in ledger.committable().items():
        ledger.committed(partition, entry)


def test_nothing_is_committable_before_an_ack():
    ledger = ledger_at()
    track(ledger, 10)
    assert offsets(ledger) == {}


def test_an_acked_batch_is_committable_up_to_its_end():
    ledger = ledger_at()
    (first,) = track(ledger, 10)
    ledger.ack(first)
    assert offsets(ledger) == {HERE: 10}


def test_a_later_ack_waits_for_the_earlier_batch():
    ledger = ledger_at()
    first, second = track(ledger, 10, 25)
    ledger.ack(second)
    assert offsets(ledger) == {}
    ledger.ack(first)
    assert offsets(ledger) == {HERE: 25}


def test_partitions_do_not_wait_for_each_other():
    ledger = ledger_at(0, HERE, THERE)
    track(ledger, 10)
    (other,) = track(ledger, 7, partition=THERE)
    ledger.ack(other)
    assert offsets(ledger) == {THERE: 7}


def test_what_was_committed_is_not_committable_again():
    ledger = ledger_at()
    ledger.ack(track(ledger, 10)[0])
    commit(ledger)
    assert offsets(ledger) == {}


def test_a_failed_commit_leaves_everything_committable():
    ledger = ledger_at()
    ledger.ack(track(ledger, 10)[0])
    assert offsets(ledger) == {HERE: 10}
    assert offsets(ledger) == {HERE: 10}


def test_an_ack_during_a_commit_is_kept_for_the_next_one():
    ledger = ledger_at()
    first, second = track(ledger, 10, 20)
    ledger.ack(first)
    under_way = ledger.committable()
    ledger.ack(second)
    for partition, entry in under_way.items():
        ledger.committed(partition, entry)
    assert offsets(ledger) == {HERE: 20}


def test_an_ack_counts_once():
    ledger = ledger_at()
    (first,) = track(ledger, 10)
    assert ledger.ack(first)
    assert not ledger.ack(first)


def test_an_ack_from_before_a_seek_changes_nothing():
    ledger = ledger_at()
    (stale,) = track(ledger, 10)
    ledger.seek({HERE: 0})
    track(ledger, 10)
    assert not ledger.ack(stale)
    assert offsets(ledger) == {}


def test_an_ack_from_before_a_revocation_changes_nothing():
    ledger = ledger_at()
    (stale,) = track(ledger, 10)
    ledger.forget([HERE])
    assert not ledger.ack(stale)
    assert offsets(ledger) == {}


def test_a_commit_that_ends_after_a_seek_releases_nothing_of_the_new_lane():
    ledger = ledger_at()
    ledger.ack(track(ledger, 10)[0])
    under_way = ledger.committable()
    ledger.seek({HERE: 0})
    ledger.ack(track(ledger, 5)[0])
    for partition, entry in under_way.items():
        ledger.committed(partition, entry)
    assert offsets(ledger) == {HERE: 5}


def test_a_batch_that_does_not_follow_the_last_one_is_a_hole():
    ledger = ledger_at()
    track(ledger, 10)
    with pytest.raises(HoleError, match="logs/0: expected 10, got 12"):
        ledger.track(HERE, 12, 20)


def test_a_batch_of_a_partition_that_is_not_assigned_is_a_hole():
    with pytest.raises(HoleError, match="logs/1"):
        ledger_at().track(THERE, 0, 5)


def test_a_lane_is_current_until_the_next_seek():
    ledger = ledger_at()
    lane = ledger.lanes()[HERE]
    assert ledger.is_current(HERE, lane)
    ledger.seek({HERE: 0})
    assert not ledger.is_current(HERE, lane)


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=12), data=st.data())
def test_no_order_of_acks_and_commits_passes_a_batch_that_is_not_acked(sizes, data):
    ledger = ledger_at()
    ends = [sum(sizes[: count + 1]) for count in range(len(sizes))]
    entries = track(ledger, *ends)
    acked: set[int] = set()
    for index in data.draw(st.permutations(range(len(entries)))):
        ledger.ack(entries[index])
        acked.add(index)
        safe = next((i for i in range(len(ends)) if i not in acked), len(ends))
        highest = offsets(ledger).get(HERE, 0)
        assert highest <= ([0, *ends])[safe]
        if data.draw(st.booleans()):
            commit(ledger)
    commit(ledger)
    assert offsets(ledger) == {}
    assert not ledger.lanes()[HERE].entries


def test_a_lane_knows_how_old_its_oldest_and_its_newest_record_are():
    ledger = ledger_at()
    first = ledger.track(HERE, 0, 10, (1_000, 2_000))
    ledger.track(HERE, 10, 20, (3_000, 4_000))
    ledger.track(HERE, 20, 25)
    lane = ledger.lanes()[HERE]
    assert (lane.entries[0].timestamp, lane.read) == (1_000, 4_000)
    ledger.ack(first)
    commit(ledger)
    assert lane.entries[0].timestamp == 3_000
