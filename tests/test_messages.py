"""The topics' published schemas are the models', and the models' fields are the record's."""

from __future__ import annotations

import pytest

from egresslens import resources
from egresslens.messages import TOPICS, EnrichedRecord, WindowRow, json_schema
from egresslens.record import ENRICHED, WINDOW


@pytest.mark.parametrize("topic", TOPICS)
def test_the_published_schema_is_the_models(topic):
    written = (resources.schemas() / "topics" / f"{topic}.json").read_bytes()
    assert written == json_schema(TOPICS[topic]), "run `make schemas`"


def test_an_enriched_record_has_the_records_fields_in_order():
    assert tuple(EnrichedRecord.model_fields) == ENRICHED


def test_a_window_row_has_the_windows_columns_in_order():
    assert tuple(WindowRow.model_fields) == tuple(WINDOW)


@pytest.mark.parametrize("model", TOPICS.values())
def test_every_field_is_described(model):
    assert all(field.description for field in model.model_fields.values())
