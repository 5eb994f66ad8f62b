"""Files that are whole or absent: written beside their place, then renamed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from failsafe.errors import StoreError


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that no reader, and no crash at any moment, ever sees half of it.

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
        partial.unlink(missing_ok=True)
        raise StoreError(_explain(error, path)) from error


def remove_partials(folder: Path) -> None:
    """Clear away what a killed process left half-written."""
    for partial in folder.rglob(".*.partial"):
        partial.unlink(missing_ok=True)


def _explain(error: OSError, path: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk is full: could not write {path}; what was written before is whole, "
            "so free some space and run the same command again"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"expected a folder that can be written, got a read-only one: {path.parent}; "
            "choose another with --out"
        )
    return f"could not write {path}: {error.strerror}; run the same command again to go on"
