"""The registry in ClickHouse, with its history: one row per change of an object, none where nothing changed.

A load is the whole truth of its cluster: what it does not hold is marked as removed. Rows are absolute, so
that loading twice, or in two places at once, does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final, Protocol

import orjson

from egresslens.judge.home import pod_source
from egresslens.registry.files import read_object
from egresslens.registry.models import Node, Object, Pod
from egresslens.registry.value import Registries, Registry
from egresslens.settings import Settings

FOREVER: Final = datetime(2299, 12, 31, tzinfo=timezone.utc)
_CHANGE: Final = ("cluster", "kind", "namespace", "name", "valid_from", "removed", "object")
_POD: Final = (
    "cluster", "address", "valid_from", "namespace", "pod", "valid_to", "workload", "node", "region", "zone",
    "has_proxy", "judged_at",
)  # fmt: skip
# Rows per insert: a block stays far below what ClickHouse and its HTTP interface take at once.
_ROWS: Final = 20_000

Key = tuple[str, str, str]
"""Kind, namespace, name."""


class Client(Protocol):
    """What the store needs of a clickhouse-connect client."""

    def query(self, query: str, parameters: dict[str, Any] | None = None, /) -> Any:
        """Run a query; `result_rows` are its rows."""

    def command(self, cmd: str, /) -> Any:
        """Run a statement."""

    def insert(self, table: str, data: Sequence[Sequence[Any]], column_names: Sequence[str], /) -> Any:
        """Insert rows."""


@dataclass(frozen=True)
class Changes:
    """What a load changed: keys by what became of them."""

    added: tuple[Key, ...]
    changed: tuple[Key, ...]
    removed: tuple[Key, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def load(
    client: Client, settings: Settings, registry: Registry, now: datetime, *, partial: bool = False
) -> Changes:
    """Bring the stored registry of a cluster to this one.

    Args:
        client: a connected writer.
        settings: for the database's name.
        registry: the objects; their cluster is the registry's.
        now: when they were read (aware).
        partial: keep stored objects that this registry does not have.

    Raises:
        clickhouse_connect.driver.exceptions.Error: a statement failed. What is written stays; run it again.
    """
    before = _current(client, settings, registry.cluster)
    after = {one.key: _text(one) for one in registry.objects}
    changes = Changes(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(key for key in after.keys() & before.keys() if after[key] != before[key])),
        removed=() if partial else tuple(sorted(before.keys() - after.keys())),
    )
    rows = [(registry.cluster, *key, now, False, after[key]) for key in (*changes.added, *changes.changed)]
    rows += [(registry.cluster, *key, now, True, "") for key in changes.removed]
    # The pods first: if this stops in between, the objects still differ and the next load does it again.
    insert(client, f"{settings.database}.raw_pods", _pods(registry, changes, before, now), _POD)
    insert(client, f"{settings.database}.raw_registry", rows, _CHANGE)
    return changes


def read(client: Client, settings: Settings, at: datetime | None = None) -> Registries:
    """Read the stored registries of all clusters, as they are or as they were at a moment (aware).

    Raises:
        clickhouse_connect.driver.exceptions.Error: the query failed.
        RegistryError: an object was stored by a newer program and cannot be read by this one.
    """
    until = f"WHERE valid_from <= fromUnixTimestamp64Milli({int(at.timestamp() * 1000)})" if at else ""
    rows = client.query(
        "SELECT cluster, argMax((removed, object), valid_from) AS newest "  # noqa: S608 - names of ours
        f"FROM {settings.database}.registry {until} "
        "GROUP BY cluster, kind, namespace, name HAVING NOT newest.1 ORDER BY cluster"
    ).result_rows
    objects: dict[str, list[Object]] = {}
    for cluster, (_, text) in rows:
        objects.setdefault(cluster, []).extend(read_object(orjson.loads(text)))
    return Registries(Registry.of(found, cluster) for cluster, found in objects.items())


def version(client: Client, settings: Settings) -> tuple[Any, ...]:
    """What changes whenever a stored registry does.

    Raises:
        clickhouse_connect.driver.exceptions.Error: the query failed.
    """
    [found] = client.query(
        f"SELECT max(valid_from), count() FROM {settings.database}.raw_registry"  # noqa: S608 - names of ours
    ).result_rows
    return tuple(found)


def insert(client: Client, table: str, rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> None:
    """Insert rows, some at a time; none is no statement."""
    for at in range(0, len(rows), _ROWS):
        client.insert(table, rows[at : at + _ROWS], columns)


def _current(client: Client, settings: Settings, cluster: str) -> dict[Key, str]:
    rows = client.query(
        "SELECT kind, namespace, name, argMax((removed, object), valid_from) AS newest "  # noqa: S608 - names of ours
        f"FROM {settings.database}.raw_registry WHERE cluster = %(cluster)s "
        "GROUP BY kind, namespace, name HAVING NOT newest.1",
        {"cluster": cluster},
    ).result_rows
    return {(kind, namespace, name): text for kind, namespace, name, (_, text) in rows}


def _text(one: Object) -> str:
    return orjson.dumps(one.document(), option=orjson.OPT_SORT_KEYS).decode()


def _pods(
    registry: Registry, changes: Changes, before: Mapping[Key, str], now: datetime
) -> list[tuple[Any, ...]]:
    """Rows of the pod table: new and changed pods (all if nodes changed), and the end of those gone."""
    touched = {*changes.added, *changes.changed}
    all_of_them = any(key[0] == Node.__name__ for key in (*touched, *changes.removed))
    rows = [
        row
        for pod in registry.pods
        if all_of_them or pod.key in touched
        for row in _pod_rows(registry, pod, now, FOREVER)
    ]
    gone = [_pod_of(before[key]) for key in (*changes.removed, *changes.changed) if key[0] == Pod.__name__]
    there = {row[:5] for row in rows}
    rows += [row for pod in gone for row in _pod_rows(registry, pod, now, now) if row[:5] not in there]
    return rows


def _pod_of(text: str) -> Pod:
    [found] = read_object(orjson.loads(text))
    if not isinstance(found, Pod):
        raise TypeError(found.kind)
    return found


def _pod_rows(registry: Registry, pod: Pod, now: datetime, until: datetime) -> list[tuple[Any, ...]]:
    who = pod_source(registry, pod)
    since = pod.status.start_time or pod.metadata.creation_timestamp or now
    return [
        (
            registry.cluster,
            ip,
            since,
            pod.namespace,
            pod.name,
            until,
            who.workload or pod.name,
            pod.spec.node_name,
            who.region.lower() if who.region else None,
            who.zone,
            pod.has_proxy,
            now,
        )
        for ip in pod.addresses
    ]
