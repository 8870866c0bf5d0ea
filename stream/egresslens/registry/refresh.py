"""Judgements for SQL: what `judge` says of everything that was seen, in tables that the views join.

The tables are a cache. Judgements older than the last change of the registry are made anew, all of them; in
between only what is new is judged. A destination that is not judged yet has no judgements in the views until
the next refresh. Running twice, or being interrupted, does no harm: names are written last, and tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from clickhouse_connect.driver.client import Client as Writer

from egresslens.clickhouse.delete import delete
from egresslens.clickhouse.text import like
from egresslens.judge.frames import Judges
from egresslens.judge.home import Homes, Workload
from egresslens.judge.residency import policy_for
from egresslens.registry.models import ResidencyPolicy
from egresslens.registry.store import Client, insert
from egresslens.registry.value import Registries, parse_ip
from egresslens.settings import Settings

_VERDICT: Final = ("", "_confidence", "_reason")
_NAME: Final = (
    "source_cluster",
    "source_namespace",
    "destination_host",
    "destination_port",
    "service_entry",
    "service_entry_reason",
    *(
        f"{name}{part}"
        for name in ("declared_scope", "scope", "declared_region", "region", "kind")
        for part in _VERDICT
    ),
    "judged_at",
)
_ADDRESS: Final = (
    "source_cluster",
    "destination_host",
    "address",
    *(f"{name}{part}" for name in ("scope", "region", "geo") for part in _VERDICT),
    "judged_at",
)
_HOME: Final = (
    "source_cluster",
    "source_namespace",
    "source_workload",
    "regions",
    "confidence",
    "reason",
    "judged_at",
)
_RESIDENCY: Final = (
    "source_cluster",
    "source_namespace",
    "policy",
    "regions",
    "region_patterns",
    "hosts",
    "unknown_region",
    "judged_at",
)
_WHO: Final = "ifNull(source_cluster, ''), ifNull(source_namespace, ''), ifNull(source_workload, '')"
# How far back a refresh looks for new addresses, and for the regions that envelopes name.
_ADDRESS_DAYS: Final = 2
_ENVELOPE_DAYS: Final = 7
# A host whose addresses differ is joined with so many of them: a row of the views carries them all.
_HOST_ADDRESSES: Final = 64
# Keys per statement: far below ClickHouse's max_query_size of 256 KiB, whatever the hosts' names.
_KEYS: Final = 500


@dataclass(frozen=True)
class Refreshed:
    """How many were judged."""

    destinations: int
    addresses: int
    homes: int


def refresh(
    client: Client,
    settings: Settings,
    registries: Registries,
    judges: Judges,
    now: datetime,
    *,
    everything: bool,
) -> Refreshed:
    """Judge what was seen and is not judged yet, or everything.

    Args:
        client: a connected writer.
        settings: for the database's name.
        registries: what is declared; `judges` are theirs.
        judges: with the geographic database, if there is one.
        now: the version of the judgements (aware).
        everything: also what was judged since the registry changed: after a change of this program, or of
            the geographic database.

    Raises:
        clickhouse_connect.driver.exceptions.Error: a statement failed; what is written stays.
    """
    everything = everything or _are_stale(client, settings)
    names = _names(client, settings, everything=everything)
    ips = _ips(client, settings, everything=everything)
    homes = _homes(client, settings, registries)
    policies = _policies(client, settings, registries, {name[:2] for name in names})
    database = settings.database
    insert(client, f"{database}.raw_judged_addresses", [_ip_row(one, judges, now) for one in ips], _ADDRESS)
    if ips:
        client.command(_hosts(database, now))
    insert(client, f"{database}.raw_homes", [(*one, now) for one in homes], _HOME)
    insert(client, f"{database}.raw_residency", [(*one, now) for one in policies], _RESIDENCY)
    insert(client, f"{database}.raw_judgements", [_name_row(one, judges, now) for one in names], _NAME)
    return Refreshed(len(names), len(ips), len(homes))


def is_due(client: Client, settings: Settings) -> bool:
    """Whether a refresh would judge anything: cheaper than to find out by one.

    Raises:
        clickhouse_connect.driver.exceptions.Error: a query failed.
    """
    homeless = client.query(
        f"SELECT count() FROM (SELECT DISTINCT {_WHO} FROM {settings.database}.raw_view_destinations "  # noqa: S608 - names of ours
        "WHERE source_workload IS NOT NULL EXCEPT "
        f"SELECT source_cluster, source_namespace, source_workload FROM {settings.database}.raw_homes)"
    ).result_rows
    return (
        bool(homeless[0][0])
        or _are_stale(client, settings)
        or bool(_names(client, settings, everything=False))
        or bool(_ips(client, settings, everything=False))
    )


def forget(client: Writer, settings: Settings) -> dict[str, int]:
    """Remove the judgements of what is no longer seen: after facts were removed. Rows removed, by table.

    Raises:
        clickhouse_connect.driver.exceptions.Error: a statement failed; what is removed stays removed.
    """
    names = _names(client, settings, everything=True)
    hosts = {(cluster, host) for cluster, _, host, _ in names}
    workloads = {tuple(row) for row in _workloads(client, settings)}
    seen: dict[str, tuple[Sequence[str], AbstractSet[tuple[Any, ...]]]] = {
        "raw_judgements": (_NAME[:4], set(names)),
        "raw_judged_addresses": (_ADDRESS[:2], hosts),
        "raw_judged_hosts": (_ADDRESS[:2], hosts),
        "raw_homes": (_HOME[:3], workloads),
        "raw_residency": (_RESIDENCY[:2], {name[:2] for name in names}),
    }
    return {table: _forget(client, settings, table, *of) for table, of in seen.items()}


def _forget(
    client: Writer, settings: Settings, table: str, key: Sequence[str], seen: AbstractSet[tuple[Any, ...]]
) -> int:
    columns = ", ".join(key)
    stored = client.query(
        f"SELECT {columns}, count() FROM {settings.database}.{table} GROUP BY {columns}"  # noqa: S608 - names of ours
    ).result_rows
    unseen = {tuple(one): count for *one, count in stored if tuple(one) not in seen}
    keys = sorted(unseen)
    for at in range(0, len(keys), _KEYS):
        delete(client, settings, table, f"({columns}) IN %(keys)s", {"keys": keys[at : at + _KEYS]})
    return sum(unseen.values())


def _are_stale(client: Client, settings: Settings) -> bool:
    """Whether the registry changed since something was judged; what was seen is never forgotten."""
    rows = client.query(
        f"SELECT (SELECT max(valid_from) FROM {settings.database}.raw_registry) > "  # noqa: S608 - names of ours
        f"(SELECT min(judged_at) FROM {settings.database}.raw_judgements FINAL)"
    ).result_rows
    return bool(rows[0][0])


def _names(client: Client, settings: Settings, *, everything: bool) -> list[tuple[str, str, str, int]]:
    """Cluster, namespace, host and port; of a bare source those of its address's pods, and without one."""
    database = settings.database
    key = "source_cluster, source_namespace, destination_host, destination_port"
    known = f"SELECT {key} FROM {database}.raw_judgements"  # noqa: S608 - names of ours
    rows = client.query(
        f"""
        WITH (SELECT groupUniqArray(cluster) FROM {database}.raw_pods) AS clusters
        SELECT DISTINCT
            ifNull(seen.source_cluster, '') AS cluster,
            if(has(clusters, cluster), cluster, '') AS pod_cluster,
            arrayJoin(arrayDistinct([
                ifNull(seen.source_namespace, ''), coalesce(seen.source_namespace, pod.namespace, '')
            ])) AS namespace,
            ifNull(seen.destination_host, '') AS host,
            ifNull(seen.destination_port, 0) AS port
        FROM {database}.raw_view_destinations AS seen
        LEFT JOIN (SELECT DISTINCT cluster, address, namespace FROM {database}.raw_pods) AS pod
        ON pod.cluster = pod_cluster
            AND pod.address = if(seen.source_workload IS NULL, ifNull(seen.source_ip, ''), '')
        {"" if everything else f"WHERE (cluster, namespace, host, port) NOT IN ({known})"}
        """  # noqa: S608 - names of ours
    ).result_rows
    return [(cluster, namespace, host, port) for cluster, _, namespace, host, port in rows]


def _ips(client: Client, settings: Settings, *, everything: bool) -> list[tuple[str, str, str]]:
    """Cluster, host and address that it was seen at; of hosts that are addresses themselves as well."""
    database = settings.database
    recent = "" if everything else f"WHERE window_start >= now() - INTERVAL {_ADDRESS_DAYS} DAY"
    key = "source_cluster, destination_host, address"
    known = f"SELECT {key} FROM {database}.raw_judged_addresses"  # noqa: S608 - names of ours
    rows = client.query(
        f"""
        SELECT DISTINCT cluster, host, arrayJoin(arrayPushBack(seen.ips, host)) AS address
        FROM
        (
            SELECT
                ifNull(source_cluster, '') AS cluster, ifNull(destination_host, '') AS host,
                destination_ips AS ips
            FROM {database}.raw_view_windows_1d {recent}
        ) AS seen
        {"" if everything else f"WHERE (cluster, host, address) NOT IN ({known})"}
        """  # noqa: S608 - names of ours
    ).result_rows
    return [(cluster, host, address) for cluster, host, address in rows if parse_ip(address)]


def _hosts(database: str, now: datetime) -> str:
    """Statement that puts each host's addresses together: what they say, or what each says if they differ."""
    parts = ("scope", "scope_reason", *(f"{name}{part}" for name in ("region", "geo") for part in _VERDICT))
    differ = f"uniqExact({', '.join(parts)}) > 1"
    several = ("address", *parts)
    return f"""
        INSERT INTO {database}.raw_judged_hosts
            (
                source_cluster, destination_host, is_address, {", ".join(parts)},
                addresses, {", ".join(f"{part}s" for part in parts)}, judged_at
            )
        SELECT
            source_cluster, destination_host, max(address = destination_host),
            {", ".join(f"if({differ}, '', any({part}))" for part in parts)},
            {", ".join(f"if({differ}, groupArray({_HOST_ADDRESSES})({part}), [])" for part in several)},
            fromUnixTimestamp64Milli({int(now.timestamp() * 1000)})
        FROM
        (
            SELECT
                source_cluster, destination_host, address,
                {", ".join(f"ifNull(row.{part}, '') AS {part}" for part in parts)}
            FROM {database}.raw_judged_addresses AS row FINAL
            ORDER BY address
        )
        GROUP BY source_cluster, destination_host
        """  # noqa: S608 - names of ours


def _homes(client: Client, settings: Settings, registries: Registries) -> list[tuple[Any, ...]]:
    """Homes of all workloads that were seen, where they are not what is stored."""
    database = settings.database
    observed = _observed(
        client.query(
            f"SELECT {_WHO}, "  # noqa: S608 - names of ours
            f"groupUniqArray(16)(source_region) FROM {database}.raw_events WHERE source_region IS NOT NULL "
            f"AND kafka_timestamp >= now() - INTERVAL {_ENVELOPE_DAYS} DAY GROUP BY 1, 2, 3"
        ).result_rows
    )
    stored = {
        tuple(row[:3]): (tuple(row[3]), row[4], row[5])
        for row in client.query(
            "SELECT source_cluster, source_namespace, source_workload, regions, confidence, reason "  # noqa: S608 - names of ours
            f"FROM {database}.raw_homes FINAL"
        ).result_rows
    }
    homes: dict[str, Homes] = {}
    found = []
    for cluster, namespace, workload in _workloads(client, settings):
        if cluster not in homes:
            homes[cluster] = Homes(registries.of(cluster), observed.get(cluster))
        home = homes[cluster].of(cluster, Workload(namespace, workload))
        if stored.get((cluster, namespace, workload)) != tuple(home):
            found.append((cluster, namespace, workload, list(home.regions), home.confidence, home.reason))
    return found


def _workloads(client: Client, settings: Settings) -> Sequence[tuple[str, str, str]]:
    """Cluster, namespace and name of every workload that was seen."""
    found: Sequence[tuple[str, str, str]] = client.query(
        f"SELECT DISTINCT {_WHO} "  # noqa: S608 - names of ours
        f"FROM {settings.database}.raw_view_destinations WHERE source_workload IS NOT NULL"
    ).result_rows
    return found


def _policies(
    client: Client, settings: Settings, registries: Registries, namespaces: AbstractSet[tuple[str, str]]
) -> list[tuple[Any, ...]]:
    """Residency policies of these namespaces and of all that were judged, where they are not stored so."""
    database = settings.database
    judged = client.query(
        f"SELECT DISTINCT source_cluster, source_namespace FROM {database}.raw_judgements"  # noqa: S608 - names of ours
    ).result_rows
    columns = _RESIDENCY[:-1]
    stored = {
        tuple(tuple(one) if isinstance(one, list) else one for one in row)
        for row in client.query(
            f"SELECT {', '.join(columns)} FROM {database}.raw_residency FINAL"  # noqa: S608 - as above
        ).result_rows
    }
    rows = {
        _policy_row(cluster, namespace, policy_for(registries.of(cluster), cluster, namespace))
        for cluster, namespace in namespaces | {(cluster, namespace) for cluster, namespace in judged}
    }
    return sorted(rows - stored)


def _policy_row(cluster: str, namespace: str, policy: ResidencyPolicy | None) -> tuple[Any, ...]:
    if policy is None:
        return (cluster, namespace, "", (), (), (), "")
    patterns = tuple(like(region.lower()) for region in policy.regions)
    # As judge.hosts.Hosts finds them: exact ones first, then the longest suffix.
    hosts = tuple(sorted(policy.hosts, key=lambda host: (host.startswith("*"), -len(host))))
    unknown = "violation" if policy.unknown == "violation" else "unknown"
    return (cluster, namespace, policy.name, policy.regions, patterns, hosts, unknown)


def _observed(rows: Iterable[tuple[str, str, str, list[str]]]) -> dict[str, dict[Workload, list[str]]]:
    found: dict[str, dict[Workload, list[str]]] = {}
    for cluster, namespace, workload, regions in rows:
        found.setdefault(cluster, {})[Workload(namespace, workload)] = regions
    return found


def _name_row(key: tuple[str, str, str, int], judges: Judges, now: datetime) -> tuple[Any, ...]:
    cluster, namespace, host, port = key
    found = judges.of(cluster).name(host or None, port or None, namespace or None)
    return (
        *key,
        found.service_entry,
        found.service_entry_reason,
        *found.declared_scope,
        *found.scope,
        *found.declared_region,
        *found.region,
        *found.kind,
        now,
    )


def _ip_row(key: tuple[str, str, str], judges: Judges, now: datetime) -> tuple[Any, ...]:
    cluster, _, address = key
    found = judges.of(cluster).address(address)
    return (*key, *found.scope, *found.region, *found.geo, now)
