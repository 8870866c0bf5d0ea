"""The Prometheus rules: metrics that exist, and what an alert needs."""

from __future__ import annotations

import re

import pytest
import yaml

from egresslens import resources
from egresslens.metrics import AlertsMetrics, WorkerMetrics

FILE = resources.schemas() / "prometheus" / "egresslens.yml"
RULES = [rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]]


def names_and_labels() -> dict[str, set[str]]:
    """Each metric's name as Prometheus sees it, and its labels."""
    found: dict[str, set[str]] = {}
    for metrics in (WorkerMetrics(0), AlertsMetrics()):
        for collector in metrics.registry._collector_to_names:
            if hasattr(collector, "_labelnames"):
                suffix = "_total" if collector._type == "counter" else ""
                found[collector._name + suffix] = set(collector._labelnames)
    return found


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_a_rule_asks_for_metrics_and_labels_that_exist(rule: dict):
    known = names_and_labels()
    metrics = re.findall(r"egresslens_\w+", rule["expr"])
    assert metrics
    assert set(metrics) <= set(known)
    labels = set(re.findall(r"(\w+)=", rule["expr"]))
    labels |= {one.strip() for text in re.findall(r"by \(([^)]*)\)", rule["expr"]) for one in text.split(",")}
    assert labels <= set().union(*(known[name] for name in metrics))


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_a_rule_says_how_bad_it_is_and_what_it_means(rule: dict):
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert rule["annotations"]["summary"]


def test_no_two_rules_have_one_name():
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
