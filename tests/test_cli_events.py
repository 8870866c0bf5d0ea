"""The options of `egresslens events`, and what a search asks for."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from egresslens.cli import cli
from egresslens.report.ask import Selection
from egresslens.report.records import Search


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--code", "6xx"], "no response code"),
        (["--code", "abc"], "no response code"),
        (["--follow", "--until", "2026-11-01"], "goes on for ever"),
        (["--label", "inbound"], "is not one of"),
    ],
)
def test_a_wrong_option_is_explained(options: list[str], said: str):
    done = CliRunner().invoke(cli, ["events", *options])
    assert done.exit_code == 2
    assert said in done.output


def test_a_search_for_nothing_in_particular_has_no_conditions():
    assert Search(Selection()).conditions() == []


def test_no_value_of_a_search_is_part_of_its_sql():
    hostile = "x' OR 1 = 1 --"
    wanted = Search(
        Selection(hostile, hostile, hostile, hostile),
        label=hostile,
        request_id=hostile,
        path=hostile,
        flags=(hostile,),
    )
    assert hostile not in " ".join(wanted.conditions())
    assert hostile in wanted.parameters().values()


def test_codes_and_classes_of_codes_are_told_apart():
    values = Search(Selection(), codes=("503", "4xx", "0")).parameters()
    assert (values["codes"], values["hundreds"]) == ([503, 0], [4])
