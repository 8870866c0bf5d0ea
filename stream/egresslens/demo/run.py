"""The demo as a whole: start everything, send the traffic, ask, compare, stay, stop."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from egresslens.cli.tables import print_table
from egresslens.clickhouse.client import connect
from egresslens.demo import pipeline, report
from egresslens.demo.mesh import PAGE_PATH, Mesh, TrafficError
from egresslens.demo.pipeline import Pipeline
from egresslens.demo.plan import PHASES, PUBLIC_HOST, new_world, random_block
from egresslens.demo.process import PartError, Parts
from egresslens.demo.steps import step
from egresslens.demo.traffic import access_logs
from egresslens.demo.truth import Line
from egresslens.settings import CONFIG_FILE_VARIABLE
from egresslens.store.passwords import password_file

_VISIBLE_S: Final = 60.0
_WATCH_S: Final = 0.5
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def demo(folder: Path, out: Console, *, once: bool) -> bool:
    """Run the demo in a folder, and return whether every answer is what was sent.

    Without `once` it stays up after the answers until KeyboardInterrupt. Every process is stopped at the end,
    whatever the end is.

    Raises:
        PartError: a part died or did not become ready, or the lines did not arrive.
        TrafficError: a call did not end as planned.
    """
    with _parts(out) as parts:
        running = pipeline.start(parts, folder, out)
        with step(out, "Starting the mesh: Envoy as ingress gateway and as two sidecars"):
            mesh, logs = _start_mesh(parts, folder / "mesh")
            pipeline.start_registry(parts, running, mesh.world)
            pipeline.start_shippers(parts, running, logs)
        lines = _send(mesh, out)
        with connect(running.settings, "reader") as client:
            with step(out, f"Waiting until all {len(lines)} lines are in ClickHouse"):
                _wait_until_visible(client, running.settings.database, len(lines), parts)
            _answer(client, running.settings.database, out)
            right = compare(client, running, lines, out)
        if not once:
            out.print(_what_to_try(running, mesh))
            with contextlib.suppress(KeyboardInterrupt):
                _watch(parts)
    return right


def _start_mesh(parts: Parts, folder: Path) -> tuple[Mesh, dict[str, Path]]:
    folder.mkdir()
    logs = access_logs(folder)
    mesh = parts.enter(Mesh(new_world(random_block()), folder, logs))
    return mesh, {workload: next(iter(written)) for workload, written in logs.items()}


def _send(mesh: Mesh, out: Console) -> list[Line]:
    lines: list[Line] = []
    for phase in PHASES:
        with step(out, f"Sending traffic, {phase.situation}") as say:
            mesh.enter(phase)
            sent = [line for some in mesh.traffic(phase) for line in some]
            say(f"{len(sent)} log lines")
        lines += sent
    return lines


def _wait_until_visible(client: Client, database: str, messages: int, parts: Parts) -> None:
    deadline = time.monotonic() + _VISIBLE_S
    while (done := report.found_totals(client, database).messages) < messages:
        parts.check()
        if time.monotonic() > deadline:
            raise PartError(f"after {_VISIBLE_S:.0f} s {done} of {messages} lines are in ClickHouse")
        time.sleep(0.1)


def _answer(client: Client, database: str, out: Console) -> None:
    for question in report.QUESTIONS:
        out.print()
        print_table(report.answer(client, question, database), question.title, out)
        out.print(Syntax(question.in_database(database), "sql", background_color="default"))


def compare(client: Client, running: Pipeline, lines: Sequence[Line], out: Console) -> bool:
    """Hold the views and the console's graph against what was sent, and say how they compare."""
    database = running.settings.database
    sent, became = report.counted(lines), report.found_totals(client, database)
    compared = {
        "windows_1m": (sent, report.found_in_windows(client, database)),
        "events": (sent, report.found_in_events(client, database)),
        "the console's graph": (
            report.as_edges(sent),
            report.found_in_graph(pipeline.console_url(running)),
        ),
    }
    out.print()
    for what, (expected, found) in compared.items():
        if found != expected:
            print_table(report.differences(expected, found), f"{what} differs from what was sent", out)
    if became != report.totals(lines):
        out.print(Text(f"progress says {became}, sent was {report.totals(lines)}", style="bold red"))
    right = became == report.totals(lines) and all(found == sent for sent, found in compared.values())
    if right:
        text = (
            f"Every answer is what was sent: {len(lines)} log lines, {len(sent)} kinds of calls, every byte."
        )
        out.print(Text(text, style="bold green"))
    return right


def _watch(parts: Parts) -> None:
    while True:
        parts.check()
        time.sleep(_WATCH_S)


def _what_to_try(running: Pipeline, mesh: Mesh) -> Text:
    gateway = mesh.world.gateway.listen
    password = password_file(running.folder / "store", "reader")
    url = running.settings.clickhouse_url
    database = running.settings.database
    latest = f"SELECT * FROM {database}.events ORDER BY event_time DESC LIMIT 1 FORMAT Vertical"  # noqa: S608 - shown
    ideas = {
        "See it, in a browser": pipeline.console_url(running),
        "The reports, alerts and advice": (
            f"export {CONFIG_FILE_VARIABLE}={running.settings_file}\n"
            "    egresslens report external     # databases, regions, blocked, new, modes, coverage\n"
            "    egresslens events --label blackhole\n"
            "    egresslens alerts list\n"
            "    egresslens whatif              # and egresslens advise"
        ),
        "What is declared; change it, and the past is judged anew": f"cat {running.registry}/mesh.yaml",
        "Send a request into the mesh": f"curl -H 'Host: {PUBLIC_HOST}' http://{gateway}{PAGE_PATH}",
        "and see it a second later": (
            f'curl {url}/ -H "X-ClickHouse-User: reader" -H "X-ClickHouse-Key: $(cat {password})" '
            f'--data-binary "{latest}"'
        ),
        "The worker's condition": f"curl {pipeline.worker_url(running)}/readyz",
        "The worker's metrics": f"curl {pipeline.worker_url(running)}/metrics",
        "Kafka": f"export EGRESSLENS_KAFKA_BROKERS={running.settings.kafka_brokers}",
        "Access logs": f"tail -f {running.folder / 'mesh'}/*.log",
        "Logs of all parts": f"ls {running.folder / 'logs'}",
    }
    text = Text("\nTry, in another terminal:\n")
    for what, command in ideas.items():
        text.append(f"  {what}\n", style="dim").append(f"    {command}\n")
    return text.append("\nCtrl-C stops everything.")


@contextlib.contextmanager
def _parts(out: Console) -> Iterator[Parts]:
    """All parts of a run. If something went wrong because one died, that is what is raised."""
    parts = Parts()
    try:
        try:
            yield parts
        except (ClickHouseError, TrafficError, OSError):
            parts.check()
            raise
    finally:
        # A second Ctrl-C must not leave processes behind.
        handlers = {name: signal.signal(name, signal.SIG_IGN) for name in _ENDING}
        with step(out, "Stopping all parts"):
            parts.close()
        for name, handler in handlers.items():
            signal.signal(name, handler)
