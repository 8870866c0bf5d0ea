"""What examples/istio/ has proxies write: formats as Envoy takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

ISTIO = Path(__file__).parent.parent / "examples/istio"

Format = str | dict[str, str]


def mesh_config(file: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ISTIO / file).read_text())["meshConfig"]
    return found


def provider(file: str) -> dict[str, Any]:
    (found,) = mesh_config(file)["extensionProviders"]
    return found


def json_labels() -> dict[str, str]:
    """The recommended format."""
    labels: dict[str, str] = provider("provider-json.yaml")["envoyFileAccessLog"]["logFormat"]["labels"]
    return labels


def json_mesh_wide() -> dict[str, str]:
    found: dict[str, str] = json.loads(mesh_config("mesh-config-json.yaml")["accessLogFormat"])
    return found


def text() -> str:
    found: str = mesh_config("mesh-config-text.yaml")["accessLogFormat"]
    return found


def otel_labels() -> dict[str, str]:
    labels: dict[str, str] = provider("provider-otel.yaml")["envoyOtelAls"]["logFormat"]["labels"]
    return labels
