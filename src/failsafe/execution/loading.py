"""Find an executor by its name."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from failsafe import registry
from failsafe.errors import UserError
from failsafe.execution.contract import Executor
from failsafe.registry import Registry

EXECUTORS: Registry[Callable[[int | None], Any]] = registry.executors
"""Every executor by name: a class or function of the number of workers (None: its default)."""


def load_executor(executor: str | Executor = "processes", workers: int | None = None) -> Executor:
    """Return the executor of a name.

    Args:
        executor: Name of an executor, or "MODULE:ATTRIBUTE"; an executor is returned as it is.
        workers: Number of workers; None for the executor's default.

    Raises:
        UnknownNameError: If there is no executor of this name.
        UserError: If the executor cannot have this number of workers, or is none.
    """
    if not isinstance(executor, str):
        return executor
    made = EXECUTORS[executor](workers)
    if not isinstance(made, Executor):
        raise UserError(
            f"expected an object with the method run(job, items, on_done, on_message) as executor "
            f"'{executor}', got {type(made).__name__}"
        )
    return made


def choose_executor(
    executor: str | Executor | None, workers: int | None, objects: object | None = None
) -> Executor:
    """Return where work runs: with objects in this process, unless several workers are asked for.

    Args:
        executor: Name of an executor, or an executor; None for the default.
        workers: Number of workers; None for the default.
        objects: What the caller gave as objects in place of names, None without any.

    Raises:
        UserError: If there is no such executor, or an object cannot travel to another process.
    """
    if executor is None and objects is not None and workers in (None, 1):
        return load_executor("serial")
    if objects is not None and executor != "serial":
        try:
            pickle.dumps(objects)
        except Exception as error:  # anything that somebody's __reduce__ may raise
            raise UserError(
                "expected policies, models and tasks that can be pickled, to send them to other processes, "
                f"got an error ({type(error).__name__}: {error}): use workers=1, or give names such as "
                "MODULE:ATTRIBUTE"
            ) from error
    return load_executor(executor or "processes", workers)
