"""One process at a time writes to a folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Generator
from pathlib import Path

from failsafe.datasets.files import LOCK, explain_error
from failsafe.errors import RecordError, StoreError
from failsafe.execution.processes import exit_if_imported_by_worker
from failsafe.records.files import check_regular

LOCK_FOLDER = "FAILSAFE_LOCKS"
"""Environment variable with a folder for the locks, for datasets on a file system that has none."""


@contextlib.contextmanager
def locked(folder: Path) -> Generator[None, None, None]:
    """Keep other processes from writing to a dataset; the lock goes with the process that holds it.

    The lock is the file `LOCK` in the folder. On a file system without locks, set `LOCK_FOLDER` in the
    environment to a folder on a local disk, where the locks are then kept. They protect a dataset from other
    processes of the same machine.

    Raises:
        StoreError: If another process holds the lock, the folder cannot be written, or the file system has no
            locks.
    """
    exit_if_imported_by_worker()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = _lock_path(folder)
        if path.exists():
            check_regular(path, path.parent)
        # Not truncated: it names the process that holds the lock.
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "r+b")
    except OSError as error:
        raise StoreError(explain_error(error, folder / LOCK)) from error
    except RecordError as error:
        raise StoreError(str(error)) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(_explain_lock(error, file.read(20), path, folder)) from error
        file.truncate(0)
        file.write(f"{os.getpid()}".encode())
        file.flush()
        yield
        file.truncate(0)


def _lock_path(folder: Path) -> Path:
    elsewhere = os.environ.get(LOCK_FOLDER)
    if not elsewhere:
        return folder / LOCK
    Path(elsewhere).mkdir(parents=True, exist_ok=True)
    return Path(elsewhere) / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]}.lock"


def _explain_lock(error: OSError, holder: bytes, path: Path, folder: Path) -> str:
    if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
        pid = f" (process {int(holder)})" if holder.isdigit() else ""
        return f"another process{pid} is at work on {folder}; wait until it has ended"
    return (
        f"could not lock {path}: {error.strerror} (error {error.errno}); network file systems often have no "
        f"locks: write to a folder on a local disk and copy it, or set {LOCK_FOLDER} to a folder on a local "
        "disk for the locks, and let no other machine write to the dataset meanwhile"
    )
