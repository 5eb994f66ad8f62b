"""Tasks by name: a simulator with an expert that solves it.

The name of a task is one of the registry's `tasks`, or a task of one of its `simulators` that one of its
`experts` solves, or `MODULE:FUNCTION`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from failsafe import registry
from failsafe.errors import UnknownNameError, UserError, list_names
from failsafe.experts.contract import Expert
from failsafe.experts.suites import EXPERTS, ExpertSuite
from failsafe.registry import Registry
from failsafe.simulators.contract import Simulator
from failsafe.simulators.instructed import InstructedSimulator
from failsafe.simulators.suites import SIMULATORS, SimulatorSuite
from failsafe.sources import fingerprint_of, is_own


@dataclass(frozen=True)
class Task:
    """A task that is ready to run.

    Attributes:
        simulator: Its simulator.
        expert: An expert that solves it.
        name: Its name; `load_task` fills it in.
        instruction: What the robot is told to do. By default what the simulator states about each episode.

    Raises:
        UserError: If neither `instruction` nor the simulator states one.
    """

    simulator: Simulator
    expert: Expert
    name: str = ""
    instruction: str = ""

    def __post_init__(self) -> None:
        if self.instruction.strip():
            if self.simulator.episode.instruction != self.instruction:
                told = InstructedSimulator(self.simulator, self.instruction)
                object.__setattr__(self, "simulator", told)
        elif not self.simulator.episode.instruction.strip():
            raise UserError(
                f"task '{task_name(self)}' has no instruction: give Task(..., instruction=\"...\"), or give "
                "the class of the task a method get_language_instruction or a docstring of its own"
            )


def task_name(task: str | Task) -> str:
    """Return the name of a task, which may be a name already."""
    return task if isinstance(task, str) else task.name or task.simulator.spec.task


TASKS: Registry[Callable[[], Task]] = registry.tasks
"""Tasks with a simulator and an expert of their own: functions without arguments that return a `Task`."""
TASKS.result = Task


def task_names() -> list[str]:
    """List the names of all tasks that this machine has a simulator and an expert for."""
    names = [name for suite in SIMULATORS.values() for name in suite.tasks()]
    solved = {name for suite in EXPERTS.values() for name in suite.tasks()}
    return [*TASKS, *(name for name in names if name in solved)]


def expand_tasks(tasks: Sequence[str | Task]) -> list[str | Task]:
    """Return tasks in which the name of a suite stands for all of its tasks.

    Args:
        tasks: Tasks, by name or as objects, and names of suites such as "libero_spatial".
    """
    expanded: list[str | Task] = []
    for task in tasks:
        group: list[str] = []
        if isinstance(task, str) and not _is_registered(task):
            group = [member for suite in SIMULATORS.values() for member in suite.group(task)]
        expanded += group or [task]
    return list(dict.fromkeys(expanded))


def load_task(name: str, full_meshes: bool = False) -> Task:
    """Make the simulator and the expert of a task.

    Args:
        name: A name from `task_names`, or `MODULE:FUNCTION` for a function without arguments that returns a
            `Task`.
        full_meshes: Render the robot's full meshes, where the simulator has simplified ones.

    Raises:
        UnknownNameError: If there is no task of that name.
        UserError: If the task has no expert, something that it needs is not installed, or the function
            cannot be imported or returns something else.
    """
    if _is_registered(name):
        return dataclasses.replace(TASKS.make(name), name=name)
    simulators, experts = _suites(name)
    return Task(simulators.make(name, full_meshes), experts.make(name), name)


def check_task(name: str) -> None:
    """Check that a task can be loaded, without making its simulator.

    Args:
        name: As for `load_task`.

    Raises:
        UnknownNameError, UserError: As `load_task`.
    """
    if _is_registered(name):
        TASKS.split(name)
    else:
        _suites(name)


def task_code(task: str | Task) -> str:
    """Identify the code of a task, so that episodes of one version of it are not mixed with another's.

    Args:
        task: Its name, or the task.

    Returns:
        What `Registry.version_of` says of its entries, or the classes and sources of an object (see
        `failsafe.sources`); empty if the task is FailSafe's own.
    """
    if isinstance(task, str):
        if _is_registered(task):
            return TASKS.version_of(task)
        both = (SIMULATORS, EXPERTS)
        versions = [suites.version_of(name) for suites in both for name in suites if suites[name].has(task)]
        return " ".join(filter(None, versions))
    simulator = task.simulator.within if isinstance(task.simulator, InstructedSimulator) else task.simulator
    parts = [part for part in (simulator, task.expert) if not is_own(part)]
    return " ".join(fingerprint_of(part) for part in parts)


def _is_registered(name: str) -> bool:
    return name in TASKS or ":" in name


def _suites(task: str) -> tuple[SimulatorSuite, ExpertSuite]:
    """Find the simulator that has a task and the expert that solves it."""
    owner = next((name for name, suite in SIMULATORS.items() if suite.has(task)), None)
    if owner is None:
        raise _unknown(task)
    SIMULATORS[owner].check(task)
    for suite in EXPERTS.values():
        if suite.has(task):
            return SIMULATORS[owner], suite
    raise UserError(
        f"task '{task}' exists in {owner} but has no expert there; give one with MODULE:FUNCTION, "
        f"or choose from: {list_names(task_names())}"
    )


_OWN = (
    "`failsafe tasks` lists all. A task of your own is MODULE:FUNCTION, a function without arguments that "
    "returns a failsafe.Task."
)


def _unknown(task: str) -> UserError:
    for name, suite in SIMULATORS.items():
        if suite.requirement and suite.prefix and task.startswith(suite.prefix):
            return UserError(
                f"expected {name} to be installed for '{task}', got an environment without it: "
                f"{suite.requirement}"
            )
    missing = {name: suite.requirement for name, suite in SIMULATORS.items() if suite.requirement}
    if not missing:
        return UnknownNameError("task", task, task_names(), _OWN)
    installs = "; ".join(f"{name}: `{command}`" for name, command in missing.items())
    return UserError(
        f"unknown task '{task}', or its simulator is not installed ({installs}); "
        f"without it there are: {list_names(task_names())}. {_OWN}"
    )
