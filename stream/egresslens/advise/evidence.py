"""Evidence: rows of what was seen, summed for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from egresslens.advise.values import Evidence, Row


def evidence(rows: Iterable[Row]) -> tuple[Evidence, ...]:
    """One evidence per host and port, by host."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["destination_host"] or "", row["destination_port"] or 0), []).append(row)
    return tuple(_summed(host, port, several) for (host, port), several in sorted(groups.items()))


def source(row: Row) -> str:
    """`cluster/namespace/workload` as far as known, else the address."""
    parts = [row[name] for name in ("source_cluster", "source_namespace", "source_workload") if row[name]]
    return "/".join(parts) if row["source_workload"] else row["source_ip"] or "/".join(parts) or "unknown"


def _summed(host: str, port: int, rows: list[Row]) -> Evidence:
    sources: Counter[str] = Counter()
    for row in rows:
        sources[source(row)] += row["requests"]
    return Evidence(
        host=host,
        port=port or None,
        requests=sum(row["requests"] for row in rows),
        sources=tuple(sorted(sources.items(), key=lambda item: (-item[1], item[0]))),
        name_sources=tuple(sorted({row["destination_host_source"] or "unknown" for row in rows})),
        first=min(row["first_event"] for row in rows),
        last=max(row["last_event"] for row in rows),
        ips=tuple(sorted({ip for row in rows for ip in row["destination_ips"] or ()})),
    )
