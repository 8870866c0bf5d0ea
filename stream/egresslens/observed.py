"""What was seen leaving: traffic summed by source, destination and what a proxy could read of it.

The common ground of `advise` and `whatif`, whether the traffic comes from stored windows or from log files.
Gateways' records are left out: the sidecar logged the same call, with the workload that made it.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from egresslens.record import MAX_DESTINATION_IPS, TIMESTAMP

SOURCE: Final[dict[str, pl.DataType]] = {
    "source_cluster": pl.String(),
    "source_namespace": pl.String(),
    "source_workload": pl.String(),
    "source_ip": pl.String(),
}
KEY: Final[dict[str, pl.DataType]] = {
    **SOURCE,
    "label": pl.String(),
    "destination_host": pl.String(),
    "destination_host_source": pl.String(),
    "destination_port": pl.Int32(),
    "protocol": pl.String(),
    "traffic": pl.String(),
}
OBSERVED: Final[dict[str, pl.DataType]] = {
    **KEY,
    "destination_ips": pl.List(pl.String()),
    "requests": pl.Int64(),
    "first_event": TIMESTAMP,
    "last_event": TIMESTAMP,
}


def of_records(records: pl.DataFrame) -> pl.DataFrame:
    """Sum records (record.SCHEMA) to OBSERVED."""
    return combine(
        [
            records.filter(_not_gateway()).with_columns(
                pl.when(pl.col("source_workload").is_null()).then("source_ip").alias("source_ip"),
                _traffic(server_name=pl.col("requested_server_name").is_not_null()).alias("traffic"),
                pl.concat_list("destination_ip").list.drop_nulls().alias("destination_ips"),
                pl.lit(1, pl.Int64).alias("requests"),
                pl.col("event_time").alias("first_event"),
                pl.col("event_time").alias("last_event"),
            )
        ]
    )


def of_windows(windows: pl.DataFrame) -> pl.DataFrame:
    """Sum rows of a windows view (WINDOW_KEY columns and measures) to OBSERVED."""
    # A window does not keep the server name of a connection whose host the registry named.
    known = _traffic(server_name=pl.col("destination_host_source") == "sni")
    return combine([windows.filter(_not_gateway()).with_columns(known.alias("traffic"))])


def combine(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Put several parts together: OBSERVED, one row per key, in a stable order."""
    return (
        pl.concat(
            [part.select(pl.col(name).cast(dtype) for name, dtype in OBSERVED.items()) for part in parts]
        )
        .group_by(*KEY)
        .agg(
            pl.col("destination_ips").explode().drop_nulls().unique().sort().head(MAX_DESTINATION_IPS),
            pl.col("requests").sum(),
            pl.col("first_event").min(),
            pl.col("last_event").max(),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in OBSERVED.items())
        .sort(*KEY, nulls_last=True)
    )


def clusters(observed: pl.DataFrame) -> list[str]:
    """Names of the clusters in OBSERVED, sorted."""
    return sorted(name for name in observed["source_cluster"].unique() if name)


def _not_gateway() -> pl.Expr:
    return pl.col("hop").ne_missing(pl.lit("gateway"))


def _traffic(server_name: pl.Expr) -> pl.Expr:
    """What a proxy could read (judge.cover.Traffic): HTTP, a server name, or nothing."""
    return (
        pl.when(pl.col("protocol").str.starts_with("HTTP"))
        .then(pl.lit("http"))
        .when(pl.col("destination_host_source") == "authority")
        .then(pl.lit("http"))
        .when(server_name)
        .then(pl.lit("tls"))
        .when(pl.col("destination_host_source") == "registry")
        .then(pl.lit("opaque"))
        .otherwise(pl.lit("tcp"))
    )
