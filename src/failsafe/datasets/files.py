"""Files that are whole or absent: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path

from failsafe.errors import StoreError

LOCK = ".lock"
"""Name of the file that is locked while a dataset is being written."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that no reader, and no crash at any moment, ever sees half of it.

    Args:
        path: The file.
        data: Its content.

    Raises:
        StoreError: If the disk is full or the folder cannot be written; what was there before is untouched.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StoreError(explain_error(error, path)) from error


def is_partial(path: Path) -> bool:
    """Whether a file is one that was still being written."""
    return path.name.startswith(".") and path.name.endswith(".partial")


def remove_partials(folder: Path) -> None:
    """Clear away what a killed process left half-written."""
    for partial in folder.rglob(".*.partial"):
        partial.unlink(missing_ok=True)


def explain_error(error: OSError, path: Path) -> str:
    """Return why a file could not be written, and what to do.

    Args:
        error: The error.
        path: The file.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk is full: could not write {path}; what was written before is whole, "
            "so free some space and run the same command again"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"expected a folder that can be written, got a read-only one: {path.parent}; "
            "choose another folder"
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"expected a folder, got a file on the way to {path}; choose another folder"
    return f"could not write {path}: {error.strerror}; run the same command again to go on"


def file_name(name: str) -> str:
    """A name of a task, a policy or a model as that of a file or a folder."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
