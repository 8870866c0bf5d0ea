"""The docs are true: pages say what the program says, links lead somewhere, commands can be given so."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

import docs_pages
from egresslens.alerts.rules import AlertRules
from egresslens.cli import cli
from egresslens.outcome import Reject
from egresslens.registry.files import read_object
from egresslens.settings import PREFIX, Settings
from samples_truth import samples

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *DOCS.rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
        *(ROOT / "compose").rglob("*.md"),
        *ROOT.glob("*.md"),
        ROOT / "bench" / "RESULTS.md",
    ]
)
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
# Read before there are settings.
OTHER_VARIABLES = {"EGRESSLENS_CONFIG_FILE"}


def name(path: object) -> str:
    return str(path.relative_to(ROOT)) if isinstance(path, Path) else str(path)


# --- generated pages ----------------------------------------------------------------------------------------


def test_every_command_is_documented():
    assert (docs_pages.REFERENCE / "commands.md").read_text() == docs_pages.commands(), "run `make docs`"


def test_every_setting_is_documented():
    assert (docs_pages.REFERENCE / "settings.md").read_text() == docs_pages.settings(), "run `make docs`"


def test_every_topic_is_documented():
    assert (docs_pages.REFERENCE / "topics.md").read_text() == docs_pages.topics(), "run `make docs`"


def test_every_column_has_a_meaning():
    assert "` |  |" not in (docs_pages.REFERENCE / "tables.md").read_text()


def test_every_reason_of_a_dead_letter_is_explained():
    text = (DOCS / "troubleshooting.md").read_text()
    assert [one.value for one in Reject if f"`{one.value}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_setting_that_is_named_exists(page):
    known = {PREFIX + one.upper() for one in Settings.model_fields} | OTHER_VARIABLES
    named = set(re.findall(r"EGRESSLENS_[A-Z0-9_]*[A-Z0-9]", page.read_text()))
    beginnings = {one for one in named if any(other.startswith(f"{one}_") for other in known)}
    assert named - known - beginnings == set()


YAML = [
    (page, document)
    for page in PAGES
    for kind, block in FENCED.findall(page.read_text())
    if kind == "yaml"
    for document in yaml.safe_load_all(block)
]


@pytest.mark.parametrize(("page", "document"), YAML, ids=name)
def test_yaml_that_is_shown_is_accepted(page, document):
    if document.get("kind") == "EgressContext":
        assert read_object(document)
    elif "rules" in document or "mute" in document:
        AlertRules.model_validate(document)


# --- links --------------------------------------------------------------------------------------------------


def links(page: Path) -> list[str]:
    """Relative links of a page."""
    found = re.findall(r"\]\(<?([^)>\s]+)>?\)", page.read_text())
    return [link for link in dict.fromkeys(found) if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize(("page", "link"), [(page, link) for page in PAGES for link in links(page)], ids=name)
def test_a_link_leads_somewhere(page, link):
    path, _, heading = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists()
    if heading:
        assert heading in [anchor(line) for line in target.read_text().splitlines() if line.startswith("#")]


def anchor(line: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")


def test_pages_that_the_code_names_exist():
    sources = [*(ROOT / "stream").rglob("*.py"), *(ROOT / "schemas").rglob("*.sql"), ROOT / "Makefile"]
    named = {page for path in sources for page in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text())}
    assert [page for page in sorted(named) if not (ROOT / page).exists()] == []


def reachable() -> set[Path]:
    """Pages that can be reached from the map."""
    reached: set[Path] = set()
    new = {DOCS / "README.md"}
    while new:
        reached |= new
        targets = {(page.parent / link.partition("#")[0]).resolve() for page in new for link in links(page)}
        new = {page for page in targets if page.suffix == ".md" and page.is_file()} - reached
    return reached


def test_every_page_can_be_reached_from_the_map():
    pages = {page for page in DOCS.rglob("*.md") if page.parent.name != "decisions"}
    assert sorted(map(name, pages - reachable())) == []


# --- commands -----------------------------------------------------------------------------------------------

SHELL = ("console", "sh", "bash", "")


def commands(page: Path) -> list[str]:
    """Every `egresslens …` of a page: in blocks of shell, in indented blocks and in inline code."""
    text = page.read_text()
    lines = [line for kind, block in FENCED.findall(text) if kind in SHELL for line in block.splitlines()]
    rest = FENCED.sub("", text)
    lines += re.findall(r"^    (?:\$ )?(egresslens .*)$", rest, re.MULTILINE)
    lines += re.findall(r"`([^`\n]*egresslens [^`\n]+)`", rest)
    return list(dict.fromkeys(one for line in lines if (one := command_in(line))))


def command_in(line: str) -> str | None:
    """The command of a line, without what the shell does around it."""
    found = re.search(r"(?:^|\s|\.venv/bin/)egresslens ([a-z][a-z-]*(?: .*)?)$", line)
    if not found:
        return None
    text = re.sub(r'"\$\(.*?\)"', "LINE", found[1])
    return re.split(r"\s+#\s|\s+>{1,2}\s|\s+\|\s|\s+&&\s", text)[0].strip()


EVERY_COMMAND = [(page, text) for page in PAGES for text in commands(page)]


@pytest.mark.parametrize(("page", "text"), EVERY_COMMAND, ids=name)
def test_a_command_has_these_options(page, text):
    check(cli, shlex.split(text))


def check(command: click.Command, arguments: list[str], parent: click.Context | None = None) -> None:
    """Parse as click would, without asking whether files exist; nothing is run."""
    context = click.Context(command, parent=parent, info_name=command.name)
    if isinstance(command, click.Group):
        if not arguments or arguments[0].startswith("-"):
            return
        inner = command.get_command(context, arguments[0])
        assert inner, f"there is no command {arguments[0]}"
        check(inner, arguments[1:], context)
        return
    given, _, _ = command.make_parser(context).parse_args(arguments)
    for parameter in command.params:
        value = given.get(parameter.name)
        if isinstance(value, str) and not isinstance(parameter.type, click.Path):
            parameter.type_cast_value(context, value)


# Beginnings of commands that need no server, with the files that `folder` has.
WITHOUT_SERVER = (
    "analyze access.log", "parse access.log", "formats access.log", "formats --try '", "explain LINE",
    "config", "sql --saved", "alerts rules", "registry load --check mesh", "migrate --dry-run",
)  # fmt: skip
RUN = sorted(
    {
        text
        for _, text in EVERY_COMMAND
        if text.startswith(WITHOUT_SERVER) or "--file access.log" in text or text.endswith(" --help")
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the docs speak of."""
    made = tmp_path_factory.mktemp("docs")
    lines = [sample["raw"] for sample in samples() if "\n" not in sample["raw"]]
    (made / "access.log").write_text("\n".join(lines) + "\n")
    (made / "mesh").mkdir()
    (made / "mesh" / "context.yaml").write_text((ROOT / "examples" / "egress-context.yaml").read_text())
    (made / "entries.yaml").write_text("")
    return made


@pytest.mark.parametrize("text", RUN)
def test_a_command_that_needs_no_server_runs(text, folder):
    line = (folder / "access.log").read_text().splitlines()[0]
    arguments = [line if one == "LINE" else one for one in shlex.split(text)]
    done = subprocess.run(
        [sys.executable, "-c", "from egresslens.cli import main; main()", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    # 1 is an answer as well: `whatif` found something, `formats --try` found no line of that format.
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout
    assert "Traceback" not in done.stderr
