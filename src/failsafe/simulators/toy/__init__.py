"""The toy: a gripper, boxes and a table in plain Python, on which every stage runs in seconds."""

from __future__ import annotations

from collections.abc import Mapping

from failsafe.errors import UnknownNameError
from failsafe.simulators.toy.simulator import ToyPick, ToyPush, ToySimulator, ToyStack

TASKS: Mapping[str, type[ToySimulator]] = {cls.task.name: cls for cls in (ToyPick, ToyPush, ToyStack)}
"""The tasks of the toy, by name."""


def make(task: str) -> ToySimulator:
    """Make the simulator of a toy task.

    Raises:
        UnknownNameError: If there is no task of that name.
    """
    if task not in TASKS:
        raise UnknownNameError("task", task, TASKS)
    return TASKS[task]()


__all__ = ["TASKS", "ToyPick", "ToyPush", "ToySimulator", "ToyStack", "make"]
