"""The demo's mesh alone, its traffic over and over: `python -m egresslens.demo.traffic FOLDER`.

Each Envoy writes its access log to `FOLDER/<workload>.log`, for shippers beside it; what is declared about
the mesh is `FOLDER/registry/mesh.yaml`. The image's target `demo` runs this (compose/demo.yaml).
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Final

from egresslens.demo.declared import as_yaml
from egresslens.demo.formats import ISTIO_JSON, ISTIO_TEXT, Format
from egresslens.demo.mesh import Mesh
from egresslens.demo.pipeline import PROXIES
from egresslens.demo.plan import GATEWAY, PHASES, new_world, random_block

_BETWEEN_CALLS_S: Final = 0.5


def access_logs(folder: Path) -> dict[str, dict[Path, Format]]:
    """What the Envoy of each workload writes, and where: text, and the gateway's in JSON."""
    return {
        proxy.workload: {
            folder / f"{proxy.workload}.log": ISTIO_JSON if proxy.workload == GATEWAY else ISTIO_TEXT
        }
        for proxy in PROXIES
    }


def send(folder: Path, stop: threading.Event) -> None:
    """Send the traffic of every phase in turn until `stop` is set.

    Raises:
        TrafficError: a call did not end as planned.
        PartError: an Envoy died or did not become ready.
    """
    world = new_world(random_block())
    registry = folder / "registry"
    registry.mkdir(exist_ok=True)
    (registry / "mesh.yaml").write_text(as_yaml(world))
    with (
        tempfile.TemporaryDirectory(prefix="egresslens-mesh-") as scratch,
        Mesh(world, Path(scratch), access_logs(folder)) as mesh,
    ):
        while True:
            for phase in PHASES:
                mesh.enter(phase)
                for _ in mesh.traffic(phase):
                    if stop.wait(_BETWEEN_CALLS_S):
                        return


def main(folder: Path) -> None:
    """Send until SIGTERM or Ctrl-C."""
    stop = threading.Event()

    def end(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signal module's signature
        stop.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, end)
    send(folder, stop)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
