"""What the README shows works: its commands run, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from samples_truth import samples

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line[2:].split("  #")[0].strip()
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
# They need servers, and have tests of their own; here their options are tried.
LONG_RUNNING = {"migrate", "worker"}


def test_the_readme_is_short():
    assert len(README.splitlines()) < 120


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_a_make_target_exists(command):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert command.split()[1] in targets


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("egresslens ")])
def test_a_command_runs(command, tmp_path):
    lines = [sample["raw"] for sample in samples() if "\n" not in sample["raw"]]
    (tmp_path / "access.log").write_text("\n".join(lines) + "\n")
    name = command.split()[1]
    if name in LONG_RUNNING:
        command = f"egresslens {name} --help"
    program = f"{shlex.quote(sys.executable)} -c 'from egresslens.cli import main; main()'"
    shell = command.replace("egresslens", program, 1)
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_a_link_leads_somewhere(link):
    assert (ROOT / link).exists()
