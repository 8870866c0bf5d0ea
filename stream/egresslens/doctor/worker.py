"""A worker's own word, over HTTP."""

from __future__ import annotations

import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, Final

import orjson

from egresslens.doctor.finding import Finding, fail, ok, warn
from egresslens.doctor.groups import short

PART: Final = "worker"
_LARGEST: Final = 10 * 2**20
# The header `Date` has whole seconds.
_SKEW: Final = timedelta(seconds=5)


def ready(url: str, timeout_s: float) -> list[Finding]:
    """What /readyz of a worker says, and its clock."""
    address = url.rstrip("/").removesuffix("/readyz") + "/readyz"
    try:
        status, date, body = _get(address, timeout_s)
        said: dict[str, Any] = orjson.loads(body)
        partitions, outages, behind = len(said["partitions"]), said["outages"], int(said["lag_records"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        return [
            fail(
                PART,
                f"{address} does not answer as a worker: {error}",
                "Is it a worker's address (EGRESSLENS_WEB_HOST, EGRESSLENS_WEB_PORT), and does it run?",
            )
        ]
    told = {name: said.get(name) for name in ("ready", "healthy", "lag_records", "outages")}
    found = []
    if status == 200:
        found.append(ok(PART, f"{address}: ready, {partitions} partitions, {behind:,} behind", **told))
    elif outages:
        found.append(
            fail(
                PART, f"{address}: waits for {', '.join(outages)}", "Mend that; it goes on by itself.", **told
            )
        )
    elif not told["healthy"]:
        found.append(
            fail(PART, f"{address}: is stuck", "Restart it: nothing is lost. Its log says why.", **told)
        )
    else:
        found.append(
            warn(PART, f"{address}: has no partitions", "More workers than partitions, or it has just begun.")
        )
    return [*found, *_clock(address, date)]


def _get(address: str, timeout_s: float) -> tuple[int, str | None, bytes]:
    """Status, `Date` and body; also of an answer that is an error."""
    if not address.startswith(("http://", "https://")):
        raise ValueError("a worker's address begins with http:// or https://")
    try:
        with urllib.request.urlopen(address, timeout=timeout_s) as answer:  # noqa: S310 - as above
            return answer.status, answer.headers["Date"], answer.read(_LARGEST)
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Date"], error.read(_LARGEST)


def _clock(address: str, date: str | None) -> list[Finding]:
    try:
        off = parsedate_to_datetime(date or "") - datetime.now(timezone.utc)
    except (TypeError, ValueError):
        return []
    if abs(off) <= _SKEW:
        return []
    side = "ahead of" if off > timedelta() else "behind"
    return [
        warn("clocks", f"{address} is {short(abs(off))} {side} this machine's clock", "Mend the clock (NTP).")
    ]
