"""docs/reference/metrics.md says of each metric what the program says."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram

from egresslens.istio import FAMILIES, HTTP_LABELS, PREFIX, TCP_LABELS
from egresslens.metrics import AlertsMetrics, StreamMetrics, WorkerMetrics

PAGE = (Path(__file__).parent.parent / "docs" / "reference" / "metrics.md").read_text()


def row(name: str, kind: str, labels: tuple[str, ...], text: str) -> str:
    return f"| `{name}` | {kind} | {' '.join(f'`{one}`' for one in labels)} | {text} |"


def rows(metrics: StreamMetrics) -> list[str]:
    found = []
    for one in metrics.registry._collector_to_names:
        if isinstance(one, Counter | Gauge | Histogram):
            suffix = "_total" if isinstance(one, Counter) else ""
            found.append(row(one._name + suffix, one._type, tuple(one._labelnames), one._documentation))
    return found


ROWS = [
    *dict.fromkeys([*rows(StreamMetrics()), *rows(WorkerMetrics(1)), *rows(AlertsMetrics())]),
    *(
        row(PREFIX + name, kind, TCP_LABELS if name.startswith("tcp") else HTTP_LABELS, text)
        for name, (kind, text) in FAMILIES.items()
    ),
]


@pytest.mark.parametrize("line", ROWS, ids=[line.split("`")[1] for line in ROWS])
def test_a_metric_is_documented_as_it_is(line: str):
    assert line in PAGE.splitlines()


def test_nothing_is_documented_that_is_not():
    assert [
        line for line in PAGE.splitlines() if line.startswith("| `egresslens_") and line not in ROWS
    ] == []


def test_egress_metrics_can_be_switched_off():
    assert WorkerMetrics(0).istio is None
    assert PREFIX.encode() not in WorkerMetrics(0).exposition()
    assert PREFIX.encode() in WorkerMetrics(1).exposition()


def test_what_an_alert_waits_for_begins_at_0():
    # Prometheus sees no increase in a counter that was not there before.
    metrics = WorkerMetrics(0)
    metrics.assigned({"egress.access-log"})
    text = metrics.exposition().decode().splitlines()
    assert 'egresslens_records_total{label="blackhole"} 0.0' in text
    assert 'egresslens_rejected_total{reason="invalid_json"} 0.0' in text
    assert 'egresslens_gap_offsets_total{topic="egress.access-log"} 0.0' in text
    assert "egresslens_assignments_total 1.0" in text


if __name__ == "__main__":
    print("\n".join(ROWS))
