"""Answers from records in memory: who calls what, and what was blocked (`egresslens analyze`)."""

from __future__ import annotations

from typing import Final

import polars as pl

SOURCE: Final = ("source_cluster", "source_namespace", "source_workload", "source_ip")
DESTINATION: Final = ("label", "destination_host", "destination_port")
_KEY: Final = (*SOURCE, *DESTINATION)


def summarize(records: pl.DataFrame) -> pl.DataFrame:
    """Sum records (record.SCHEMA) by source and destination.

    Returns:
        _KEY, requests, errors (response codes from 400 and connections with flags), bytes_sent,
        bytes_received, first_event, last_event, evidence (how blocked ones were recognised).
    """
    code = pl.col("response_code").fill_null(0)
    failed = (code >= 400) | ((code == 0) & pl.col("response_flags").is_not_null())
    return (
        records.filter(pl.col("hop") != "gateway")
        .with_columns(pl.when(pl.col("source_workload").is_null()).then("source_ip").alias("source_ip"))
        .group_by(_KEY)
        .agg(
            pl.len().cast(pl.Int64).alias("requests"),
            failed.sum().cast(pl.Int64).alias("errors"),
            pl.col("bytes_sent").sum(),
            pl.col("bytes_received").sum(),
            pl.col("event_time").min().alias("first_event"),
            pl.col("event_time").max().alias("last_event"),
            pl.col("label_evidence").unique().sort().alias("evidence"),
        )
    )


def combine(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Put summaries of several batches together."""
    return (
        pl.concat(parts)
        .group_by(_KEY)
        .agg(
            pl.col("requests", "errors", "bytes_sent", "bytes_received").sum(),
            pl.col("first_event").min(),
            pl.col("last_event").max(),
            pl.col("evidence").explode().unique().sort(),
        )
        .sort("requests", "destination_host", descending=[True, False], nulls_last=True)
    )


def source_name() -> pl.Expr:
    """`cluster/namespace/workload` as far as known, else the address."""
    named = pl.concat_str(
        "source_cluster", "source_namespace", "source_workload", separator="/", ignore_nulls=True
    )
    return pl.when(pl.col("source_workload").is_not_null()).then(named).otherwise("source_ip").alias("source")
