"""Parameters of the API: what is taken, and what is said of the rest."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from egresslens.console.answers.advice import AdviceParams
from egresslens.console.answers.events import EventsParams
from egresslens.console.answers.graph import GraphParams
from egresslens.console.params import Labelled, Nothing, Ranged, read
from egresslens.console.problems import Problem

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


def problem(model, **given):
    with pytest.raises(Problem) as refused:
        read(model, {name.rstrip("_"): [value] for name, value in given.items()})
    return refused.value.details


def moments(**given: str) -> tuple[datetime, datetime]:
    return read(Ranged, {name.rstrip("_"): [value] for name, value in given.items()}).moments(NOW)


def test_without_a_range_it_is_the_last_day():
    assert moments() == (NOW - timedelta(days=1), NOW)


@pytest.mark.parametrize(
    ("text", "back"),
    [("90m", timedelta(minutes=90)), ("7d", timedelta(days=7)), ("4w", timedelta(weeks=4))],
)
def test_a_range_may_be_counted_back(text: str, back: timedelta):
    assert moments(since=text) == (NOW - back, NOW)


def test_advice_looks_back_from_now_where_the_end_is_to_come():
    until = (NOW + timedelta(days=1)).isoformat()
    asked = read(AdviceParams, {"since": ["7d"], "until": [until]})
    assert asked.looked_at(NOW) == (NOW - timedelta(days=7), NOW)


def test_advice_knows_nothing_of_what_is_to_come():
    asked = read(AdviceParams, {"from": [(NOW + timedelta(hours=1)).isoformat()]})
    with pytest.raises(Problem):
        asked.looked_at(NOW)


def test_a_range_may_be_counted_back_from_its_end():
    assert moments(since="1h", until="2026-11-23T10:00:00Z") == (
        datetime(2026, 11, 23, 9, tzinfo=timezone.utc),
        datetime(2026, 11, 23, 10, tzinfo=timezone.utc),
    )


@pytest.mark.parametrize("text", ["2026-11-23T10:00:00Z", "2026-11-23T11:00:00+01:00", "2026-11-23T10:00"])
def test_a_beginning_without_a_zone_is_in_utc(text: str):
    assert moments(from_=text)[0] == datetime(2026, 11, 23, 10, tzinfo=timezone.utc)


def test_a_range_longer_than_time_itself_begins_in_1970():
    assert moments(since="999999w")[0].year == 1970


def test_two_beginnings_exclude_each_other():
    assert "exclude" in problem(Ranged, since="1h", from_="2026-11-23T10:00:00Z").detail


def test_an_empty_range_is_refused():
    with pytest.raises(Problem, match="empty"):
        moments(from_="2026-11-25T00:00:00Z")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("since", "1y"), ("since", "-1h"), ("since", "1h "), ("from_", "yesterday"), ("until", "1066-01-01"),
        ("label", "outboun"), ("limit", "0"), ("limit", "100000"), ("limit", "many"), ("measure", "cost"),
        ("namespace", ""), ("host", "x" * 1001),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(name: str, value: str):
    found = problem(GraphParams, **{name: value})
    assert (found.status, found.parameter) == (400, name.rstrip("_"))


def test_what_is_no_parameter_is_named_with_the_one_that_was_meant():
    found = problem(GraphParams, namspace="shop")
    assert found.parameter == "namspace"
    assert "`namespace`" in found.detail


def test_where_there_are_no_parameters_it_says_so():
    assert problem(Nothing, since="1h").parameter == "since"


def test_a_parameter_that_is_given_twice_is_refused():
    with pytest.raises(Problem, match="twice"):
        read(Ranged, {"since": ["1h", "2h"]})


def test_labels_may_be_several():
    assert read(Labelled, {"label": ["outbound", "blackhole"]}).labels == ["outbound", "blackhole"]


def test_no_label_is_every_label():
    assert set(read(Labelled, {}).labels) == {"outbound", "passthrough", "blackhole", "unknown"}


@pytest.mark.parametrize("code", ["999x", "6xx", "ok", "5XX"])
def test_a_code_that_is_none_is_refused(code: str):
    assert problem(EventsParams, code=code).parameter == "code"


def test_the_parameters_name_is_not_repeated_without_bound():
    found = problem(Nothing, **{"x" * 5_000: "1"})
    assert len(found.detail) < 1_000
