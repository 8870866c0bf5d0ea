"""Incidents from window rows: the rules, the hits and the book."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from egresslens.alerts import detect
from egresslens.alerts.book import Book, Hit, Incident, Subject
from egresslens.alerts.deliver import alertmanager_alert, as_json, masked
from egresslens.alerts.detect import FirstSeen, Volume
from egresslens.alerts.rules import BUILT_IN, AlertRules, Match, Mute, Rule, RulesError, read_rules
from egresslens.cli import cli
from egresslens.encode import json_rows
from egresslens.judge import Judges
from egresslens.messages import AlertMessage
from egresslens.record import WINDOW
from egresslens.registry.value import Registries
from registries import context, registry

NOW = datetime(2026, 11, 24, 10, 30, tzinfo=timezone.utc)
MINUTE = NOW - timedelta(minutes=2)


def row(**given: Any) -> dict[str, Any]:
    start = given.get("window_start", MINUTE)
    return {
        **dict.fromkeys(WINDOW),
        "stream_epoch": "epoch",
        "topic": "access-log",
        "partition": 0,
        "window_start": start,
        "source_namespace": "shop",
        "source_workload": "cart",
        "label": "passthrough",
        "destination_host": "api.example.com",
        "destination_host_source": "sni",
        "destination_port": 443,
        "hop": "sidecar",
        "response_code": 200,
        "requests": 1,
        "mismatches": 0,
        "bytes_sent": 1,
        "bytes_received": 1,
        "duration_ms_sum": 1,
        "duration_ms_max": 1,
        "duration_buckets": [1],
        "destination_ips": [],
        "first_event": start,
        "last_event": start + timedelta(seconds=1),
        "rules_version": 1,
        "last_offset": 0,
        **given,
    }


def blocked(**given: Any) -> dict[str, Any]:
    return row(**{"label": "blackhole", "destination_host": "evil.example", **given})


def topic(*rows: dict[str, Any]) -> list[bytes]:
    """Messages as the worker writes them."""
    return [text.encode() for text in json_rows(pl.DataFrame(list(rows), schema=WINDOW))]


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    return detect.read(topic(*rows))


def blackholes(*rows: dict[str, Any], rules: AlertRules = BUILT_IN) -> list[Hit]:
    return list(detect.blackholes(frame(*rows), rules, NOW))


def book_of(*batches: list[Hit], limit: int = 60) -> Book:
    book = Book(limit)
    for hits in batches:
        book.apply(hits, NOW)
    return book


# --- reading ------------------------------------------------------------------------------------------------


def test_window_rows_are_read_as_the_worker_writes_them():
    assert frame(row()).to_dicts() == [row()]


def test_gateways_rows_are_left_out():
    assert frame(row(hop="gateway"), row()).height == 1


@pytest.mark.parametrize(
    "junk", [b"{", b"not json", b"[]", b"{}", b"\xff", b'{"label": "blackhole"}', b"null"]
)
def test_what_is_no_window_row_is_left_out_and_the_others_stay(junk: bytes):
    assert detect.read([junk, *topic(row()), None, junk]).height == 1


# --- what is found ------------------------------------------------------------------------------------------


def test_a_blocked_attempt_is_a_hit_and_says_who_tried_what():
    [hit] = blackholes(blocked(requests=3), row())
    assert (hit.rule, hit.severity, hit.count) == ("blackhole", "critical", 3)
    assert hit.summary == "shop/cart tried to reach evil.example:443, and the mesh blocked it"


def test_a_mismatch_is_a_hit():
    [hit] = detect.mismatches(frame(row(mismatches=2, requests=5), row()), BUILT_IN, NOW)
    assert (hit.kind, hit.count) == ("mismatch", 2)


def test_a_residency_violation_is_a_hit():
    declared = Registries(
        [registry(context(residency=[{"name": "eu", "namespaces": ["shop"], "regions": ["eu-*"]}]))]
    )
    rows = frame(
        row(destination_host="s3.us-east-1.amazonaws.com"), row(destination_host="s3.eu-west-1.amazonaws.com")
    )
    [hit] = detect.violations(rows, BUILT_IN, declared, Judges(declared), NOW)
    assert hit.subject.destination_host == "s3.us-east-1.amazonaws.com"
    assert (hit.details["policy"], hit.details["region"]) == ("eu", "us-east-1")


LONG_AGO = NOW - timedelta(days=30)


@pytest.mark.parametrize(
    ("caller", "destination", "new"),
    [
        (LONG_AGO, None, True),
        (LONG_AGO, MINUTE + timedelta(seconds=1), True),
        (LONG_AGO, LONG_AGO, False),
        (NOW - timedelta(hours=1), None, False),
        (None, None, False),
    ],
)
def test_a_destination_is_new_for_a_workload_that_is_known(
    caller: datetime | None, destination: datetime | None, new: bool
):
    rows = frame(row())
    [subject] = detect.pairs(rows)
    hits = list(detect.new_destinations(rows, BUILT_IN, {subject: FirstSeen(caller, destination)}, NOW))
    assert bool(hits) is new


def volume(sent: int, busiest: int = 60_000_000, hours: int = 100) -> list[Hit]:
    found = Volume(Subject(None, "shop", "cart"), MINUTE, sent, busiest, hours, MINUTE)
    return list(detect.volumes([found], BUILT_IN, NOW))


def test_a_volume_is_sudden_beyond_five_times_the_average_minute_of_the_busiest_hour():
    # 60 MB in the busiest hour are 1 MB a minute; nothing below 10 MB counts.
    assert not volume(9_000_000)
    assert volume(11_000_000)
    assert not volume(11_000_000, busiest=180_000_000)
    assert volume(16_000_000, busiest=180_000_000)


def test_a_workload_with_little_history_has_no_sudden_volume():
    assert not volume(10**9, hours=23)


def test_a_rule_concerns_whom_it_names():
    rules = AlertRules(rules=(Rule(name="b", kind="blackhole", only=Match(namespaces=("pay*",))),))
    assert not blackholes(blocked(), rules=rules)
    assert blackholes(blocked(source_namespace="payments"), rules=rules)


def test_a_mute_holds_until_it_ends():
    def muted(until: datetime | None) -> AlertRules:
        return AlertRules(
            rules=BUILT_IN.rules, mute=(Mute(hosts=("*.example",), until=until, reason="known"),)
        )

    assert not blackholes(blocked(), rules=muted(None))
    assert not blackholes(blocked(), rules=muted(NOW + timedelta(hours=1)))
    assert blackholes(blocked(), rules=muted(NOW - timedelta(hours=1)))
    assert blackholes(blocked(destination_host="evil.test"), rules=muted(None))


def test_old_windows_are_read_over():
    assert not blackholes(blocked(window_start=NOW - timedelta(days=2)))


# --- the book -----------------------------------------------------------------------------------------------


def test_a_row_that_grows_is_one_incident_with_its_newest_count():
    [one] = book_of(
        blackholes(blocked(requests=1, last_offset=5)), blackholes(blocked(requests=4, last_offset=9))
    )
    assert one.count == 4


def test_an_older_or_repeated_row_changes_nothing():
    newest = blocked(requests=4, last_offset=9)
    [one] = book_of(blackholes(newest), blackholes(blocked(requests=1, last_offset=5)), blackholes(newest))
    assert one.count == 4


def test_newer_rules_beat_all_rows_by_older_ones():
    [one] = book_of(
        blackholes(blocked(requests=7, last_offset=900)),
        blackholes(blocked(requests=2, last_offset=5, rules_version=2)),
    )
    assert one.count == 2


def test_rows_of_several_partitions_and_minutes_add_up():
    rows = [
        blocked(requests=2),
        blocked(requests=3, partition=1),
        blocked(requests=4, window_start=MINUTE + timedelta(minutes=1)),
    ]
    [one] = book_of(blackholes(*rows))
    assert (one.count, one.first_seen) == (9, MINUTE)


def test_other_callers_and_destinations_are_other_incidents():
    book = book_of(blackholes(blocked(), blocked(source_workload="web"), blocked(destination_port=80)))
    assert len({one.id for one in book}) == 3


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1), st.integers(1, 9)), min_size=1, max_size=30),
    st.data(),
)
def test_a_crash_anywhere_gives_the_same_incident(steps: list[tuple[int, int, int]], data: st.DataObject):
    rows, totals = [], {}
    for at, (minute, partition, more) in enumerate(sorted(steps)):
        totals[minute, partition] = totals.get((minute, partition), 0) + more
        rows.append(
            blocked(
                window_start=MINUTE - timedelta(minutes=20 - minute), partition=partition,
                requests=totals[minute, partition], last_offset=at,
            )
        )  # fmt: skip
    hits = blackholes(*rows)
    [whole] = book_of(hits)
    # Stored up to a point, then read again from an earlier one (what was stored but not committed).
    stored = data.draw(st.integers(1, len(hits)))
    again = data.draw(st.integers(max(0, stored - 3), stored))
    first = book_of(hits[:stored])
    second = Book(60)
    second.restore(Incident(**vars(one)) for one in first)
    second.apply(hits[again:], NOW)
    [after] = second
    assert after.id == whole.id
    assert after.count == whole.count == sum(totals.values())


def test_an_incident_of_many_rows_remembers_some_and_counts_all():
    rows = [blocked(partition=number, requests=2) for number in range(300)]
    [one] = book_of(blackholes(*rows))
    assert one.count == 600
    assert len(one.counted) == 200


def test_an_incident_is_over_after_its_rules_time_and_a_later_one_is_another():
    book = book_of(blackholes(blocked()))
    [first] = book
    rules = {"blackhole": timedelta(minutes=15)}
    book.resolve(rules, MINUTE + timedelta(minutes=10))
    assert [one.state for one in book] == ["firing"]
    book.resolve(rules, MINUTE + timedelta(minutes=16))
    assert [one.state for one in book] == ["resolved"]
    book.apply(blackholes(blocked(window_start=NOW)), NOW)
    assert len({one.id for one in book}) == 2
    assert first.id in {one.id for one in book}


def test_what_was_new_once_is_never_new_again():
    rows = frame(row())
    [subject] = detect.pairs(rows)
    hits = list(detect.new_destinations(rows, BUILT_IN, {subject: FirstSeen(LONG_AGO, None)}, NOW))
    [one] = book_of(hits)
    later = Book(60)
    later.apply(hits, NOW, over=frozenset({one.id}))
    assert len(later) == 0


def test_a_storm_is_bounded_and_says_what_it_suppressed():
    rows = [blocked(destination_host=f"host-{number}.example") for number in range(100)]
    book = book_of(blackholes(*rows), blackholes(*rows), limit=10)
    opened = [one for one in book if one.kind == "blackhole"]
    [storm] = [one for one in book if one.kind == "storm"]
    assert len(opened) == 10
    assert storm.count == 90
    assert storm.details["blackhole"] == "90"
    assert "host-99.example" not in storm.details["examples"]
    assert storm.summary == "90 incidents were not opened: more than 10 began in a minute"


def test_a_receiver_is_untold_until_it_was_told_each_state():
    book = book_of(blackholes(blocked()))
    [one] = book.untold("webhook")
    book.tell([(one.id, "webhook", "firing")])
    assert book.untold("webhook") == []
    book.resolve({}, NOW)
    assert [one.state for one in book.untold("webhook")] == ["resolved"]
    book.tell([(one.id, "webhook", "resolved")])
    book.changed()
    book.forget(["webhook"])
    assert len(book) == 0


# --- messages -----------------------------------------------------------------------------------------------


def test_a_message_keeps_to_its_schema_and_its_summary_is_harmless():
    [one] = book_of(blackholes(blocked(destination_host="\x1b[31mevil\u202e.example")))
    message = AlertMessage.model_validate_json(as_json(one))
    assert message.destination_host == "\x1b[31mevil\u202e.example"
    assert message.summary.isprintable()


def test_alertmanager_gets_the_same_labels_while_an_incident_goes_on():
    [early] = book_of(blackholes(blocked()))
    [late] = book_of(blackholes(blocked(), blocked(window_start=MINUTE + timedelta(minutes=1))))
    first, second = alertmanager_alert(early, NOW), alertmanager_alert(late, NOW + timedelta(minutes=1))
    assert first["labels"] == second["labels"]
    assert first["startsAt"] == second["startsAt"]
    assert first["labels"]["severity"] == "critical"
    json.dumps(first)


def test_an_url_is_named_without_its_secrets():
    assert (
        masked("https://user:pw@hooks.example:8443/T0/B0/secret?token=x") == "https://hooks.example:8443/..."
    )


# --- the rules file -----------------------------------------------------------------------------------------


def test_the_printed_rules_are_a_rules_file(tmp_path: Path):
    printed = CliRunner().invoke(cli, ["alerts", "rules"]).output
    path = tmp_path / "rules.yaml"
    path.write_text(printed)
    assert read_rules(path) == BUILT_IN


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [{name: a, kind: nonsense}]", "rules.0.kind"),
        ("rules: [{name: a, kind: blackhole, factor: 3}]", "factor is for rules of kind volume"),
        ("rules: [{name: a, kind: blackhole}, {name: a, kind: volume}]", "two rules have the name a"),
        ("rules: [{name: a, kind: blackhole}]\nmute: [{hosts: ['*']}]", "mute.0.reason"),
        ("rulez: []", "rulez"),
        ("rules: [", "cannot read"),
    ],
)
def test_a_wrong_rules_file_is_explained(tmp_path: Path, text: str, said: str):
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(RulesError, match=said):
        read_rules(path)
    done = CliRunner().invoke(cli, ["alerts", "rules"], env={"EGRESSLENS_ALERT_RULES": str(path)})
    assert done.exit_code == 78
    assert said in done.output
