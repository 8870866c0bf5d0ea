import logging

from egresslens.kafka.quiet import Repeats


def record(message, name="aiokafka.conn"):
    return logging.LogRecord(name, logging.ERROR, __file__, 1, message, None, None)


def test_a_message_passes_once_per_interval():
    now = [100.0]
    repeats = Repeats(30, clock=lambda: now[0])
    passed = []
    for at in (100.0, 101.0, 129.9, 130.0, 131.0):
        now[0] = at
        passed.append(repeats.filter(record("Unable connect to node %s")))
    assert passed == [True, False, False, True, False]


def test_other_messages_and_other_loggers_are_not_held_back():
    repeats = Repeats(30, clock=lambda: 0.0)
    assert repeats.filter(record("one"))
    assert repeats.filter(record("two"))
    assert repeats.filter(record("one", "aiokafka"))
