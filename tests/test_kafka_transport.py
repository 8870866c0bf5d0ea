import socket

import numpy as np
from mode.supervisors import CrashingSupervisor

from egresslens.kafka.transport import Batch, Transport, batch_topic, create_app


def test_the_factory_connects_nothing_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        port = listener.getsockname()[1]
        app = create_app("group", [f"127.0.0.1:{port}"])
        batch_topic(app, "logs")
        assert isinstance(app.transport, Transport)
        try:
            listener.accept()
        except BlockingIOError:
            connected = False
        else:
            connected = True
    assert not connected
    assert list(tmp_path.iterdir()) == []


def test_an_exception_in_an_agent_is_never_answered_by_a_restart():
    assert create_app("group", ["127.0.0.1:1"]).conf.agent_supervisor is CrashingSupervisor


def test_all_brokers_are_used():
    conf = create_app("group", ["a:1", "b:2"]).conf
    assert [f"{url.host}:{url.port}" for url in conf.broker_consumer] == ["a:1", "b:2"]


def test_the_environment_of_other_faust_programs_changes_nothing(monkeypatch):
    monkeypatch.setenv("BROKER_URL", "kafka://elsewhere:9")
    monkeypatch.setenv("PROCESSING_GUARANTEE", "exactly_once")
    conf = create_app("group", ["a:1"]).conf
    assert conf.broker_consumer[0].host == "a"
    assert conf.processing_guarantee.value == "at_least_once"


def test_a_batch_says_where_it_begins_and_ends():
    offsets = np.array([3, 5], dtype=np.int64)
    batch = Batch("logs", 1, 7, offsets, offsets, [b"a", None], {}, 1, 9)
    assert (len(batch), batch.first_offset, batch.last_offset) == (2, 3, 5)
    assert repr(batch) == "<Batch logs/1 3-5, 2 records>"
