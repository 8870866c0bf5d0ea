"""The schema's files: what they become for one server and for a cluster."""

import re
from pathlib import Path

import pytest

from egresslens.clickhouse import schema
from egresslens.clickhouse.migrate import script
from egresslens.settings import Settings

SINGLE = script(Settings())
CLUSTER = script(Settings(cluster="main"))


def table_of(statement: str) -> str:
    found = re.search(r"egresslens\.(\w+)", statement)
    assert found, statement
    return found[1]


def test_every_statement_may_run_twice():
    again = re.compile(
        r"CREATE (TABLE|DATABASE|MATERIALIZED VIEW) IF NOT EXISTS"
        r"|CREATE OR REPLACE VIEW"
        r"|ALTER TABLE \S+ *(ON CLUSTER 'main')?\s*MODIFY TTL"
    )
    for statement in [*SINGLE, *CLUSTER]:
        assert again.match(statement), statement


def test_a_single_server_knows_no_cluster():
    text = "\n".join(SINGLE)
    assert not re.search(r"ON CLUSTER|Replicated|Distributed|_local\b", text)


def test_on_a_cluster_every_statement_is_for_all_of_it():
    for statement in CLUSTER:
        assert "ON CLUSTER 'main'" in statement, statement


def test_on_a_cluster_every_table_that_holds_rows_is_replicated():
    engines = [
        re.search(r"ENGINE = (\w+)", one) for one in CLUSTER if "_local ON CLUSTER" in one.splitlines()[0]
    ]
    found = [engine[1] for engine in engines if engine]
    assert found
    assert all(name.startswith("Replicated") for name in found)


def test_on_a_cluster_every_table_is_reached_through_a_distributed_one():
    stored = {table_of(one) for one in CLUSTER if "ENGINE = Replicated" in one}
    spread = {table_of(one) for one in CLUSTER if "ENGINE = Distributed" in one}
    assert stored == {f"{name}_local" for name in spread}
    assert {table_of(one) for one in SINGLE if "ENGINE =" in one} == spread


@pytest.mark.parametrize(
    "table",
    [
        "raw_events",
        "raw_windows_1m",
        "raw_windows_1h",
        "raw_windows_1d",
        "raw_changed_hours",
        "raw_rolled",
        "raw_destinations",
        "raw_progress",
        "raw_dead_letters",
    ],
)
def test_what_belongs_to_a_kafka_partition_stays_on_one_shard(table: str):
    (statement,) = [one for one in CLUSTER if "ENGINE = Distributed" in one and table_of(one) == table]
    assert statement.endswith(
        f"Distributed('main', 'egresslens', {table}_local, cityHash64(topic, partition))"
    )


def test_views_read_through_the_distributed_tables():
    views = [one for one in CLUSTER if one.startswith("CREATE OR REPLACE VIEW")]
    assert views
    assert not any(re.search(r"_local\b", view) for view in views)


def test_what_follows_the_minutes_is_fed_on_the_shard_that_holds_them():
    (feed,) = [one for one in CLUSTER if "MATERIALIZED VIEW" in one]
    assert "TO egresslens.raw_changed_hours_local" in feed
    assert "FROM egresslens.raw_windows_1m_local" in feed


def test_retention_is_in_days_of_the_settings():
    text = "\n".join(script(Settings(events_ttl_days=3, dead_letters_ttl_days=5)))
    assert "raw_events\nMODIFY TTL toDateTime(kafka_timestamp, 'UTC') + INTERVAL 3 DAY" in text
    assert "raw_dead_letters\nMODIFY TTL toDateTime(kafka_timestamp, 'UTC') + INTERVAL 5 DAY" in text


def test_destinations_and_progress_are_kept_for_ever():
    limited = {table_of(one) for one in SINGLE if "MODIFY TTL" in one}
    assert limited.isdisjoint({"raw_destinations", "raw_progress", "raw_alerts", "raw_rules"})


def test_an_unknown_placeholder_is_an_error():
    with pytest.raises(KeyError, match="nonsense"):
        schema.render("SELECT ${nonsense};\n", Settings())


def test_a_semicolon_in_a_comment_ends_no_statement():
    assert schema.render("-- one; two\nSELECT 1;\n", Settings()) == ["SELECT 1"]


def test_migrations_are_read_in_the_order_of_their_numbers(tmp_path: Path):
    for name in ("0010_b.sql", "0002_a.sql", "0000_migrations.sql", "views.sql"):
        (tmp_path / name).write_text("")
    assert [(one.number, one.name) for one in schema.migrations(tmp_path)] == [(2, "a"), (10, "b")]


def test_two_migrations_of_one_number_are_refused(tmp_path: Path):
    for name in ("0001_a.sql", "0001_b.sql"):
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match="two migrations are numbered 1: a and b"):
        schema.migrations(tmp_path)
