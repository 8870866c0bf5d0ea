"""The answers: the SQL that gives them, and whether they are what was sent.

Everything is read from the published views, with the reader's account, and once more from the console.
"""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import polars as pl
from clickhouse_connect.driver.client import Client

from egresslens.demo.plan import GATEWAY, GATEWAY_NAMESPACE, NAMESPACE
from egresslens.demo.truth import Line


@dataclass(frozen=True)
class Question:
    """A question in words and in SQL (`{database}` is filled in)."""

    title: str
    sql: str

    def in_database(self, database: str) -> str:
        """The statement as it is run and shown."""
        return self.sql.format(database=database)


QUESTIONS: Final = (
    Question(
        "Who calls what?",
        """\
SELECT source_namespace AS namespace, source_workload AS workload, label, destination_host,
       destination_port AS port, response_code AS code, sum(requests) AS calls,
       sum(bytes_received) AS bytes_out, sum(bytes_sent) AS bytes_in
FROM {database}.windows_1m
WHERE hop = 'sidecar'
GROUP BY ALL
ORDER BY workload, destination_host, port, label, code""",
    ),
    Question(
        "What was blocked, and who tried?",
        """\
SELECT source_namespace AS namespace, source_workload AS workload, destination_host,
       destination_port AS port, if(response_code = 502, 'HTTP 502', 'connection closed') AS how,
       sum(requests) AS attempts, min(first_event) AS first, max(last_event) AS last
FROM {database}.windows_1m
WHERE label = 'blackhole'
GROUP BY ALL
ORDER BY attempts DESC, workload, destination_host""",
    ),
    Question(
        "Which database instances do workloads write to?",
        """\
SELECT source_namespace AS namespace, source_workload AS workload, destination_host AS database,
       destination_port AS port, sum(requests) AS connections, sum(bytes_received) AS bytes_written,
       sum(bytes_sent) AS bytes_read
FROM {database}.windows_1m
WHERE destination_port IN (3306, 5432) AND hop = 'sidecar'
GROUP BY ALL
ORDER BY bytes_written DESC""",
    ),
)

_COUNTED: Final = """\
SELECT source_namespace, source_workload, hop, label, destination_host, destination_port,
       ifNull(response_code, 0), sum(requests), sum(bytes_received), sum(bytes_sent)
FROM {database}.windows_1m
GROUP BY ALL"""
_EVENTS: Final = """\
SELECT source_namespace, source_workload, hop, label, destination_host, destination_port,
       ifNull(response_code, 0), count(), sum(bytes_received), sum(bytes_sent)
FROM {database}.events
GROUP BY ALL"""
_PROGRESS: Final = """\
SELECT sum(messages), sumMap(filtered), sumMap(rejected) FROM {database}.progress"""


class Key(NamedTuple):
    """What is counted apart. `code` 0: no HTTP answer."""

    namespace: str | None
    workload: str | None
    hop: str | None
    label: str
    host: str | None
    port: int | None
    code: int


class Count(NamedTuple):
    """What is counted; bytes in the workload's direction."""

    calls: int
    bytes_out: int
    bytes_in: int


class Totals(NamedTuple):
    """What became of the messages: how many there were, and what was left out, by reason."""

    messages: int
    filtered: dict[str, int]
    rejected: dict[str, int]


def counted(lines: Iterable[Line]) -> dict[Key, Count]:
    """What must be found for the lines that are stored."""
    counts: dict[Key, Count] = {}
    for line in lines:
        if line.stored:
            at_gateway = line.proxy == GATEWAY
            key = Key(
                GATEWAY_NAMESPACE if at_gateway else NAMESPACE,
                line.proxy,
                line.hop,
                line.label,
                line.destination_host,
                line.destination_port,
                line.response_code,
            )
            before = counts.get(key, Count(0, 0, 0))
            counts[key] = Count(
                before.calls + 1, before.bytes_out + line.bytes_received, before.bytes_in + line.bytes_sent
            )
    return counts


def totals(lines: Sequence[Line]) -> Totals:
    """What must have become of all lines."""
    left_out = Counter(line.label for line in lines if not line.stored)
    return Totals(len(lines), dict(left_out), {})


def found_in_windows(client: Client, database: str) -> dict[Key, Count]:
    """What `windows_1m` says, in total."""
    return _found(client, _COUNTED.format(database=database))


def found_in_events(client: Client, database: str) -> dict[Key, Count]:
    """What `events` says, in total."""
    return _found(client, _EVENTS.format(database=database))


def found_in_graph(console: str) -> dict[Key, Count]:
    """What the console's graph says (`console` is its URL)."""
    with urllib.request.urlopen(f"{console}api/v1/graph?limit=10000", timeout=60) as answer:  # noqa: S310 - on loopback
        edges = json.load(answer)["edges"]
    return {
        Key(
            edge["source_namespace"],
            edge["source_workload"],
            "sidecar",
            edge["label"],
            edge["destination_host"],
            edge["destination_port"],
            0,
        ): Count(edge["requests"], edge["bytes_received"], edge["bytes_sent"])
        for edge in edges
    }


def as_edges(counts: dict[Key, Count]) -> dict[Key, Count]:
    """What the graph must say: each call once, where its caller's sidecar logged it, whatever its code."""
    edges: dict[Key, Count] = {}
    for key, count in counts.items():
        if key.hop == "sidecar":
            edge = key._replace(code=0)
            edges[edge] = Count(*map(sum, zip(edges.get(edge, Count(0, 0, 0)), count, strict=True)))
    return edges


def found_totals(client: Client, database: str) -> Totals:
    """What `progress` says became of the messages."""
    messages, filtered, rejected = client.query(_PROGRESS.format(database=database)).result_rows[0]
    return Totals(messages or 0, _reasons(filtered), _reasons(rejected))


def differences(expected: dict[Key, Count], found: dict[Key, Count]) -> pl.DataFrame:
    """Where what was found is not what was sent: one row per key and side; empty when all agree."""
    rows = []
    for key in sorted(expected.keys() | found.keys(), key=str):
        if expected.get(key) != found.get(key):
            for side, counts in (("sent", expected), ("found", found)):
                rows.append([side, *key, *counts.get(key, Count(0, 0, 0))])
    schema = ["", *Key._fields, *Count._fields]
    return pl.DataFrame(rows, schema=schema, orient="row", infer_schema_length=None)


def answer(client: Client, question: Question, database: str) -> pl.DataFrame:
    """Ask, and return the rows as a frame."""
    result = client.query(question.in_database(database))
    return pl.DataFrame(
        result.result_rows, schema=list(result.column_names), orient="row", infer_schema_length=None
    )


def _found(client: Client, sql: str) -> dict[Key, Count]:
    return {Key(*row[:7]): Count(*row[7:]) for row in client.query(sql).result_rows}


def _reasons(counts: dict[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in counts.items() if count}
