"""The schema's files, rendered: statements for one server or for a cluster from the same text.

`NNNN_name.sql` are migrations, applied once each and in order. `retention.sql` and `views.sql` are
repeatable: applied again whenever their rendered text changes. Statements end with a semicolon at the end of
a line; `-- cluster only` above a statement leaves it out on a single server.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from egresslens import resources
from egresslens.record import DURATION_BOUNDS_MS
from egresslens.settings import Settings

_NUMBERED: Final = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_CLUSTER_ONLY: Final = "-- cluster only"

# Applied first, every time: it makes the table that remembers the others.
BOOTSTRAP: Final = "0000_migrations.sql"
# In this order: views name settings and tables, retention names tables only.
REPEATABLE: Final = ("retention.sql", "views.sql", "judged.sql", "reports.sql")
# Pieces of the views in judged.sql, which would otherwise stand there five times: no script of its own.
PIECES: Final = "judgement.sql"
# The reports' statements: `reports.sql` makes views of them, `egresslens.report` runs them over a range.
REPORT_PIECES: Final = "report.sql"
# What the reports read instead of a tier's view.
SUMMED_PIECES: Final = "summed.sql"
# The console's own statements, over the same calls.
CONSOLE_PIECES: Final = "console.sql"
_SECTION: Final = "-- section: "


@dataclass(frozen=True)
class Script:
    """One file of the schema. `number` is 0 for a repeatable one."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Of the text as it is in the file, before rendering."""
        return checksum(self.text)


def checksum(text: str) -> str:
    """16 hexadecimal digits that name a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def folder() -> Path:
    """Where the schema's files are."""
    return resources.schemas() / "clickhouse"


def migrations(directory: Path) -> list[Script]:
    """All numbered files but the bootstrap, by number. Two files of one number are refused (ValueError)."""
    found: dict[int, Script] = {}
    for path in sorted(directory.glob("*.sql")):
        match = _NUMBERED.match(path.name)
        if match is None or path.name == BOOTSTRAP:
            continue
        number = int(match[1])
        if number in found:
            raise ValueError(f"two migrations are numbered {number}: {found[number].name} and {match[2]}")
        found[number] = Script(number, match[2], path.read_text())
    return list(found.values())


def script(directory: Path, filename: str) -> Script:
    """Read the bootstrap or a repeatable file."""
    return Script(0, filename, (directory / filename).read_text())


def render(text: str, settings: Settings) -> list[str]:
    """Make the statements of a file for these settings. An unknown placeholder is a KeyError."""
    names = placeholders(settings) | pieces(settings)
    rendered: list[str] = []
    for part in re.split(r";\s*(?:\n|$)", text):
        lines = [line for line in part.strip().splitlines() if line.strip()]
        statement = "\n".join(line for line in lines if not line.startswith("--"))
        if statement and (settings.cluster or _CLUSTER_ONLY not in lines):
            rendered.append(Template(statement).substitute(names))
    return rendered


def pieces(settings: Settings) -> dict[str, str]:
    """Give the sections of PIECES by their names, and the reports as views (`report_…`), all rendered."""
    judged = _judged_pieces(settings)
    reports = report_statements(settings, _view_parts(settings))
    return judged | {f"report_{name}": text for name, text in reports.items()}


def report_statements(settings: Settings, parts: Mapping[str, str]) -> dict[str, str]:
    """Give each report's SELECT by its name.

    Args:
        settings: for the database's name.
        parts: the placeholders of REPORT_PIECES that views and the command fill differently.
    """
    found = _report_pieces(settings, parts)
    return {name: text for name, text in found.items() if name not in ("calls", "latency")}


def summed(settings: Settings, rows: str) -> str:
    """Give the SELECT of SUMMED_PIECES over a view of rows, for the reports' `windows`."""
    [(_, text)] = _sections(SUMMED_PIECES)
    return Template(text).substitute(_judged_pieces(settings), rows=rows)


def console_statements(settings: Settings, parts: Mapping[str, str]) -> dict[str, str]:
    """Give each SELECT of CONSOLE_PIECES by its name; `parts` as for `report_statements`."""
    found = _report_names(settings, parts) | _report_pieces(settings, parts) | _judged_pieces(settings)
    for name, text in _sections(CONSOLE_PIECES):
        found[name] = Template(text).substitute(found)
    return found


def _judged_pieces(settings: Settings) -> dict[str, str]:
    names = placeholders(settings)
    found: dict[str, str] = {}
    for name, text in _sections(PIECES):
        found[name] = Template(text).substitute(names | found)
    return found


def _report_pieces(settings: Settings, parts: Mapping[str, str]) -> dict[str, str]:
    names = _report_names(settings, parts)
    found: dict[str, str] = {}
    for name, text in _sections(REPORT_PIECES):
        found[name] = Template(text).substitute(names | found)
    return found


def _report_names(settings: Settings, parts: Mapping[str, str]) -> dict[str, str]:
    return {"database": settings.database, "bounds": str(list(DURATION_BOUNDS_MS)), **parts}


def _view_parts(settings: Settings) -> dict[str, str]:
    """What the views fill in: per hour, nothing narrowed."""
    database = settings.database
    return {
        "window": "window_start, ",
        "hour": "toStartOfHour(event_time) AS window_start, ",
        "windows": f"{database}.windows_1h",
        "days": f"{database}.windows_1d",
        "events": f"{database}.events",
        "recent": f"(SELECT * FROM {database}.events WHERE event_time > now() - 86400)",  # noqa: S608 - as above
        "pods": f"(SELECT * FROM {database}.pods WHERE valid_to IS NULL OR valid_to > now() - 86400)",  # noqa: S608 - a name by its pattern
        "narrow": "",
        "narrow_events": "",
        "narrow_new": "",
        "narrow_coverage": "",
    }


def _sections(filename: str) -> list[tuple[str, str]]:
    """Names and texts of a file of pieces, without their comments."""
    _, *sections = (folder() / filename).read_text().split(_SECTION)
    found = []
    for section in sections:
        name, _, text = section.partition("\n")
        lines = (line for line in text.splitlines() if not line.startswith("--"))
        found.append((name, "\n".join(lines).strip()))
    return found


def placeholders(settings: Settings) -> dict[str, str]:
    """Everything the files may ask for. The settings' patterns keep these values free of quotes."""
    cluster = settings.cluster
    return {
        "database": settings.database,
        "cluster": cluster or "",
        "on_cluster": f" ON CLUSTER '{cluster}'" if cluster else "",
        "local": "_local" if cluster else "",
        "replicated": "Replicated" if cluster else "",
        "events_ttl_days": str(settings.events_ttl_days),
        "windows_1m_ttl_days": str(settings.windows_1m_ttl_days),
        "windows_1h_ttl_days": str(settings.windows_1h_ttl_days),
        "windows_1d_ttl_days": str(settings.windows_1d_ttl_days),
        "dead_letters_ttl_days": str(settings.dead_letters_ttl_days),
    }
