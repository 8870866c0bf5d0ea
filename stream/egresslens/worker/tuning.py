"""How a worker's process is set up for its work. Figures: docs/decisions/performance.md."""

from __future__ import annotations

import gc
import os
import sys
from typing import Final

# Reading, delivering, broker and store work at the same time: more Polars threads than half the cores wait
# for each other. The memory of one unit serves the next instead of being given back in between.
ENVIRONMENT: Final = {
    "POLARS_MAX_THREADS": str(max(1, (os.cpu_count() or 1) // 2)),
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:60000,muzzy_decay_ms:60000",
}
# Polars puts this into the environment when it is imported, before what was there: no wish of an operator's,
# however often processes that started one another have put it there.
_POLARS_OWN: Final = {"dirty_decay_ms:500", "muzzy_decay_ms:1000"}


def begin_anew() -> None:
    """Begin this very command anew where ENVIRONMENT is not set: Polars reads it when it is imported.

    What an operator has set, wins.
    """
    missing = {
        name: value
        for name, value in ENVIRONMENT.items()
        if name not in os.environ or set(os.environ[name].split(",")) == _POLARS_OWN
    }
    if missing:
        os.environ.update(missing)
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - this very command once more


def settle() -> None:
    """Spare the garbage collector what is loaded for good, and most of its rounds.

    A unit's objects are mostly text and numbers, which hold no others: looking through all modules for each
    seven hundred new objects finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
