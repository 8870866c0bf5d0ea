"""The example queries' files, and `egresslens sql` without a server."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner

from egresslens.cli import cli
from egresslens.clickhouse import schema
from egresslens.report.query import saved


def test_every_example_query_says_what_it_answers():
    assert len(saved()) >= 10
    for one in saved().values():
        assert one.about.endswith((".", "host.")), one.name
        assert one.text.startswith("SELECT"), one.name
        assert "--" not in one.text, one.name


def test_every_example_query_reads_published_views_only():
    for one in saved().values():
        assert "raw_" not in one.text, one.name
        assert not re.search(
            r"\w+\.\w+", re.sub(r"\w+\.(first_seen|last_seen|proved_by|mismatches)|'[^']*'", "", one.text)
        )


def test_example_queries_are_no_migrations():
    assert not any("saved" in one.name for one in schema.migrations(schema.folder()))


def test_the_list_shows_each_query_with_its_text():
    done = CliRunner().invoke(cli, ["sql", "--saved", "--format", "json"])
    rows = [json.loads(line) for line in done.output.splitlines()]
    assert [row["name"] for row in rows] == list(saved())
    text = CliRunner().invoke(cli, ["sql", "--saved"]).output
    assert all(f"@{name}" in text for name in saved())


@pytest.mark.parametrize("query", ["@nonsense"])
def test_an_unknown_example_query_is_explained(query: str):
    done = CliRunner().invoke(cli, ["sql", query], env={"EGRESSLENS_CLICKHOUSE_URL": "http://127.0.0.1:1"})
    assert done.exit_code in (2, 69)
