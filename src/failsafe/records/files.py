"""Read files that others may have written: regular ones of bounded size in their folder, text as UTF-8.

In a worker, files of the job are read where they are (`failsafe.records.forwarding`).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from failsafe.errors import RecordError, StoreError, UserError
from failsafe.records.forwarding import forwarded

LARGEST = 1 << 28
"""Largest file that is read whole, bytes (256 MiB). Records are some hundred kilobytes."""


@forwarded
def check_inside(folder: Path, path: Path) -> None:
    """Check that a path is in a folder, and that no link on the way leads out of it.

    Args:
        folder: The folder, which may be a link itself.
        path: A path in it, which need not exist.

    Raises:
        StoreError: If the path is elsewhere.
    """
    try:
        there = path.resolve()
        inside = there.is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links, in Python < 3.13
        raise StoreError(f"{path}: expected a path in {folder}, got one that leads nowhere") from error
    if not inside:
        raise StoreError(
            f"{path}: expected a path in {folder}, got one that leads to {there}; links out of a dataset are "
            "not followed: replace it by the files themselves"
        )


@forwarded
def check_regular(path: Path, within: Path) -> None:
    """Check that a file is a regular one in a folder.

    Args:
        path: The file.
        within: The folder, links on the way counted.

    Raises:
        UserError: If there is no such file.
        RecordError: If it is a folder, a device or a pipe.
        StoreError: If it is outside the folder.
    """
    check_inside(within, path)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise UserError(f"expected a file {path}, got none") from error
    if not stat.S_ISREG(mode):
        raise RecordError(f"{path}: expected a regular file, got {_kind(mode)}")


@forwarded
def read_bytes(path: Path, absent: str = "", largest: int = LARGEST, within: Path | None = None) -> bytes:
    """Return the content of a file.

    Args:
        path: The file.
        absent: What to say if there is no such file.
        largest: Largest size that is accepted, bytes.
        within: A folder that the file has to be in, links counted; None for any place.

    Raises:
        UserError: With `absent`, if there is no such file.
        RecordError: If the file is too large, cannot be read, or is a folder, a device or a pipe.
        StoreError: If the file is outside `within`.
    """
    if within is not None:
        check_inside(within, path)
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode, size = os.fstat(number).st_mode, os.fstat(number).st_size
            if not stat.S_ISREG(mode):
                raise RecordError(f"{path}: expected a regular file, got {_kind(mode)}")
            with os.fdopen(number, "rb", closefd=False) as file:
                content = file.read(min(size, largest) + 1)
        finally:
            os.close(number)
    except FileNotFoundError as error:
        raise UserError(absent or f"there is no {path}") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecordError(f"{path}: expected a file that can be read, got an error: {reason}") from error
    if len(content) > largest:
        raise RecordError(f"{path}: expected a file of at most {largest} bytes, got a larger one")
    return content


@forwarded
def exists(path: Path) -> bool:
    """Return whether there is a file or a folder at a path."""
    return path.exists()


def read_text(path: Path, absent: str = "", largest: int = LARGEST, within: Path | None = None) -> str:
    """Return the content of a text file in UTF-8. Arguments and errors: see `read_bytes`.

    Raises:
        RecordError: As `read_bytes`, and if the content is not UTF-8.
    """
    try:
        return read_bytes(path, absent, largest, within).decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: expected text in UTF-8, got byte {error.start} that is none") from error


def _kind(mode: int) -> str:
    kinds = {
        "a folder": stat.S_ISDIR,
        "a named pipe": stat.S_ISFIFO,
        "a socket": stat.S_ISSOCK,
        "a device": lambda m: stat.S_ISCHR(m) or stat.S_ISBLK(m),
    }
    return next((name for name, check in kinds.items() if check(mode)), "something else")
