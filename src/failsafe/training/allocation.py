"""Memory allocation on Linux: keep freed memory instead of returning it to the system after every step."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's settings, from <malloc.h>."""
_LIMIT = 1 << 30


def keep_freed_memory() -> bool:
    """Make glibc keep large blocks that are freed, and return whether it does.

    By default glibc returns every block above 32 MB to the system and requests it again in the next step. The
    kernel then clears and maps each page again, which took half of the processor time of a training on a CPU.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library than glibc
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LIMIT)) and bool(mallopt(_M_TRIM_THRESHOLD, _LIMIT))
