"""Find an executor by its name."""

from __future__ import annotations

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
