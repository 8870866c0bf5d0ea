"""The generated pages of docs/reference: `make docs` writes them, tests hold them against the program."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import BaseModel

from egresslens import messages, resources
from egresslens.cli import COMMANDS
from egresslens.clickhouse.client import connect
from egresslens.clickhouse.migrate import migrate
from egresslens.settings import PREFIX, Settings
from egresslens.store.process import embedded_store

REFERENCE: Final = Path(__file__).parent.parent / "docs" / "reference"
_BY: Final = "`make docs` writes this page."
_TOPICS: Final = f"""# Topics

JSON, one object per message; fields may be added. JSON Schemas: [schemas/topics](../../schemas/topics).
The dead-letter topic has the message's own bytes, and headers that say why. How to read them rightly:
[consume the topics](../how-to/consume-the-topics.md). {_BY}
"""
_TABLES: Final = f"""# Tables

The published views of the database (`EGRESSLENS_DATABASE`): people, reports and dashboards read these, with
the reader's account. What begins with `raw_` is the program's own. All times are UTC. `bytes_received` is
what the workload sent out (Envoy's side of it). {_BY}
"""

# View -> what a row of it is. Reports have a page of their own, and are listed by their columns alone.
VIEWS: Final = {
    "events": "One row per access-log record that is kept (labels of `EGRESSLENS_KEEP`).",
    "windows_1m": "Counts per minute. One row per key; Kafka partitions are summed already.",
    "windows_1h": "The same per hour, exact: rolled-up hours and, where they are newer, the minutes.",
    "windows_1d": "The same per day (UTC).",
    "destinations": "Every pair of caller and destination that was ever seen, kept without end.",
    "alerts": "One row per incident, its last state.",
    "dead_letters": "Messages, or parts of them, that could not be read.",
    "progress": "What became of each Kafka partition's messages so far, absolute, true at `last_offset`.",
    "registry": "What was declared, with its history.",
    "pods": "Who had which address, and when.",
    "homes": "Where namespaces are at home.",
    "residency": "The residency policy that speaks for each namespace.",
}
# What columns mean that no topic has, or means otherwise; by column, or by view and column.
_OWN: Final = {
    "window_start": "Beginning of the window.",
    "registry.kind": "What it is: ServiceEntry, Sidecar, Service, …",
    "registry.name": "Its name.",
    "registry.namespace": "Its namespace.",
    "registry.removed": "Whether it was removed then.",
    "registry.object": "The object, JSON.",
    "cluster": "Kubernetes cluster; empty: any.",
    "namespace": "The pod's namespace.",
    "workload": "Its workload.",
    "pod": "Its name.",
    "address": "Its address.",
    "node": "Its node.",
    "region": "Its node's region.",
    "zone": "Its node's zone.",
    "updated_at": "When the row was written.",
    "reason": "Why it could not be read.",
    "homes.regions": "The home regions.",
    "residency.regions": "The regions that are allowed.",
    "residency.region_patterns": "The same as patterns (`LIKE`).",
    "residency.hosts": "Hosts that are allowed wherever they are.",
    "residency.unknown_region": "What a destination of unknown region is: allowed or violation.",
    "residency_policy": "The policy's name.",
    "destination_scope": "`external`, `mesh`, `private` or `unknown`; judged when read, as all below.",
    "destination_region": "The cloud's region, or a country.",
    "destination_kind": "`postgres`, `kafka`, `redis`, …; null for what is no database, broker or cache.",
    "service_entry": "`namespace/name` of the ServiceEntry that covers it for the caller.",
    "source_ip_namespace": "Namespace of the pod that had the bare source address then.",
    "source_ip_workload": "Its workload.",
    "valid_from": "Since when it is so.",
    "valid_to": "Until when; null: still.",
    "has_proxy": "Whether the pod has a sidecar.",
    "first_seen": "When it was seen first.",
    "last_seen": "When it was seen last.",
    "labels": "Every label it ever had.",
    "raw": "The message's bytes, bounded.",
    "raw_size": "Their whole length.",
    "whole": "Whether nothing else of the message was applied.",
    "field": "The field that could not be read.",
    "messages": "Kafka messages read.",
    "messages_with_records": "Messages that gave at least one record.",
    "messages_filtered": "Messages of which all was left out on purpose.",
    "messages_rejected": "Messages of which nothing could be read.",
    "records": "Records in them.",
    "events": "Records stored as events.",
    "filtered": "Parts left out on purpose, by reason.",
    "rejected": "Parts that could not be read, by reason.",
    "gaps": "Offsets that Kafka had removed before they were read.",
    "past_retention": "Records older on arrival than a tier keeps, by tier.",
    "first_offset": "The first offset that was read.",
}


def commands() -> str:
    """Every command and what it does."""
    rows = "".join(f"| `egresslens {name}` | {text} |\n" for name, text in sorted(COMMANDS.items()))
    return (
        f"# Commands\n\nEach explains itself with `--help`. {_BY}\n\n"
        f"| command | what it does |\n|---|---|\n{rows}"
    )


def settings() -> str:
    """Every setting, its default and what it means."""
    rows = "".join(
        f"| `{PREFIX}{name.upper()}` | {_default(field.get_default())} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    )
    return (
        "# Settings\n\nFrom the environment, or from the TOML file that `EGRESSLENS_CONFIG_FILE` names,\n"
        "where the key is the name in lower case without the prefix. The environment wins. `make docs`\n"
        f"writes this page.\n\n| variable | default | meaning |\n|---|---|---|\n{rows}"
    )


def _default(value: object) -> str:
    text = str(list(value) if isinstance(value, tuple) else value)
    return "" if value is None or text in {"", "[]"} else f"`{text}`".replace("|", "\\|")


def topics() -> str:
    """Every topic's message, field by field, from its JSON Schema."""
    parts = [_TOPICS]
    for path in sorted((resources.schemas() / "topics").glob("*.json")):
        schema = orjson.loads(path.read_bytes())
        rows = "".join(
            f"| `{name}` | {_type(field)} | {field.get('description', '')} |\n"
            for name, field in schema["properties"].items()
        )
        head = f"\n## {path.stem}\n\n{schema['description']}\n\n"
        parts.append(f"{head}| field | type | meaning |\n|---|---|---|\n{rows}")
    return "".join(parts)


def _type(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(one) for one in field["anyOf"]))
    if "enum" in field:
        return ", ".join(f"`{one}`" for one in field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    return str(field.get("format") or field.get("type") or "value")


def tables(columns: Iterable[tuple[str, str, str]]) -> str:
    """Every published view's columns; `columns` are (view, column, type) as the store has them."""
    found: dict[str, list[tuple[str, str]]] = {}
    for view, name, kind in columns:
        found.setdefault(view, []).append((name, kind))
    parts = [_TABLES]
    minutes = found["windows_1m"]
    for view, about in VIEWS.items():
        if view != "windows_1m" and found[view] == minutes:
            parts.append(f"\n## {view}\n\n{about} Its columns are those of `windows_1m`.\n")
            del found[view]
            continue
        rows = "".join(
            f"| `{name}` | {_short(kind)} | {meaning(view, name)} |\n" for name, kind in found.pop(view)
        )
        parts.append(f"\n## {view}\n\n{about}\n\n| column | type | meaning |\n|---|---|---|\n{rows}")
    parts.append(
        "\n## Reports\n\nThe answers of `egresslens report`, per hour; see [reports](reports.md).\n\n"
        "| view | columns |\n|---|---|\n"
    )
    if unknown := [view for view in found if not view.startswith("report_")]:
        raise KeyError(f"VIEWS does not say what a row of {unknown} is")
    parts += [f"| `{view}` | {', '.join(name for name, _ in one)} |\n" for view, one in sorted(found.items())]
    return "".join(parts)


def meaning(view: str, column: str) -> str:
    """What a column means."""
    for name in (f"{view}.{column}", column):
        if name in _OWN:
            return _OWN[name]
    for model in (messages.EnrichedRecord, messages.WindowRow, messages.AlertMessage):
        if found := _described(model, column):
            return found
    for ending, said in (("_confidence", "How sure that is."), ("_reason", "What decided it.")):
        if column.endswith(ending):
            return said
    return ""


def _described(model: type[BaseModel], name: str) -> str | None:
    field = model.model_fields.get(name)
    return field.description if field else None


def _short(kind: str) -> str:
    """A type without what only ClickHouse cares for."""
    return (
        "`"
        + kind.replace("LowCardinality(Nullable(String))", "Nullable(String)")
        .replace("LowCardinality(String)", "String")
        .replace(", 'UTC'", "")
        .replace("('UTC')", "")
        .replace("|", "\\|")
        + "`"
    )


def columns(client: Any, database: str) -> list[tuple[str, str, str]]:
    """(view, column, type) of a migrated database's published views, for `tables`."""
    return client.query(
        "SELECT table, name, type FROM system.columns WHERE database = {database:String} "
        "AND NOT startsWith(table, 'raw_') ORDER BY table, position",
        parameters={"database": database},
    ).result_rows


def main() -> None:
    """Write all of them."""
    for name, text in {"commands": commands(), "settings": settings(), "topics": topics()}.items():
        (REFERENCE / f"{name}.md").write_text(text)
    with tempfile.TemporaryDirectory() as folder, embedded_store(Path(folder)) as store:
        (user, password), (reader, other) = store.writer, store.reader
        given = Settings(
            clickhouse_url=store.url,
            clickhouse_user=user,
            clickhouse_password=password,
            clickhouse_reader_user=reader,
            clickhouse_reader_password=other,
        )
        writer = connect(given, "writer")
        migrate(writer, given)
        (REFERENCE / "tables.md").write_text(tables(columns(writer, given.database)))


if __name__ == "__main__":
    main()
