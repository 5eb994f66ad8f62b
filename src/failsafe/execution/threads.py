"""One thread per worker: numerical libraries are limited so that workers do not compete for cores."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextlib.contextmanager
def single_threaded() -> Generator[None, None, None]:
    """Limit numerical libraries to one thread, unless the user's environment sets a number.

    The limit holds for processes started and libraries loaded inside, and for torch if it is loaded already:
    the sums of its parallel reductions depend on the number of threads. The environment and torch's number of
    threads are restored on exit.
    """
    added = [name for name in _VARIABLES if name not in os.environ]
    torch = sys.modules.get("torch") if _VARIABLES[0] in added else None
    threads = torch.get_num_threads() if torch is not None else 0
    os.environ.update(dict.fromkeys(added, "1"))
    if torch is not None:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        if torch is not None:
            torch.set_num_threads(threads)
