"""Which tier answers for a range, and the range that its windows cover exactly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final, Literal

from egresslens.settings import Settings

Tier = Literal["1m", "1h", "1d"]

WIDTH: Final[dict[Tier, timedelta]] = {
    "1m": timedelta(minutes=1),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}
# The longest range that a tier answers for, so that no report reads more than some hundreds of its windows.
_LONGEST: Final[dict[Tier, timedelta]] = {"1m": timedelta(hours=6), "1h": timedelta(days=14)}
_COARSER_FIRST: Final[tuple[Tier, ...]] = ("1d", "1h", "1m")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Period:
    """From `since` to before `until` (UTC), in whole windows of the tier."""

    since: datetime
    until: datetime
    tier: Tier


def period(settings: Settings, since: datetime, until: datetime, now: datetime, *, exact: bool) -> Period:
    """Choose the tier: the coarsest that still suits the range, so that the least is read.

    A range of up to 6 hours is read from minutes, up to 14 days from hours, more from days. With `exact`
    (the range's ends were named), a tier into whose windows the ends do not fit gives way to a finer one.
    Where a finer tier is no longer kept, the next one answers. The range is widened to whole windows; an end
    in the future counts as fitting.

    Args:
        settings: how long each tier is kept.
        since: the range's beginning (aware).
        until: its end, not included.
        now: the present moment.
        exact: whether the ends were named rather than counted back from now.
    """
    length = until - since
    suits: Tier = "1m" if length <= _LONGEST["1m"] else "1h" if length <= _LONGEST["1h"] else "1d"
    kept: dict[Tier, int] = {
        "1m": settings.windows_1m_ttl_days,
        "1h": settings.windows_1h_ttl_days,
        "1d": settings.windows_1d_ttl_days,
    }
    if exact:
        suits = next(one for one in _COARSER_FIRST if one == "1m" or _suits(one, suits, since, until, now))
    held = [
        one for one in reversed(_COARSER_FIRST) if one == "1d" or since >= now - timedelta(days=kept[one])
    ]
    tier = suits if suits in held else held[0]
    return Period(_down(since, tier), _up(until, tier), tier)


def _suits(tier: Tier, coarsest: Tier, since: datetime, until: datetime, now: datetime) -> bool:
    """Whether the range's ends fit into windows of a tier no coarser than `coarsest`."""
    if WIDTH[tier] > WIDTH[coarsest]:
        return False
    return _down(since, tier) == since and (until >= now or _down(until, tier) == until)


def _down(moment: datetime, tier: Tier) -> datetime:
    return moment - (moment - _EPOCH) % WIDTH[tier]


def _up(moment: datetime, tier: Tier) -> datetime:
    down = _down(moment, tier)
    return down if down == moment else down + WIDTH[tier]
