"""The worker: the Faust app, its pipeline, and what it tells the outside.

`faust -A egresslens.worker worker` finds `app` here; it is made when it is asked for, so that importing this
package reads no settings.
"""

from __future__ import annotations

import sys
from typing import Any


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    from egresslens.worker import tuning  # noqa: PLC0415 - only Faust's own command line comes here

    if "polars" not in sys.modules:
        tuning.begin_anew()
    from egresslens.settings import load  # noqa: PLC0415
    from egresslens.worker.app import create_app  # noqa: PLC0415

    app = create_app(load())
    globals()["app"] = app
    return app
