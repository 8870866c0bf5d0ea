"""Every real line: its label and each field of its truth."""

from __future__ import annotations

import pytest

from samples_truth import differences, records, samples

SAMPLES = samples()
RECORDS = records([sample["raw"] for sample in SAMPLES])


@pytest.mark.parametrize("number", range(len(SAMPLES)), ids=[s["format"] for s in SAMPLES])
def test_a_real_line_is_read_and_labelled_as_is_true_of_it(number):
    assert differences(RECORDS[number], SAMPLES[number]["truth"]) == {}
