"""Names of records and tasks as names of files, folders, and columns of a table."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from failsafe.errors import RecordError

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,179}")
"""Ids of records: they are names of files. The colon is in ids of older versions."""
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,79}")
_IN_SUITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,59}(/[A-Za-z0-9_.+-]{1,60}){1,3}")
"""Names of tasks of a suite, "metaworld/drawer-open-v3" for example: readable, but no name of a folder."""
_EARLIER_FOLDER = re.compile(r"(?!\.)[^/\0]{1,200}")
_LONGEST = 60
LAST_SEED = 2**62
"""Largest seed that a record may have."""
LAST_STEP = 1_000_000
"""Largest control step of a recorded episode: half a day at 20 Hz."""


def check_id(what: str, text: str) -> None:
    """Check that an id of a record can be the name of a file, and of nothing else than a file in its folder.

    Args:
        what: What it is, for the message.
        text: The id.

    Raises:
        RecordError: If it has other characters than letters, digits and `_ . : + -`, or is too long.
    """
    if not _ID.fullmatch(text):
        raise RecordError(
            f"expected {what} of at most 180 letters, digits and _ . : + -, got {text!r:.80}: "
            "the record was not made by FailSafe"
        )


def check_seed(seed: int) -> None:
    """Check a seed of a record.

    Raises:
        RecordError: If it is negative or larger than `LAST_SEED`.
    """
    if not 0 <= seed <= LAST_SEED:
        raise RecordError(f"expected a seed from 0 to 2**62, got {seed:.3g}")


def check_steps(*steps: int | None) -> None:
    """Check control steps of a record.

    Args:
        *steps: The steps; None is skipped.

    Raises:
        RecordError: If one is negative or larger than `LAST_STEP`.
    """
    for step in steps:
        if step is not None and not 0 <= step <= LAST_STEP:
            raise RecordError(f"expected control steps from 0 to {LAST_STEP}, got {step}")


def check_actions(actions: Iterable[Sequence[float]]) -> None:
    """Check the actions of a record.

    Args:
        actions: Rows `[dx, dy, dz, rx, ry, rz, gripper]`.

    Raises:
        RecordError: If a row has another number of values.
    """
    for row in actions:
        if len(row) != 7:
            raise RecordError(f"expected actions of 7 numbers, got one of {len(row)}")


def folder_name(task: str) -> str:
    """Return the name of a task's folder: the task's name, where that can be one.

    Another name, for example MODULE:FUNCTION, becomes its last part with a digest of the whole name, so that
    different tasks have different folders.

    Args:
        task: Name of the task.
    """
    if _FOLDER.fullmatch(task):
        return task
    return f"{_short(task)}-{hashlib.sha256(task.encode('utf-8', 'replace')).hexdigest()[:8]}"


def task_folder(parent: Path, task: str) -> Path:
    """Return the folder of a task, which earlier versions named as the task.

    Args:
        parent: Folder of all tasks.
        task: Name of the task.
    """
    folder = parent / folder_name(task)
    earlier = _EARLIER_FOLDER.fullmatch(task) and folder.name != task
    if earlier and (parent / task).is_dir():
        return parent / task
    return folder


def short_names(tasks: Iterable[str]) -> dict[str, str]:
    """Return a short name of each task for pages and tables.

    It is the task's name, and for MODULE:FUNCTION the last part of the module and the function. Tasks whose
    short names would be the same have `folder_name`.

    Args:
        tasks: Names of the tasks that are shown together.
    """
    tasks = list(tasks)
    readable = {task for task in tasks if _FOLDER.fullmatch(task) or _IN_SUITE.fullmatch(task)}
    short = {task: task if task in readable else _short(task) for task in tasks}
    count = Counter(short.values())
    return {task: name if count[name] == 1 else folder_name(task) for task, name in short.items()}


def _short(task: str) -> str:
    module, _, function = task.rpartition(":")
    last = f"{module.rpartition('.')[2]}.{function}" if module else function
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", last)[:_LONGEST].strip("-.") or "task"
