"""Every task that FailSafe can make fail: a simulator and an expert for each name."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from failsafe.errors import UserError
from failsafe.experts.contract import Expert
from failsafe.simulators.contract import Simulator


@dataclass(frozen=True)
class Task:
    """A task, ready to be run.

    Attributes:
        simulator: Its simulator.
        expert: Something that solves it.
        name: The name that it is asked for by; `load_task` fills it in.
    """

    simulator: Simulator
    expert: Expert
    name: str = ""


def task_names() -> list[str]:
    """Names of all tasks that come with an expert on this machine."""
    names = _toy_names()
    if importlib.util.find_spec("mani_skill") is not None:
        names += importlib.import_module("failsafe.experts.maniskill").solvable_tasks()
    return names


def _toy_names() -> list[str]:
    return list(importlib.import_module("failsafe.simulators.toy").TASKS)


def load_task(name: str, full_meshes: bool = False) -> Task:
    """Make the simulator and the expert of a task.

    Args:
        name: A name from `task_names`, or `MODULE:FUNCTION` of one's own, a function without arguments that
            returns a `Task`.
        full_meshes: Render the robot's full meshes (ManiSkill only).

    Raises:
        UnknownNameError: If there is no task of that name.
        UserError: If the module or the function cannot be had.
    """
    check_task(name)
    if ":" in name:
        return _load_own(name)
    # Adapters are loaded by name: what is not asked for need not be installed.
    if name in _toy_names():
        simulator = importlib.import_module("failsafe.simulators.toy").make(name)
        return Task(simulator, importlib.import_module("failsafe.experts.toy").EXPERTS[name](), name)
    simulator = importlib.import_module("failsafe.simulators.maniskill.simulator").ManiSkillSimulator(
        name, full_meshes
    )
    return Task(simulator, importlib.import_module("failsafe.experts.maniskill").ManiSkillExpert(name), name)


def check_task(name: str) -> None:
    """Check that a task can be had, without making it; errors as for `load_task`."""
    if ":" in name:
        _own_function(name)
    elif name in _toy_names():
        return  # without the seconds that it takes to import ManiSkill
    elif name not in task_names():
        _refuse(name)
    else:
        importlib.import_module("failsafe.simulators.maniskill.tasks").check_known(name)


def _refuse(name: str) -> None:
    if importlib.util.find_spec("mani_skill") is None:
        raise UserError(
            f"unknown task '{name}', or ManiSkill is not installed "
            f"(`pip install 'failsafe-vla[maniskill]'`); without it there are: {', '.join(task_names())}"
        )
    tasks = importlib.import_module("failsafe.simulators.maniskill.tasks")
    tasks.check_known(name, task_names())
    raise UserError(
        f"task '{name}' exists in ManiSkill but has no expert there; give one with MODULE:FUNCTION, "
        f"or choose from: {', '.join(task_names())}"
    )


def _own_function(name: str) -> Callable[[], Any]:
    module_name, _, function_name = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"expected MODULE:FUNCTION that returns a failsafe.experts.tasks.Task, got '{name}': {error}"
        ) from error


def _load_own(name: str) -> Task:
    task = _own_function(name)()
    if not isinstance(task, Task):
        raise UserError(f"'{name}' returned a {type(task).__name__}; expected a failsafe.experts.tasks.Task")
    return dataclasses.replace(task, name=name)
