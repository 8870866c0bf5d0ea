"""Run a program that ends when its parent does: `python -m egresslens.demo.tether PARENT_PID PROGRAM ARG…`.

The demo stops its parts itself; this is for the case in which it cannot (kill -9). Linux only; elsewhere the
program is simply run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Ask the kernel for SIGTERM at the parent's death, then become the program."""
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        # It may have died before the request.
        if os.getppid() != parent:
            sys.exit(1)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - becoming the program is the point


if __name__ == "__main__":
    main()
