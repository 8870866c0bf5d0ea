"""Run a program that ends when this process's parent does: `python -m egresslens.demo.tether PROGRAM ARG…`.

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
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        # The parent may have died before the request.
        if os.getppid() != parent:
            sys.exit(1)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - becoming the program is the point


if __name__ == "__main__":
    main()
