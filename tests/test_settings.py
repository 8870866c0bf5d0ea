"""Settings: validated once, at the door."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from egresslens.rules import Rules
from egresslens.settings import PREFIX, Settings, SettingsError, load

ROOT = Path(__file__).parent.parent


def test_every_setting_has_a_variable():
    values = {"EGRESSLENS_KAFKA_BROKERS": "a:1,b:2", "EGRESSLENS_EVENTS_TTL_DAYS": "7", "HOME": "/root"}
    settings = load(values)
    assert (settings.kafka_brokers, settings.events_ttl_days) == ("a:1,b:2", 7)


def test_a_misspelt_variable_stops_the_start_and_names_the_likely_one():
    with pytest.raises(
        SettingsError, match=r"EGRESSLENS_KAFKA_BROKER is not a setting.*EGRESSLENS_KAFKA_BROKERS\?"
    ):
        load({"EGRESSLENS_KAFKA_BROKER": "x"})


def test_a_misspelt_key_of_the_file_names_the_file_and_the_likely_key(tmp_path):
    file = tmp_path / "egresslens.toml"
    file.write_text("kafka_grup = 'x'\n")
    with pytest.raises(
        SettingsError, match=r"egresslens.toml: kafka_grup is not a setting; did you mean kafka_group"
    ):
        load({}, file)


def test_the_environment_wins_over_the_file(tmp_path):
    file = tmp_path / "egresslens.toml"
    file.write_text("kafka_group = 'file'\nkeep_query = true\n")
    settings = load({"EGRESSLENS_KAFKA_GROUP": "environment", "EGRESSLENS_CONFIG_FILE": str(file)})
    assert (settings.kafka_group, settings.keep_query) == ("environment", True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEB_PORT", "99999"),
        ("CLICKHOUSE_URL", "localhost:8123"),
        ("CLICKHOUSE_URL", "http://user:secret@localhost:8123"),
        ("DATABASE", "a; DROP TABLE x"),
        ("CLUSTER", "c' ON"),
        ("CLICKHOUSE_URL", "http://localhost:8123/?password=secret"),
        ("KAFKA_BROKERS", "sasl://user:secret@kafka:9092"),
        ("KAFKA_BROKERS", ""),
        ("REDACT", "("),
        ("REDACT", '["(?<=token/)[^/]+"]'),
        ("LOG_FORMAT", "%REQ(A)%%REQ(B)%"),
        ("KEEP", "everything"),
    ],
)
def test_a_value_that_does_not_fit_names_its_variable(name, value):
    with pytest.raises(SettingsError, match=f"EGRESSLENS_{name}"):
        load({f"EGRESSLENS_{name}": value})


def test_secrets_are_masked():
    settings = load(
        {"EGRESSLENS_CLICKHOUSE_PASSWORD": "hunter2", "EGRESSLENS_KAFKA_SASL_PASSWORD": "hunter3"}
    )
    assert "hunter" not in str(settings.masked())
    assert "hunter" not in repr(settings)


def test_an_unset_secret_is_not_shown_as_one():
    assert load({}).masked()["clickhouse_password"] == ""


def test_several_formats_are_a_json_list_and_one_is_itself():
    one = "[%START_TIME%] %RESPONSE_CODE%"
    assert load({"EGRESSLENS_LOG_FORMAT": one}).log_format == (one,)
    assert load({"EGRESSLENS_LOG_FORMAT": f'["{one}", "%DURATION%"]'}).log_format == (one, "%DURATION%")


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load({}).kafka_group = "x"


def test_every_setting_is_described():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_rules_are_the_part_that_decides_what_is_stored():
    assert load({"EGRESSLENS_KEEP_QUERY": "true"}).rules == Rules(keep_query=True)


def test_equal_rules_have_equal_fingerprints_and_others_do_not():
    assert Rules().fingerprint == Rules().fingerprint
    assert Rules().fingerprint != Rules(keep_query=True).fingerprint


def test_every_variable_that_the_docs_name_is_a_setting():
    texts = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {name for path in texts for name in re.findall(rf"{PREFIX}([A-Z0-9_]+)", path.read_text())}
    known = {name.upper() for name in Settings.model_fields} | {"CONFIG_FILE"}
    assert named <= known
