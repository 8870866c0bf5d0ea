"""Hits in window rows: what each kind of rule looks for. What must be asked, `history` asks before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import polars as pl
from pydantic import ValidationError

from egresslens.alerts.book import Hit, Subject
from egresslens.alerts.rules import AlertRules, Kind, Rule
from egresslens.judge import Judges, judge
from egresslens.judge.residency import residency
from egresslens.messages import WindowRow
from egresslens.record import OTHER, TIMESTAMP, WINDOW, WINDOW_KEY
from egresslens.registry.value import Registries

_TIMES: Final = [name for name, dtype in WINDOW.items() if dtype == TIMESTAMP]
_TEXTS: Final = {name: pl.String() if dtype == TIMESTAMP else dtype for name, dtype in WINDOW.items()}
_SUBJECT: Final = Subject._fields
_ROW: Final = ("stream_epoch", "topic", "partition", *WINDOW_KEY)
# As the tables count: rows by newer rules beat all rows by older ones.
_RULES_STEP: Final = 2**44


class FirstSeen(NamedTuple):
    """When a caller was first seen at all, and when with this destination; None is never before now."""

    caller: datetime | None
    destination: datetime | None


class Volume(NamedTuple):
    """What a workload sent out in a minute, and the busiest hour of its last 7 days."""

    subject: Subject
    minute: datetime
    bytes: int
    busiest_hour: int
    hours: int
    last_event: datetime


def read(values: Sequence[bytes | None]) -> pl.DataFrame:
    """Read messages of the windows topic: record.WINDOW, without gateways' rows.

    A message that is no window row is left out: nobody but the workers should write there.
    """
    lines = [value for value in values if value]
    try:
        rows = pl.read_ndjson(b"\n".join(lines), schema=_TEXTS) if lines else pl.DataFrame(schema=_TEXTS)
        rows = rows.with_columns(
            pl.col(name).str.to_datetime(time_unit="ms", time_zone="UTC") for name in _TIMES
        )
        if (
            rows.height == len(lines)
            and not rows.select(pl.col("window_start", "last_offset")).null_count().sum_horizontal()[0]
        ):
            return rows.filter(pl.col("hop") != "gateway")
    except (pl.exceptions.PolarsError, ValueError):
        pass
    sound = [row.model_dump() for row in map(_row, lines) if row is not None]
    return pl.DataFrame(sound, schema=WINDOW).filter(pl.col("hop") != "gateway")


def pairs(rows: pl.DataFrame) -> set[Subject]:
    """Callers and destinations that the rows name, but for what stands for many."""
    named = rows.filter((pl.col("label") != "blackhole") & (pl.col("destination_host") != OTHER))
    return {Subject(*row) for row in named.select(_SUBJECT).unique().iter_rows()}


def blackholes(rows: pl.DataFrame, rules: AlertRules, now: datetime) -> Iterator[Hit]:
    """Attempts that the mesh blocked."""
    found = rows.filter(pl.col("label") == "blackhole")
    for rule, row in _concerned(found, rules, "blackhole", now):
        subject = _subject(row)
        yield _hit(
            rule,
            row,
            row["requests"],
            f"{subject.source} tried to reach {subject.destination}, and the mesh blocked it",
            {"response_code": str(row["response_code"]), "named_by": str(row["destination_host_source"])},
        )


def mismatches(rows: pl.DataFrame, rules: AlertRules, now: datetime) -> Iterator[Hit]:
    """Calls whose host is not the one that the named cluster stands for."""
    for rule, row in _concerned(rows.filter(pl.col("mismatches") > 0), rules, "mismatch", now):
        subject = _subject(row)
        yield _hit(
            rule,
            row,
            row["mismatches"],
            f"{subject.source}: the host asked for is not the one of the cluster that took the call "
            f"({subject.destination})",
            {"label": row["label"]},
        )


def violations(
    rows: pl.DataFrame, rules: AlertRules, registries: Registries, judges: Judges, now: datetime
) -> Iterator[Hit]:
    """Traffic to where a residency policy does not allow it."""
    if not any(registry.residency for registry in registries) or not _of_kind(rules, "residency"):
        return
    judged = judge(rows.filter(pl.col("label") != "blackhole"), judges).filter(
        pl.col("destination_scope") != "mesh"
    )
    for rule, row in _concerned(judged, rules, "residency", now):
        cluster = row["source_cluster"]
        said = residency(
            registries.of(cluster),
            cluster,
            row["source_namespace"],
            row["destination_host"],
            row["destination_region"],
        )
        if said.outcome == "violation":
            subject = _subject(row)
            region = row["destination_region"] or "an unknown region"
            yield _hit(
                rule,
                row,
                row["requests"],
                f"{subject.source} sends to {subject.destination} in {region}, "
                f"against the policy {said.policy}",
                {
                    "policy": said.policy or "",
                    "region": row["destination_region"] or "unknown",
                    "reason": said.reason or "",
                    "region_reason": row["destination_region_reason"] or "",
                },
            )


def new_destinations(
    rows: pl.DataFrame, rules: AlertRules, known: Mapping[Subject, FirstSeen], now: datetime
) -> Iterator[Hit]:
    """Calls of destinations that the workload never called before.

    A destination is new if nothing before the row's minute called it. A workload that was itself first seen
    less than `learning_hours` before is still learned, and nothing is said of it.
    """
    named = rows.filter((pl.col("label") != "blackhole") & (pl.col("destination_host") != OTHER))
    first = named.sort("window_start", maintain_order=True)
    for rule, row in _concerned(first, rules, "new_destination", now):
        subject = _subject(row)
        seen = known.get(subject)
        if seen is None or (seen.destination is not None and seen.destination < row["window_start"]):
            continue
        learned = timedelta(hours=24 if rule.learning_hours is None else rule.learning_hours)
        began = seen.caller or row["first_event"]
        if row["first_event"] - began < learned:
            continue
        yield _hit(
            rule,
            row,
            row["requests"],
            f"{subject.source} calls {subject.destination} for the first time",
            {"label": row["label"], "caller_first_seen": began.isoformat()},
        )


def volumes(found: Iterable[Volume], rules: AlertRules, now: datetime) -> Iterator[Hit]:
    """Minutes in which a workload sent out far more than it ever did in the last 7 days.

    Far more is: more than `factor` times the average minute of its busiest hour, and more than `min_bytes`;
    nothing is said of a workload that had traffic in fewer than `history_hours` hours.
    """
    for volume in found:
        usual = volume.busiest_hour / 60
        for rule in _of_kind(rules, "volume"):
            factor = rule.factor or 5.0
            enough = volume.bytes > max(factor * usual, rule.min_bytes or 10_000_000)
            if not enough or volume.hours < (rule.history_hours or 24):
                continue
            subject = volume.subject
            names = (subject.source_cluster, subject.source_namespace, subject.source_workload, None)
            if not rule.only.fits(*names) or rules.muted(rule, *names, now):
                continue
            yield Hit(
                rule=rule.name,
                kind=rule.kind,
                severity=rule.severity,
                once=False,
                subject=subject,
                window_start=volume.minute,
                row=volume.minute.isoformat(),
                offset=volume.bytes,
                count=volume.bytes,
                first_event=volume.minute,
                last_event=volume.last_event,
                summary=f"{subject.source} sent out {volume.bytes:,} bytes in a minute; "
                f"the average minute of its busiest hour of the last 7 days has {usual:,.0f}",
                details={"minute": volume.minute.isoformat(), "usual_bytes": f"{usual:.0f}"},
            )


def _concerned(
    rows: pl.DataFrame, rules: AlertRules, kind: Kind, now: datetime
) -> Iterator[tuple[Rule, dict[str, Any]]]:
    """Rules of a kind with the rows that concern them: not too old, not muted."""
    wanted = _of_kind(rules, kind)
    if not wanted or rows.is_empty():
        return
    oldest = now - timedelta(hours=rules.max_age_hours)
    for row in rows.filter(pl.col("window_start") >= oldest).iter_rows(named=True):
        names = (
            row["source_cluster"], row["source_namespace"], row["source_workload"], row["destination_host"],
        )  # fmt: skip
        for rule in wanted:
            if rule.only.fits(*names) and not rules.muted(rule, *names, now):
                yield rule, row


def _of_kind(rules: AlertRules, kind: Kind) -> list[Rule]:
    return [rule for rule in rules.rules if rule.kind == kind]


def _subject(row: Mapping[str, Any]) -> Subject:
    return Subject(*(row[name] for name in _SUBJECT))


def _hit(rule: Rule, row: Mapping[str, Any], count: int, summary: str, details: Mapping[str, str]) -> Hit:
    named = "\x00".join(str(row[name]) for name in _ROW)
    return Hit(
        rule=rule.name,
        kind=rule.kind,
        severity=rule.severity,
        once=rule.once,
        subject=_subject(row),
        window_start=row["window_start"],
        row=hashlib.blake2b(named.encode(), digest_size=8).hexdigest(),
        offset=row["rules_version"] * _RULES_STEP + row["last_offset"],
        count=count,
        first_event=row["first_event"],
        last_event=row["last_event"],
        summary=summary,
        details=details,
    )


def _row(line: bytes) -> WindowRow | None:
    try:
        return WindowRow.model_validate_json(line)
    except ValidationError:
        return None
