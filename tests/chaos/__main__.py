"""`python -m chaos`: the whole of it. SEED, MESSAGES and KILLS in the environment change the plan."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from chaos.run import Plan, run


def main() -> None:
    """Run it, print the figures, end with 1 if anything is not true."""
    environ = os.environ
    plan = Plan(
        seed=int(environ.get("SEED") or random.SystemRandom().randrange(10**6)),
        messages=int(environ.get("MESSAGES") or 2_000_000),
        kills=int(environ.get("KILLS") or 32),
    )
    # It is away often enough.
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    # Ended from outside, it still ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    print(f"SEED={plan.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="egresslens-chaos-") as folder:
        figures = run(plan, Path(folder), say)
    print(figures.text())
    sys.exit(1 if figures.problems else 0)


if __name__ == "__main__":
    main()
