"""Simulator suites: the registry's entries, which list and make the tasks of a simulator."""

from __future__ import annotations

import importlib
import importlib.util
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from failsafe import registry
from failsafe.diagnostics.checks import NO_MANISKILL, has_maniskill_wheels
from failsafe.registry import Registry
from failsafe.simulators.contract import Simulator


class SimulatorSuite(ABC):
    """A simulator and the names of its tasks.

    The class must be cheap to import: its methods import the simulator.

    Attributes:
        requirement: Command that installs the simulator; empty if it is installed.
        prefix: What the names of all its tasks and groups begin with, and no others; empty where there is
            no such beginning.
    """

    requirement: str = ""
    prefix: str = ""

    @abstractmethod
    def tasks(self) -> Sequence[str]:
        """List the names of the tasks; empty if the simulator is not installed."""

    def has(self, task: str) -> bool:
        """Return whether the simulator has a task. Override this if `tasks` imports a heavy simulator."""
        return task in self.tasks()

    def check(self, task: str) -> None:  # noqa: B027  (most simulators have nothing to check)
        """Check that a task can be made.

        Raises:
            UserError: If something is missing, for example assets. The message says what to do.
        """

    def group(self, name: str) -> Sequence[str]:
        """List the tasks that a name stands for together, such as a whole suite; empty if there are none.

        Args:
            name: What the names of the tasks begin with, up to a slash.
        """
        return ()

    def instruction(self, task: str) -> str:
        """Return the instruction of a task without making it; empty if it differs between episodes.

        Args:
            task: Name of the task.
        """
        return ""

    def caution(self, task: str) -> str:
        """Return why a task can hardly be judged at rest; empty if it can.

        Args:
            task: Name of the task.
        """
        return ""

    @abstractmethod
    def make(self, task: str, full_meshes: bool = False) -> Simulator:
        """Make a simulator of a task.

        Args:
            task: Name of the task.
            full_meshes: Render the robot's full meshes instead of simplified ones.
        """


def _lacks(*packages: str) -> bool:
    """Return whether one of some packages is not installed."""
    return any(importlib.util.find_spec(package) is None for package in packages)


SIMULATORS: Registry[SimulatorSuite] = registry.simulators
"""All simulator suites, by name."""
SIMULATORS.expect(SimulatorSuite)


@SIMULATORS.register("toy")
class ToySuite(SimulatorSuite):
    """The toy simulator, in plain Python."""

    def tasks(self) -> Sequence[str]:
        """List the toy's tasks."""
        return list(importlib.import_module("failsafe.simulators.toy").TASKS)

    def instruction(self, task: str) -> str:
        """Return the instruction of one of the toy's tasks."""
        return importlib.import_module("failsafe.simulators.toy").TASKS[task].task.instruction

    def make(self, task: str, full_meshes: bool = False) -> Simulator:
        """Make one of the toy's tasks. See `SimulatorSuite.make`."""
        return importlib.import_module("failsafe.simulators.toy").make(task)


@SIMULATORS.register("maniskill")
class ManiSkillSuite(SimulatorSuite):
    """ManiSkill 3 on SAPIEN, with FailSafe's variants of its tasks."""

    NAMES: ClassVar[re.Pattern[str]] = re.compile(r"[^/]+-v\d+")
    """Pattern of ManiSkill's names. Other names are rejected without importing ManiSkill."""

    def __init__(self) -> None:
        if importlib.util.find_spec("mani_skill") is None:
            self.requirement = "pip install 'failsafe-vla[maniskill]'"
            if not has_maniskill_wheels():
                self.requirement += f"  # with Python 3.12: {NO_MANISKILL}"

    def tasks(self) -> Sequence[str]:
        """List ManiSkill's tasks and FailSafe's variants of them."""
        if self.requirement:
            return []
        return importlib.import_module("failsafe.simulators.maniskill.tasks").known_tasks()

    def has(self, task: str) -> bool:
        """Return whether ManiSkill has a task."""
        return bool(self.NAMES.fullmatch(task)) and task in self.tasks()

    def check(self, task: str) -> None:
        """Check that the assets of a task are on this machine."""
        importlib.import_module("failsafe.simulators.maniskill.tasks").check_known(task)

    def instruction(self, task: str) -> str:
        """Return the instruction of one of the tasks that have an expert; those of others are not known."""
        module = importlib.import_module("failsafe.simulators.maniskill.instructions")
        return module.INSTRUCTIONS.get(task, "")

    def make(self, task: str, full_meshes: bool = False) -> Simulator:
        """Make one of ManiSkill's tasks. See `SimulatorSuite.make`."""
        module = importlib.import_module("failsafe.simulators.maniskill.simulator")
        return module.ManiSkillSimulator(task, full_meshes)


@SIMULATORS.register("metaworld")
class MetaWorldSuite(SimulatorSuite):
    """Meta-World's 50 tasks on MuJoCo, as "metaworld/pick-place-v3"."""

    prefix = "metaworld"

    def __init__(self) -> None:
        if _lacks("metaworld", "mujoco"):
            self.requirement = "pip install 'failsafe-vla[metaworld]'"

    def tasks(self) -> Sequence[str]:
        """List Meta-World's tasks."""
        if self.requirement:
            return []
        return importlib.import_module("failsafe.simulators.metaworld.tasks").task_names()

    def group(self, name: str) -> Sequence[str]:
        """List all of Meta-World's tasks for "metaworld"."""
        return self.tasks() if name == "metaworld" else ()

    def instruction(self, task: str) -> str:
        """Return FailSafe's instruction of one of Meta-World's tasks."""
        return importlib.import_module("failsafe.simulators.metaworld.tasks").instruction(task)

    def caution(self, task: str) -> str:
        """Return why the success of one of Meta-World's tasks seldom lasts."""
        return importlib.import_module("failsafe.simulators.metaworld.tasks").HARD_TO_JUDGE.get(task, "")

    def make(self, task: str, full_meshes: bool = False) -> Simulator:
        """Make one of Meta-World's tasks; `full_meshes` asks for shadows, reflections and antialiasing.

        See `SimulatorSuite.make`.
        """
        module = importlib.import_module("failsafe.simulators.metaworld.simulator")
        return module.MetaWorldSimulator(task, full_meshes)


@SIMULATORS.register("libero")
class LiberoSuite(SimulatorSuite):
    """LIBERO's 130 tasks and LIBERO-PRO's variants on MuJoCo, as "libero_goal/3"."""

    prefix = "libero_"

    def __init__(self) -> None:
        if _lacks("libero", "robosuite", "bddl", "numba", "mujoco"):
            self.requirement = "pip install 'failsafe-vla[libero]'"

    def tasks(self) -> Sequence[str]:
        """List LIBERO's tasks, suite by suite."""
        if self.requirement:
            return []
        return importlib.import_module("failsafe.simulators.libero.tasks").task_names()

    def has(self, task: str) -> bool:
        """Return whether LIBERO has a task."""
        if self.requirement:
            return False
        return importlib.import_module("failsafe.simulators.libero.tasks").has_task(task)

    def check(self, task: str) -> None:
        """Check that the files of a task are on this machine."""
        module = importlib.import_module("failsafe.simulators.libero.tasks")
        module.task_files(task)
        module.check_assets()

    def group(self, name: str) -> Sequence[str]:
        """List the tasks of a suite, "libero_spatial" for example."""
        return [task for task in self.tasks() if task.startswith(f"{name}/")]

    def instruction(self, task: str) -> str:
        """Return the instruction in the BDDL file of one of LIBERO's tasks."""
        return importlib.import_module("failsafe.simulators.libero.tasks").instruction(task)

    def make(self, task: str, full_meshes: bool = False) -> Simulator:
        """Make one of LIBERO's tasks; `full_meshes` asks for reflections and antialiasing.

        See `SimulatorSuite.make`.
        """
        module = importlib.import_module("failsafe.simulators.libero.simulator")
        return module.LiberoSimulator(task, full_meshes)
