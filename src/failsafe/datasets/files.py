"""Files that are whole or absent: written beside their place, then renamed.

In a worker, files of the job are written where they belong (`failsafe.records.forwarding`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from failsafe.errors import StoreError
from failsafe.records.files import check_inside
from failsafe.records.forwarding import forwarded

LOCK = ".lock"
"""Name of the file that is locked while a dataset is being written."""
_LONGEST_NAME = 120


@forwarded
def write_atomically(path: Path, data: bytes, within: Path | None = None) -> None:
    """Write a file so that no reader, and no crash at any moment, ever sees half of it.

    A link at the path is replaced by the file; what it led to is left alone.

    Args:
        path: The file.
        data: Its content.
        within: A folder that the file has to be in, links on the way counted; None for any place.

    Raises:
        StoreError: If the disk is full, the folder cannot be written or is outside `within`; what was there
            before is untouched.
    """
    if within is not None:
        check_inside(within, path.parent)
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


@forwarded
def remove(path: Path) -> None:
    """Delete a file if it is there."""
    path.unlink(missing_ok=True)


def is_partial(path: Path) -> bool:
    """Whether a file is one that was still being written."""
    return path.name.startswith(".") and path.name.endswith(".partial")


def is_leftover(path: Path) -> bool:
    """Whether a file is a lock or was being written: a folder with no others may be begun anew."""
    return path.name == LOCK or is_partial(path)


def remove_partials(folder: Path) -> None:
    """Clear away what a killed process left half-written."""
    for partial in folder.rglob(".*.partial"):
        if partial.is_symlink() or partial.is_file():
            partial.unlink(missing_ok=True)


def remove_abandoned(partials: Iterable[Path]) -> None:
    """Clear away what killed processes left half-written, where other processes may be at work.

    Args:
        partials: Files that were being written, of this machine.
    """
    for partial in partials:
        pid = partial.name.split(".")[-2]
        if is_partial(partial) and pid.isdecimal() and not _runs(int(pid)):
            partial.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


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
    short = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    if len(short) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
        short = f"{short[: _LONGEST_NAME - 9]}-{digest}"
    return short if short.strip(".") else "-"
