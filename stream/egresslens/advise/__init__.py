"""From observed traffic to the ServiceEntries and Sidecars that would allow it.

`advise` decides (a pure function), `render` writes YAML for `kubectl apply`, the evidence as comments.
"""

from egresslens.advise.plan import advise
from egresslens.advise.render import render, render_diff
from egresslens.advise.values import Advice, Options

__all__ = ["Advice", "Options", "advise", "render", "render_diff"]
