"""Which tier answers a report, and its answer as text."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timedelta, timezone

import polars as pl
import pytest
from click.testing import CliRunner

from egresslens.cli import cli
from egresslens.clickhouse.text import like
from egresslens.report import Answer, Period, Selection, period
from egresslens.report.shape import to_csv, to_json, to_markdown
from egresslens.settings import Settings

NOW = datetime(2026, 11, 24, 10, 20, 30, tzinfo=timezone.utc)
DAY = datetime(2026, 11, 23, tzinfo=timezone.utc)
SETTINGS = Settings()


@pytest.mark.parametrize(
    ("hours", "tier"), [(1, "1m"), (6, "1m"), (24, "1h"), (14 * 24, "1h"), (15 * 24, "1d")]
)
def test_a_longer_range_is_read_from_longer_windows(hours: int, tier: str):
    assert period(SETTINGS, NOW - timedelta(hours=hours), NOW, NOW, exact=False).tier == tier


def test_a_range_is_widened_to_whole_windows():
    found = period(SETTINGS, NOW - timedelta(hours=24), NOW, NOW, exact=False)
    assert found == Period(DAY.replace(hour=10), NOW.replace(hour=11, minute=0, second=0), "1h")


@pytest.mark.parametrize(
    ("since", "until", "tier"),
    [
        (DAY, DAY + timedelta(hours=20), "1h"),
        (DAY + timedelta(minutes=15), DAY + timedelta(hours=20), "1m"),
        (DAY - timedelta(days=30), DAY, "1d"),
        (DAY - timedelta(days=30, hours=1), DAY, "1h"),
        (DAY, NOW, "1h"),
    ],
)
def test_named_ends_are_answered_to_the_minute(since: datetime, until: datetime, tier: str):
    assert period(SETTINGS, since, until, NOW, exact=True).tier == tier


def test_where_minutes_are_no_longer_kept_hours_answer():
    then = DAY - timedelta(days=SETTINGS.windows_1m_ttl_days + 2)
    found = period(SETTINGS, then + timedelta(minutes=15), then + timedelta(hours=2), NOW, exact=True)
    assert found == Period(then, then + timedelta(hours=2), "1h")


@pytest.mark.parametrize(
    ("pattern", "read"),
    [("*.example.com", "%.example.com"), ("100%", "100\\%"), ("a_b", "a\\_b"), ("\\", "\\\\")],
)
def test_only_a_star_stands_for_any_text(pattern: str, read: str):
    assert like(pattern) == read


# --- hostile names ------------------------------------------------------------------------------------------

HOSTILE = [
    '=HYPERLINK("http://evil")', "+1", "-1", "@SUM(A1)", "\x1b[31mred", 'a,b"c', "line\nbreak", "\u202eevil",
    "|pipe|", "[link](http://evil)", "<script>", "`code`", "--", "'; DROP TABLE events", "$(reboot)",
    "- yaml: x",
]  # fmt: skip


def answer(*hosts: str) -> Answer:
    rows = pl.DataFrame({"destination_host": list(hosts), "requests": [1] * len(hosts)})
    return Answer("external", Period(DAY, NOW, "1h"), Selection(), rows, 0)


@pytest.mark.parametrize("host", HOSTILE)
def test_a_csv_cell_is_no_formula_and_no_escape(host: str):
    text = to_csv(answer(host).rows)
    _, row = csv.reader(io.StringIO(text))
    assert row[0][0] not in "=+-@\t\r\n"
    assert row[0].isprintable()
    assert row[1] == "1"


@pytest.mark.parametrize("host", HOSTILE)
def test_json_keeps_the_name_and_is_ascii(host: str):
    text = to_json(answer(host), {"rows": answer(host).rows})
    assert json.loads(text)["rows"][0]["destination_host"] == host
    assert text.isascii()
    assert "\x1b" not in text


@pytest.mark.parametrize("host", HOSTILE)
def test_a_markdown_row_is_one_line_of_two_cells_without_markup(host: str):
    *_, row = to_markdown(answer(host).rows).split("\n")
    assert row.isprintable()
    assert row.replace("\\\\", "").replace("\\|", "").count("|") == 3
    assert "<script" not in row
    assert "[link](" not in row


def test_json_says_what_it_is_about():
    head = json.loads(to_json(answer(), {"rows": answer().rows}))
    assert (head["report"], head["since"], head["tier"]) == ("external", "2026-11-23T00:00:00.000Z", "1h")


# --- options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nonsense"], "is not one of"),
        (["external", "--since", "1h", "--from", "2026-11-01"], "exclude each other"),
        (["external", "--from", "2026-11-02", "--until", "2026-11-01"], "the range is empty"),
        (["external", "--since", "soon"], "no length of time"),
    ],
)
def test_a_wrong_option_is_explained(options: list[str], said: str):
    done = CliRunner().invoke(cli, ["report", *options])
    assert done.exit_code == 2
    assert said in done.output


def test_a_store_that_is_away_is_named():
    done = CliRunner().invoke(
        cli, ["report", "external"], env={"EGRESSLENS_CLICKHOUSE_URL": "http://127.0.0.1:1"}
    )
    assert done.exit_code == 69
    assert "http://127.0.0.1:1" in done.output
