"""The product's side of the demo: Kafka, the store, the worker and all others, as their own commands."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from egresslens.clickhouse.client import connect
from egresslens.clickhouse.migrate import migrate
from egresslens.demo.declared import HOME_REGION, HOME_ZONE, as_yaml
from egresslens.demo.plan import GATEWAY, GATEWAY_NAMESPACE, NAMESPACE, World
from egresslens.demo.process import Parts
from egresslens.demo.steps import step
from egresslens.kafka.broker import free_port
from egresslens.settings import PREFIX, Settings, load
from egresslens.store.passwords import load as load_passwords

# The first start fetches Kafka's jars.
_KAFKA_S: Final = 300.0
_START_S: Final = 60.0

_COMMAND: Final = (sys.executable, "-c", "from egresslens.cli import main; main()")
_KAFKA_SAYS: Final = "Apache Kafka"
_STORE_SAYS: Final = "store listening on "
_REGISTRY_SAYS: Final = " added, "


@dataclass(frozen=True)
class Proxy:
    """An Envoy whose access log is shipped, and the pod it stands for."""

    workload: str
    namespace: str
    pod: str

    def options(self) -> list[str]:
        """What its shipper is told of it."""
        known = {
            "pod": self.pod,
            "namespace": self.namespace,
            "workload": self.workload,
            "cluster": "demo",
            "region": HOME_REGION,
            "zone": HOME_ZONE,
            "node": "loopback",
            "container": "istio-proxy",
        }
        return [text for name, value in known.items() for text in (f"--{name}", value)]


PROXIES: Final = (
    Proxy("idgen", NAMESPACE, "idgen-7c9f8d6b5-x2x7q"),
    Proxy("checkout", NAMESPACE, "checkout-5f6d8c7b9-k4w2z"),
    Proxy(GATEWAY, GATEWAY_NAMESPACE, f"{GATEWAY}-6b8c9d7f5-m9t4h"),
)


@dataclass(frozen=True)
class Pipeline:
    """What runs: its folder, its settings, and the same settings as an environment for commands."""

    folder: Path
    settings: Settings
    environ: Mapping[str, str]

    @property
    def settings_file(self) -> Path:
        """The same settings as a file, for people's commands."""
        return self.folder / "settings.toml"

    @property
    def registry(self) -> Path:
        """The folder with what is declared about the mesh."""
        return self.folder / "registry"


def start(parts: Parts, folder: Path, out: Console) -> Pipeline:
    """Start Kafka, the store, the worker and the console, with the tables made; wait until they are ready.

    Raises:
        PartError: one died or did not become ready.
    """
    port = free_port()
    with step(out, "Starting Apache Kafka") as say:
        kafka = parts.start(
            "Kafka",
            [*_COMMAND, "kafka", "--dir", str(folder / "kafka"), "--port", str(port)],
            _log(folder, "kafka"),
            _environ({}),
        )
        kafka.wait_until(lambda: _KAFKA_SAYS in kafka.log.read_text(), _KAFKA_S)
        say(f"127.0.0.1:{port}")
    with step(out, "Starting the embedded ClickHouse") as say:
        store = parts.start(
            "the store",
            [*_COMMAND, "store", "--dir", str(folder / "store"), "--port", "0"],
            _log(folder, "store"),
            _environ({}),
        )
        store.wait_until(lambda: _url(store.log) != "", _START_S)
        say(_url(store.log))
    pipeline = _configured(folder, f"127.0.0.1:{port}", _url(store.log))
    with step(out, "Making the tables and views"), connect(pipeline.settings, "writer") as client:
        migrate(client, pipeline.settings)
    with step(out, "Starting the worker") as say:
        worker = parts.start(
            "the worker", [*_COMMAND, "worker"], _log(folder, "worker"), _environ(pipeline.environ)
        )
        worker.wait_until(lambda: _answers(f"{worker_url(pipeline)}/readyz"), _START_S)
        say(worker_url(pipeline))
    with step(out, "Starting the console") as say:
        console = parts.start(
            "the console", [*_COMMAND, "console"], _log(folder, "console"), _environ(pipeline.environ)
        )
        console.wait_until(lambda: _answers(f"{console_url(pipeline)}healthz"), _START_S)
        say(console_url(pipeline))
    return pipeline


def start_registry(parts: Parts, pipeline: Pipeline, world: World) -> None:
    """Declare the mesh, and start what judges its traffic and what alerts.

    Raises:
        PartError: the registry died or was not loaded.
    """
    pipeline.registry.mkdir()
    (pipeline.registry / "mesh.yaml").write_text(as_yaml(world))
    environ = _environ(pipeline.environ)
    watch = ["registry", "watch", str(pipeline.registry), "--interval", "2s"]
    registry = parts.start("the registry", [*_COMMAND, *watch], _log(pipeline.folder, "registry"), environ)
    registry.wait_until(lambda: _REGISTRY_SAYS in registry.log.read_text(), _START_S)
    parts.start("the alerts", [*_COMMAND, "alerts", "run"], _log(pipeline.folder, "alerts"), environ)


def start_shippers(parts: Parts, pipeline: Pipeline, logs: Mapping[str, Path]) -> None:
    """Start one shipper per access log (by workload)."""
    for proxy in PROXIES:
        position = pipeline.folder / "positions" / f"{proxy.workload}.json"
        command = ["ship", str(logs[proxy.workload]), "--position", str(position), *proxy.options()]
        name = f"ship-{proxy.workload}"
        parts.start(
            f"the shipper of {proxy.workload}",
            [*_COMMAND, *command],
            _log(pipeline.folder, name),
            _environ(pipeline.environ),
        )


def worker_url(pipeline: Pipeline) -> str:
    """Where the worker answers."""
    return f"http://{pipeline.settings.web_host}:{pipeline.settings.web_port}"


def console_url(pipeline: Pipeline) -> str:
    """Where the web page is."""
    return f"http://{pipeline.settings.console_host}:{pipeline.settings.console_port}/"


def _configured(folder: Path, brokers: str, clickhouse: str) -> Pipeline:
    passwords = load_passwords(folder / "store")
    environ = {
        "EGRESSLENS_KAFKA_BROKERS": brokers,
        "EGRESSLENS_CLICKHOUSE_URL": clickhouse,
        "EGRESSLENS_CLICKHOUSE_USER": "writer",
        "EGRESSLENS_CLICKHOUSE_PASSWORD": passwords.writer,
        "EGRESSLENS_CLICKHOUSE_READER_USER": "reader",
        "EGRESSLENS_CLICKHOUSE_READER_PASSWORD": passwords.reader,
        "EGRESSLENS_WEB_PORT": str(free_port()),
        "EGRESSLENS_ALERTS_WEB_PORT": str(free_port()),
        "EGRESSLENS_CONSOLE_PORT": str(free_port()),
        "EGRESSLENS_DATA_DIR": str(folder / "worker"),
    }
    pipeline = Pipeline(folder, load(environ), environ)
    lines = (
        f"{name.removeprefix(PREFIX).lower()} = {json.dumps(value)}\n" for name, value in environ.items()
    )
    pipeline.settings_file.touch(mode=0o600)
    pipeline.settings_file.write_text("".join(lines))
    return pipeline


def _environ(settings: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment with these settings alone: the caller's may mean a real mesh's Kafka."""
    others = {key: value for key, value in os.environ.items() if not key.upper().startswith(PREFIX)}
    return others | dict(settings)


def _log(folder: Path, name: str) -> Path:
    return folder / "logs" / f"{name}.log"


def _url(log: Path) -> str:
    """The URL a store says it listens on; empty while it has not."""
    said = [line for line in log.read_text().splitlines() if line.startswith(_STORE_SAYS)]
    return said[-1].removeprefix(_STORE_SAYS).strip() if said else ""


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:  # noqa: S310 - the worker's, on loopback
            return bool(response.status == 200)
    except OSError:
        return False
