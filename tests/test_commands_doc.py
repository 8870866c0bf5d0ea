"""docs/commands.md and docs/settings.md say of each command and setting what the program says."""

from __future__ import annotations

from pathlib import Path

from egresslens.cli import COMMANDS
from egresslens.settings import PREFIX, Settings

DOCS = Path(__file__).parent.parent / "docs"


def commands() -> str:
    rows = "".join(f"| `egresslens {name}` | {text} |\n" for name, text in sorted(COMMANDS.items()))
    return (
        "# Commands\n\nEach explains itself with `--help`. `make docs` writes this page.\n\n"
        f"| command | what it does |\n|---|---|\n{rows}"
    )


def settings() -> str:
    rows = "".join(
        f"| `{PREFIX}{name.upper()}` | {_default(field.get_default())} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    )
    return (
        "# Settings\n\nFrom the environment, or from the TOML file that `EGRESSLENS_CONFIG_FILE` names,\n"
        "where the key is the name in lower case without the prefix. The environment wins. `make docs`\n"
        "writes this page.\n\n"
        f"| variable | default | meaning |\n|---|---|---|\n{rows}"
    )


def _default(value: object) -> str:
    text = str(list(value) if isinstance(value, tuple) else value)
    return "" if value is None or text in {"", "[]"} else f"`{text}`".replace("|", "\\|")


def test_every_command_is_documented():
    assert (DOCS / "commands.md").read_text() == commands(), "run `make docs`"


def test_every_setting_is_documented():
    assert (DOCS / "settings.md").read_text() == settings(), "run `make docs`"


if __name__ == "__main__":
    (DOCS / "commands.md").write_text(commands())
    (DOCS / "settings.md").write_text(settings())
