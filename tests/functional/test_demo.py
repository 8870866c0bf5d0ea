"""The demo: real Envoys, real Kafka, the real engine, the product's own commands."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from conftest import require_kafka
from egresslens.cli.demo import command
from egresslens.demo.plan import PHASES

pytestmark = pytest.mark.functional

DEADLINE_S = 120


def require_parts() -> None:
    """Skip the test where the demo cannot run, or fail it in CI."""
    require_kafka()
    if os.environ.get("CI") != "true":
        for module in ("envoy", "chdb"):
            if importlib.util.find_spec(module) is None:
                pytest.skip(f"the module {module} is not installed")
    if sys.platform != "linux":
        pytest.skip("pods need loopback addresses of their own, which only Linux has")


@pytest.fixture(autouse=True)
def _require_parts() -> None:
    require_parts()


def processes_of(folder: Path) -> list[int]:
    """Everything that runs for the demo in this folder, by its arguments or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in told and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


class Running:
    """A demo as a process, in a folder of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder / "demo"
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "from egresslens.cli import main; main()",
                    "demo",
                    "--dir",
                    str(self.folder),
                    *arguments,
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.output.read_text()

    def wait_until_said(self, text: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)

    def processes(self) -> list[int]:
        return processes_of(self.folder)

    def child(self, argument: str) -> int:
        """The part that was started with this argument."""
        for pid in self.processes():
            if argument.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
        raise AssertionError(f"no part was started with {argument}")

    def wait_until_all_have_ended(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while self.processes():
            assert time.monotonic() < deadline, self.processes()
            time.sleep(0.1)


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Running]]:
    started = []

    def run(*arguments: str) -> Running:
        started.append(Running(tmp_path, *arguments))
        return started[-1]

    yield run
    for demo in started:
        for pid in demo.processes():
            os.kill(pid, signal.SIGKILL)
        demo.process.wait()


def test_once_prints_true_answers_and_leaves_no_process(start):
    demo = start("--once")
    assert demo.process.wait(DEADLINE_S) == 0, demo.said()
    for question in ("Who calls what?", "What was blocked, and who tried?", "Which database instances"):
        assert question in demo.said()
    assert "FROM egresslens.windows_1m" in demo.said()
    assert "Every answer is what was sent" in demo.said()
    assert demo.processes() == []


@pytest.mark.extended
def test_a_part_that_dies_is_named_with_its_last_lines_and_nothing_is_left(start):
    demo = start()
    demo.wait_until_said("Ctrl-C stops everything")
    os.kill(demo.child("worker"), signal.SIGKILL)
    assert demo.process.wait(DEADLINE_S) == 69
    assert "the worker ended with code -9; its last lines:\n  20" in demo.said()
    assert demo.processes() == []


@pytest.mark.extended
def test_kill_9_of_the_demo_leaves_no_process(start):
    demo = start()
    demo.wait_until_said("Sending traffic")
    demo.process.kill()
    demo.process.wait()
    demo.wait_until_all_have_ended()


@pytest.mark.extended
def test_an_answer_that_is_not_what_was_sent_is_shown(tmp_path, monkeypatch):
    from egresslens.demo import run  # noqa: PLC0415 - needs the extras

    # The same traffic, with one expectation turned into a lie.
    phase = PHASES[1]
    lie = replace(phase.calls[1], label="passthrough")
    monkeypatch.setattr(run, "PHASES", (replace(phase, calls=(phase.calls[0], lie)),))
    with (tmp_path / "output").open("w") as output:
        out = Console(file=output, width=200)
        (tmp_path / "demo").mkdir()
        assert not run.demo(tmp_path / "demo", out, once=True)
    said = (tmp_path / "output").read_text()
    assert "windows_1m differs from what was sent" in said
    assert re.search(
        r"sent\s+shop\s+idgen\s+sidecar\s+passthrough\s+telemetry.vendor.example.net\s+443\s+0\s+2", said
    )
    assert re.search(
        r"found\s+shop\s+idgen\s+sidecar\s+blackhole\s+telemetry.vendor.example.net\s+443\s+0\s+2", said
    )
    assert "Every answer" not in said


def test_an_answer_that_is_not_what_was_sent_ends_it_with_1(tmp_path, monkeypatch):
    monkeypatch.setattr("egresslens.demo.run.demo", lambda *_, **__: False)
    assert CliRunner().invoke(command, ["--once", "--dir", str(tmp_path)]).exit_code == 1


def test_a_folder_in_use_is_refused(tmp_path, start):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "something").touch()
    demo = start("--once")
    assert demo.process.wait(DEADLINE_S) == 2
    assert "is not empty" in demo.said()
