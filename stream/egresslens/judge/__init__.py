"""Judgement at read time: what a registry says of traffic that was seen.

Pure functions over values, applied to the distinct values of a frame. Nothing here is stored with the facts:
a ServiceEntry added today changes yesterday's answers. Entry points: `judge` for frames, `Judge` for single
destinations, `residency` and `home` for policies and homes.
"""

from egresslens.judge.frames import JUDGED, Judges, judge
from egresslens.judge.judgement import Judge, Judgement

__all__ = ["JUDGED", "Judge", "Judgement", "Judges", "judge"]
