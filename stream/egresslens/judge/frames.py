"""Frames, judged: the judgement columns beside any frame that names destinations."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from egresslens.judge.address import Lookup
from egresslens.judge.judgement import Judge, Judgement
from egresslens.registry.value import Registries

JUDGED: Final[dict[str, pl.DataType]] = {
    "destination_scope": pl.String(),
    "destination_scope_confidence": pl.String(),
    "destination_scope_reason": pl.String(),
    "destination_region": pl.String(),
    "destination_region_confidence": pl.String(),
    "destination_region_reason": pl.String(),
    "destination_kind": pl.String(),
    "destination_kind_confidence": pl.String(),
    "destination_kind_reason": pl.String(),
    "service_entry": pl.String(),
    "service_entry_reason": pl.String(),
}

# What a judgement follows from. Columns that a frame lacks are unknown.
_KEY: Final[dict[str, pl.DataType]] = {
    "source_cluster": pl.String(),
    "source_namespace": pl.String(),
    "destination_host": pl.String(),
    "destination_host_source": pl.String(),
    "destination_port": pl.Int32(),
}


class Judges:
    """A `Judge` per registry, made when first needed."""

    def __init__(self, registries: Registries, geo: Lookup | None = None) -> None:
        self._registries = registries
        self._geo = geo
        self._made: dict[str, Judge] = {}

    def of(self, cluster: str | None) -> Judge:
        """The judge for records of a cluster."""
        registry = self._registries.of(cluster)
        if registry.cluster not in self._made:
            self._made[registry.cluster] = Judge(registry, self._geo)
        return self._made[registry.cluster]


def judge(frame: pl.DataFrame, judges: Judges) -> pl.DataFrame:
    """Add the columns of JUDGED.

    Args:
        frame: `destination_host`, and of `destination_port`, `destination_host_source`, `destination_ips` (a
            list) or `destination_ip`, `source_cluster` and `source_namespace` what is known; without a
            column it counts as unknown. Columns of JUDGED are replaced.
        judges: the registries to judge by.

    Returns:
        The frame's rows in their order. Absent judgements are null; a scope is never absent.
    """
    frame = frame.drop(name for name in JUDGED if name in frame.columns)
    keyed = frame.with_columns(
        *(pl.lit(None, dtype).alias(name) for name, dtype in _KEY.items() if name not in frame.columns),
        _ips(frame).alias("_ips"),
    )
    key = [*_KEY, "_ips"]
    distinct = keyed.select(key).unique()
    rows = [_row(row, judges) for row in distinct.iter_rows(named=True)]
    found = distinct.hstack(pl.DataFrame(rows, schema=JUDGED, orient="row"))
    return keyed.join(found, on=key, how="left", nulls_equal=True, maintain_order="left").select(
        *frame.columns, *JUDGED
    )


def _ips(frame: pl.DataFrame) -> pl.Expr:
    """The addresses as one text: lists are no keys of a join."""
    if "destination_ips" in frame.columns:
        return pl.col("destination_ips").list.sort().list.join(" ")
    return pl.col("destination_ip") if "destination_ip" in frame.columns else pl.lit(None, pl.String)


def _row(row: dict[str, Any], judges: Judges) -> tuple[str | None, ...]:
    found = judges.of(row["source_cluster"]).judge(
        row["destination_host"],
        row["destination_port"],
        row["source_namespace"],
        tuple((row["_ips"] or "").split()),
        registered=row["destination_host_source"] == "registry",
    )
    return flat(found)


def flat(found: Judgement) -> tuple[str | None, ...]:
    """A judgement as a row of JUDGED."""
    return (*found.scope, *found.region, *found.kind, found.service_entry, found.service_entry_reason)
