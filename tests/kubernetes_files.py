"""The Helm chart: its schema of settings, and what it renders, as golden files.

`make chart` runs this: it writes values.schema.json and golden/kubernetes/ anew; the diff is the review.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final, get_args

import yaml
from pydantic import SecretStr

from egresslens.settings import Settings

CHART: Final = Path(__file__).parent.parent / "compose/kubernetes/egresslens"
GOLDEN: Final = Path(__file__).parent / "golden/kubernetes"
# Values of a release by the name of its golden file.
RELEASES: Final[dict[str, dict[str, Any]]] = {
    "default": {},
    "keda": {
        "settings": {
            "kafka_brokers": "kafka-0.kafka:9093,kafka-1.kafka:9093",
            "kafka_security_protocol": "SASL_SSL",
            "kafka_ssl_cafile": "/etc/egresslens/ca/ca.crt",
            "clickhouse_url": "https://clickhouse.example.com",
            "access_log_topics": ["mesh-a.access-log", "mesh-b.access-log"],
            "alert_rules": "/etc/egresslens/rules/rules.yaml",
            "alertmanager_url": "http://alertmanager:9093",
            "max_rejected_share": 0.5,
        },
        "files": [
            {"name": "ca", "secret": "kafka-ca", "path": "/etc/egresslens/ca"},
            {"name": "rules", "configMap": "egress-alert-rules", "path": "/etc/egresslens/rules"},
            {"name": "registry", "configMap": "mesh-objects", "path": "/etc/egresslens/registry"},
        ],
        "registry": {"enabled": True, "cluster": "mesh-a"},
        "worker": {"autoscaling": {"kind": "keda", "triggerAuthentication": "kafka"}},
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "networkPolicy": {
            "metricsFrom": [
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
            ],
            "consoleFrom": [
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}
            ],
            "egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
        },
    },
    "hpa": {
        "image": {"digest": "sha256:" + "0" * 64},
        "worker": {"autoscaling": {"kind": "hpa"}},
        "console": {"enabled": False},
        "networkPolicy": {"enabled": False},
    },
}
KUBERNETES: Final = "1.31"
# What the chart says itself.
CHARTS_OWN: Final = frozenset(
    (
        "web_host",
        "web_port",
        "alerts_web_port",
        "console_host",
        "console_port",
        "console_password_file",
        "data_dir",
    )
)


def allowed() -> list[str]:
    """The settings that may be values of the chart: all but secrets and what the chart says itself."""
    return [
        name
        for name, field in Settings.model_fields.items()
        if SecretStr not in (field.annotation, *get_args(field.annotation)) and name not in CHARTS_OWN
    ]


def schema(text: str) -> str:
    """The chart's schema with the settings of this version."""
    found = json.loads(text)
    properties = {
        name: {"description": Settings.model_fields[name].description, "$ref": "#/$defs/setting"}
        for name in allowed()
    }
    found["properties"]["settings"]["properties"] = properties
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def render(values: dict[str, Any], chart: Path = CHART) -> str:
    """What `helm template` makes of values.

    Raises:
        subprocess.CalledProcessError: helm refuses the values; its `stderr` says why.
    """
    command = ["helm", "template", "demo", str(chart), "--namespace", "egresslens", "--values", "-"]
    run = subprocess.run(
        [*command, "--kube-version", KUBERNETES],
        input=json.dumps(values), check=True, capture_output=True, text=True,
    )  # fmt: skip
    return run.stdout


def chart_sum() -> str:
    """A digest of all that rendering depends on: templates, values (not their comments), and the releases."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    digest = hashlib.sha256(json.dumps([values, RELEASES], sort_keys=True).encode())
    for file in (CHART / "Chart.yaml", *sorted((CHART / "templates").iterdir())):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def main() -> None:
    path = CHART / "values.schema.json"
    path.write_text(schema(path.read_text()))
    if shutil.which("helm") is None:
        print("the schema is written; golden files need helm: go install helm.sh/helm/v3/cmd/helm@latest")
        return
    GOLDEN.mkdir(exist_ok=True)
    for name, values in RELEASES.items():
        (GOLDEN / f"{name}.yaml").write_text(render(values))
    (GOLDEN / "chart.sha256").write_text(f"{chart_sum()}\n")


if __name__ == "__main__":
    main()
