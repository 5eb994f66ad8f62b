"""Memory for big batches on Linux: keep what was freed instead of giving it back after every step."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's settings, from <malloc.h>."""
_LIMIT = 1 << 30


def keep_freed_memory() -> bool:
    """Tell glibc to keep large blocks that are freed; whether it has done so.

    By default it hands every block above 32 MB back to the system and asks for it anew in the next step: each
    page is then cleared and mapped again, which took half of the processor time of a training on a CPU.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library than glibc
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LIMIT)) and bool(mallopt(_M_TRIM_THRESHOLD, _LIMIT))
