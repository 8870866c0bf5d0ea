"""What a worker's process is set up with, whatever was imported before; in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import egresslens
from egresslens.worker.tuning import ENVIRONMENT

BEGIN = "from egresslens.worker import tuning; tuning.begin_anew(); "
TELL = "import os, polars; print(polars.thread_pool_size(), os.environ['_RJEM_MALLOC_CONF'])"


def told(code: str, **environment: str) -> tuple[str, str]:
    """Polars' threads and jemalloc's options at the end of a program."""
    kept = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, "PYTHONPATH": str(Path(egresslens.__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    threads, options = done.stdout.split()
    return threads, options


@pytest.mark.parametrize("before", ["", "import polars; ", "import egresslens.cli; "])
def test_threads_and_memory_are_set_whatever_was_imported_before(before):
    threads, options = told(before + BEGIN + TELL)
    assert threads == ENVIRONMENT["POLARS_MAX_THREADS"]
    assert options.endswith(ENVIRONMENT["_RJEM_MALLOC_CONF"])


@pytest.mark.parametrize("before", ["", "import polars; "])
def test_what_an_operator_has_set_wins(before):
    threads, options = told(before + BEGIN + TELL, POLARS_MAX_THREADS="3", _RJEM_MALLOC_CONF="narenas:2")
    assert threads == "3"
    assert options.endswith(",narenas:2")


def test_polars_own_options_are_nobodys_wish_however_often_they_were_put_there():
    twice = ",".join(["dirty_decay_ms:500,muzzy_decay_ms:1000"] * 2)
    _, options = told(BEGIN + TELL, _RJEM_MALLOC_CONF=twice)
    assert options.endswith(ENVIRONMENT["_RJEM_MALLOC_CONF"])
