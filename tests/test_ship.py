"""Following files, remembering positions, and the envelope: everything of `ship` that needs no Kafka."""

from datetime import datetime, timezone
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egresslens.ship import tail
from egresslens.ship.envelope import Metadata, envelope, message_key
from egresslens.ship.positions import Positions, PositionsError
from egresslens.ship.tail import Follower, Line

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def test_lines_come_in_order_without_their_newlines(tmp_path):
    assert texts(following(written(tmp_path, b"one\ntwo\n"))) == [b"one", b"two"]


def test_blank_lines_are_not_sent(tmp_path):
    assert texts(following(written(tmp_path, b"one\n\n  \r\ntwo\n"))) == [b"one", b"two"]


def test_a_line_is_not_sent_before_its_newline(tmp_path):
    file = written(tmp_path, b"one\ntw")
    follower = following(file)
    assert texts(follower) == [b"one"]
    append(file, b"o\n")
    assert texts(follower) == [b"two"]


def test_finishing_sends_a_last_line_without_a_newline(tmp_path):
    follower = following(written(tmp_path, b"one\ntwo"))
    texts(follower)
    assert [line.text for line in follower.finish()] == [b"two"]


def test_a_very_long_line_is_cut_and_the_next_one_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(tail, "MAX_LINE_BYTES", 1_000)
    follower = following(written(tmp_path, b"x" * 200_000 + b"\nnext\n"))
    assert texts(follower) == [b"x" * 1_000, b"next"]


@given(content=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=6))
def test_any_way_of_writing_a_file_gives_the_same_lines(tmp_path_factory, content, cuts):
    file = tmp_path_factory.mktemp("any") / "access.log"
    file.touch()
    follower = following(file)
    found = []
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(content)], strict=True):
        append(file, content[begin:end])
        found += texts(follower)
    found += [line.text for line in follower.finish()]
    follower.close()
    assert found == [line for line in content.split(b"\n") if line.strip()]


def test_a_file_may_appear_later(tmp_path):
    file = tmp_path / "access.log"
    follower = following(file)
    assert texts(follower) == []
    file.write_bytes(b"one\n")
    assert texts(follower) == [b"one"]


def test_a_pattern_finds_files_that_appear_later(tmp_path):
    follower = Follower([str(tmp_path / "*.log")], ())
    written(tmp_path, b"one\n", "a.log")
    assert texts(follower) == [b"one"]
    written(tmp_path, b"two\n", "b.log")
    assert texts(follower) == [b"two"]


def test_a_renamed_file_is_read_to_its_end_beside_the_new_one(tmp_path):
    file = written(tmp_path, b"one\n")
    follower = following(file)
    texts(follower)
    old = file.rename(tmp_path / "access.log.1")
    written(tmp_path, b"three\n")
    # The writer has not noticed yet and goes on in the renamed file.
    append(old, b"two\n")
    assert sorted(texts(follower)) == [b"three", b"two"]


def test_a_file_renamed_within_the_pattern_is_not_sent_again(tmp_path):
    file = written(tmp_path, b"one\n")
    follower = Follower([str(tmp_path / "access.log*")], ())
    texts(follower)
    file.rename(tmp_path / "access.log.1")
    written(tmp_path, b"two\n")
    assert texts(follower) == [b"two"]


def test_a_renamed_file_that_is_quiet_and_acknowledged_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(tail, "ROTATED_GRACE_S", 0.0)
    file = written(tmp_path, b"one\n\n")
    follower = following(file)
    acknowledge(lines_of(follower))
    file.unlink()
    follower.look()
    follower.forget_ended()
    assert follower.sources == []


def test_a_renamed_file_with_unacknowledged_lines_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(tail, "ROTATED_GRACE_S", 0.0)
    file = written(tmp_path, b"one\n")
    follower = following(file)
    lines_of(follower)
    file.unlink()
    follower.look()
    follower.forget_ended()
    assert len(follower.sources) == 1


def test_a_truncated_file_is_read_from_its_start(tmp_path):
    file = written(tmp_path, b"one\ntwo\n")
    follower = following(file)
    texts(follower)
    file.write_bytes(b"3\n")  # same inode
    assert texts(follower) == [b"3"]


def test_a_truncated_file_that_has_grown_past_its_old_length_is_read_from_its_start(tmp_path):
    file = written(tmp_path, b"one\n")
    follower = following(file)
    texts(follower)
    file.write_bytes(b"two\nthree\n")
    assert texts(follower) == [b"two", b"three"]


def test_the_beginning_of_a_line_is_sent_when_its_file_is_truncated(tmp_path):
    file = written(tmp_path, b"one\nbroken of")
    follower = following(file)
    texts(follower)
    file.write_bytes(b"2\n")
    assert texts(follower) == [b"broken of", b"2"]


def test_a_restart_goes_on_after_the_last_acknowledged_line(tmp_path):
    file = written(tmp_path, b"one\ntwo\nthree\n")
    first = following(file)
    acknowledge(lines_of(first)[:1])
    assert texts(Follower([str(file)], first.positions())) == [b"two", b"three"]


def test_a_restart_does_not_take_a_new_file_with_the_old_inode_for_the_old_one(tmp_path):
    file = written(tmp_path, b"one\n")
    first = following(file)
    acknowledge(lines_of(first))
    file.write_bytes(b"other\nlines\n")
    assert texts(Follower([str(file)], first.positions())) == [b"other", b"lines"]


def test_a_file_that_was_renamed_while_away_is_read_to_its_end(tmp_path):
    file = written(tmp_path, b"one\n")
    first = following(file)
    acknowledge(lines_of(first))
    append(file, b"two\n")
    file.rename(tmp_path / "access.log.1")
    written(tmp_path, b"three\n")
    assert sorted(texts(Follower([str(file)], first.positions()))) == [b"three", b"two"]


def test_a_renamed_file_is_remembered_over_two_restarts(tmp_path):
    file = written(tmp_path, b"one\n")
    first = following(file)
    acknowledge(lines_of(first))
    append(file, b"two\n")
    file.rename(tmp_path / "access.log.1")
    second = Follower([str(file)], first.positions())
    lines_of(second)  # read, and not acknowledged
    assert texts(Follower([str(file)], second.positions())) == [b"two"]


def test_a_file_that_was_removed_while_away_is_said_to_be_lost(tmp_path, caplog):
    file = written(tmp_path, b"one\n")
    first = following(file)
    lines_of(first)
    file.unlink()
    Follower([str(file)], first.positions()).look()
    assert "lines after byte 0 are lost" in caplog.text


def test_positions_of_other_files_are_kept_and_left_alone(tmp_path):
    mine, other = written(tmp_path, b"one\n", "mine.log"), written(tmp_path, b"two\n", "other.log")
    first = following(other)
    acknowledge(lines_of(first))
    second = Follower([str(mine)], first.positions())
    assert texts(second) == [b"one"]
    assert [position.path for position in second.positions()] == [str(other), str(mine)]


def test_a_relative_path_is_remembered_as_an_absolute_one(tmp_path, monkeypatch):
    written(tmp_path, b"one\n")
    monkeypatch.chdir(tmp_path)
    follower = Follower(["access.log"], ())
    lines_of(follower)
    assert [position.path for position in follower.positions()] == [str(tmp_path / "access.log")]


def test_no_file_starves_the_others(tmp_path):
    for name in ("a", "b", "c"):
        written(tmp_path, f"{name}\n".encode() * 40_000, f"{name}.log")
    follower = Follower([str(tmp_path / "*.log")], ())
    follower.look()
    # A caller that has room for one chunk each time.
    first = [next(follower.read())[0].text for _ in range(3)]
    assert sorted(first) == [b"a", b"b", b"c"]


def test_positions_survive(tmp_path):
    follower = following(written(tmp_path, b"one\n"))
    acknowledge(lines_of(follower))
    with Positions(tmp_path / "ship.json") as positions:
        positions.save(follower.positions())
    with Positions(tmp_path / "ship.json") as positions:
        assert positions.load() == tuple(follower.positions())


def test_a_second_owner_of_the_positions_is_refused(tmp_path):
    with Positions(tmp_path / "ship.json"), pytest.raises(PositionsError, match="give this one a --position"):
        Positions(tmp_path / "ship.json").__enter__()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"version": 1, "files": [{"path": "x"}]}', b"\xff"])
def test_damaged_positions_stop_the_start(tmp_path, content):
    (tmp_path / "ship.json").write_bytes(content)
    with Positions(tmp_path / "ship.json") as positions, pytest.raises(PositionsError, match="is damaged"):
        positions.load()


def test_without_metadata_the_line_is_the_message():
    assert envelope(b"caf\xe9 \xff", Metadata(), NOW) == b"caf\xe9 \xff"


def test_the_envelope_has_fluent_bits_shape():
    metadata = Metadata(
        pod="idgen-7c9f8d6b5-x2x7q",
        namespace="shop",
        workload="idgen",
        cluster="east",
        region="eu-central-1",
        zone="eu-central-1a",
        node="node-1",
        container="istio-proxy",
    )
    assert orjson.loads(envelope(b"the line", metadata, NOW)) == {
        "time": "2026-01-02T03:04:05Z",
        "stream": "stdout",
        "log": "the line",
        "cluster": "east",
        "kubernetes": {
            "pod_name": "idgen-7c9f8d6b5-x2x7q",
            "namespace_name": "shop",
            "host": "node-1",
            "container_name": "istio-proxy",
            "labels": {"service.istio.io/canonical-name": "idgen"},
            "node_labels": {
                "topology.kubernetes.io/region": "eu-central-1",
                "topology.kubernetes.io/zone": "eu-central-1a",
            },
        },
    }


def test_what_is_not_known_is_left_out_of_the_envelope():
    message = orjson.loads(envelope(b"x", Metadata(pod="p"), NOW))
    assert message["kubernetes"] == {"pod_name": "p"}


def test_bytes_that_are_no_text_are_replaced_inside_an_envelope():
    assert orjson.loads(envelope(b"caf\xe9", Metadata(pod="p"), NOW))["log"] == "caf\N{REPLACEMENT CHARACTER}"


@given(st.binary(max_size=300))
def test_the_longest_line_fits_into_kafkas_default_limit(line):
    message = envelope(line, Metadata(pod="p"), NOW)
    assert len(message) <= len(line) * 6 + 200
    assert tail.MAX_LINE_BYTES * 6 + 4_096 < 2**20


@pytest.mark.parametrize(
    ("metadata", "key"),
    [(Metadata(pod="p", namespace="n"), b"n/p"), (Metadata(pod="p"), b"/p"), (Metadata(), b"/log/x")],
)
def test_one_pods_or_one_files_lines_have_one_key(metadata, key):
    assert message_key("/log/x", metadata) == key


def written(folder: Path, content: bytes, name: str = "access.log") -> Path:
    file = folder / name
    file.write_bytes(content)
    return file


def append(file: Path, content: bytes) -> None:
    with file.open("ab") as log:
        log.write(content)


def following(file: Path) -> Follower:
    return Follower([str(file)], ())


def lines_of(follower: Follower) -> list[Line]:
    """Everything there is to read now."""
    found = []
    follower.look()
    while chunks := list(follower.read()):
        found += [line for chunk in chunks for line in chunk]
    return found


def texts(follower: Follower) -> list[bytes]:
    return [line.text for line in lines_of(follower)]


def acknowledge(lines: list[Line]) -> None:
    for line in lines:
        line.source.acknowledged = line.end
