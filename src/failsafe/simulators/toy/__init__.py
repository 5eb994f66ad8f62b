"""A gripper, boxes and a table in plain Python: every stage of the pipeline runs on it within seconds."""

from __future__ import annotations

from collections.abc import Mapping

from failsafe.errors import UnknownNameError
from failsafe.simulators.toy.simulator import ToyPick, ToyPush, ToySimulator, ToyStack

TASKS: Mapping[str, type[ToySimulator]] = {cls.task.name: cls for cls in (ToyPick, ToyPush, ToyStack)}
"""The toy's tasks by name."""


def make(task: str) -> ToySimulator:
    """A simulator of one of the toy's tasks.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    if task not in TASKS:
        raise UnknownNameError("task", task, TASKS)
    return TASKS[task]()


__all__ = ["TASKS", "ToyPick", "ToyPush", "ToySimulator", "ToyStack", "make"]
