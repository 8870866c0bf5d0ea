"""The real lines with what is true of each, and how a parsed record is held against it.

Run as a program it prints the table by format (`make samples`).
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from egresslens.enrich import ORIGIN, enrich
from egresslens.rules import Rules

LINES = Path(__file__).parent / "samples" / "access_log_lines.jsonl"
# Not in the record: Istio's default formats do not have it.
NOT_KEPT = {"grpc_status"}


def samples(path: Path = LINES) -> list[dict[str, Any]]:
    """`raw`, `format` and `truth` of each line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def records(raws: list[str]) -> list[dict[str, Any] | None]:
    """What each message became: its first record, or None."""
    values = [raw.encode() for raw in raws]
    origins = pl.DataFrame({name: [None] * len(values) for name in ORIGIN}, schema=ORIGIN)
    found = enrich(values, origins, Rules(keep_query=True), keep_all=True).records
    firsts = {row["message"]: row for row in reversed(found.to_dicts())}
    return [firsts.get(message) for message in range(len(values))]


def differences(record: dict[str, Any] | None, truth: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Field -> (what is true, what was read), where they differ."""
    wanted = {name: value for name, value in truth.items() if name not in NOT_KEPT}
    if record is None:
        return {name: (value, "no record") for name, value in wanted.items()}
    return {name: (value, record[name]) for name, value in wanted.items() if not _agrees(name, value, record)}


def _agrees(name: str, value: Any, record: dict[str, Any]) -> bool:
    read = record[name]
    if name == "label":
        return read in {"internal", "unknown"} if value == "none" else read == value
    if name == "response_flags":
        return (",".join(read) if read else None) == value
    if name == "start_time":
        return (f"{read:%Y-%m-%dT%H:%M:%S}.{read.microsecond // 1000:03d}Z" if read else None) == value
    if name == "destination_host" and value is None:
        return record["destination_host_source"] in {"address", None}
    return read == value


def main(path: Path) -> int:
    """Print lines, labels and fields that are right, by format; 0 if all are."""
    lines, labels, fields, right = Counter(), Counter(), Counter(), Counter()
    every = samples(path)
    for sample, record in zip(every, records([sample["raw"] for sample in every]), strict=True):
        name, truth = sample["format"], sample["truth"]
        wrong = differences(record, truth)
        lines[name] += 1
        labels[name] += "label" not in wrong
        fields[name] += len(truth.keys() - NOT_KEPT)
        right[name] += len(truth.keys() - NOT_KEPT - wrong.keys())
        for field, (want, got) in wrong.items():
            print(f"  {name}: {field} is {want!r}, read as {got!r}")
    print(f"{'format':40} {'lines':>5} {'labels right':>12} {'fields right':>14}")
    for name in sorted(lines):
        print(f"{name:40} {lines[name]:5} {labels[name]:12} {right[name]:7}/{fields[name]}")
    total = f"{'all':40} {lines.total():5} {labels.total():12} {right.total():7}/{fields.total()}"
    print(total)
    return 0 if right == fields else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else LINES))
