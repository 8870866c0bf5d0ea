"""What was seen leaving, from the published windows, as a reader."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import polars as pl

from egresslens import observed
from egresslens.record import MAX_DESTINATION_IPS
from egresslens.settings import Settings

_KEY: Final = (
    "source_cluster",
    "source_namespace",
    "source_workload",
    "source_ip",
    "label",
    "destination_host",
    "destination_host_source",
    "destination_port",
    "protocol",
    "hop",
)
# Beyond this, whole days are precise enough.
_HOURS: Final = timedelta(days=7)


class Client(Protocol):
    """What reading needs of a clickhouse-connect client."""

    def raw_query(self, query: str, *, parameters: dict[str, Any], fmt: str) -> bytes:
        """Run a query; the result in a format."""


def read_observed(
    client: Client, settings: Settings, since: datetime, until: datetime, cluster: str | None = None
) -> pl.DataFrame:
    """Read observed.OBSERVED of a time range: whole hours, or whole days where it is longer than a week.

    A workload is also the one behind a bare source address (pod table).

    Args:
        client: a connected reader.
        settings: for the database's name.
        since: from here (aware), rounded down.
        until: up to here (aware).
        cluster: only what this cluster sent; None is all.

    Raises:
        clickhouse_connect.driver.exceptions.Error: the query failed.
    """
    days = until - since > _HOURS
    view, start = ("windows_1d", "toStartOfDay") if days else ("windows_1h", "toStartOfHour")
    key = ", ".join(f"row.{name} AS {name}" for name in _KEY if not name.startswith("source_"))
    body = client.raw_query(
        f"""
        SELECT
            row.source_cluster AS source_cluster,
            coalesce(row.source_namespace, row.source_ip_namespace) AS source_namespace,
            coalesce(row.source_workload, row.source_ip_workload) AS source_workload,
            if(source_workload IS NULL, row.source_ip, NULL) AS source_ip,
            {key},
            arraySlice(arraySort(groupUniqArrayArray(row.destination_ips)), 1, {MAX_DESTINATION_IPS})
                AS destination_ips,
            sum(row.requests) AS requests,
            min(row.first_event) AS first_event,
            max(row.last_event) AS last_event
        FROM {settings.database}.{view} AS row
        WHERE row.window_start >= {start}(toDateTime(%(since)s, 'UTC'))
            AND row.window_start < toDateTime(%(until)s, 'UTC')
            AND (%(cluster)s = '' OR row.source_cluster = %(cluster)s)
        GROUP BY {", ".join(_KEY)}
        """,  # noqa: S608 - names of ours, values are bound
        parameters={
            "since": int(since.timestamp()),
            "until": int(until.timestamp()),
            "cluster": cluster or "",
        },
        fmt="ArrowStream",
    )
    if not body:
        return pl.DataFrame(schema=observed.OBSERVED)
    return observed.of_windows(pl.read_ipc_stream(io.BytesIO(body)))
