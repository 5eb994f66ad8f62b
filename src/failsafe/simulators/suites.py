"""Simulator suites: what the registry knows of a simulator before one of its tasks is made."""

from __future__ import annotations

import importlib
import importlib.util
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from failsafe import registry
from failsafe.errors import UserError
from failsafe.registry import Registry
from failsafe.simulators.contract import Simulator


class SimulatorSuite(ABC):
    """A simulator and the names of its tasks.

    The class must be cheap to import: its methods import the simulator.

    Attributes:
        requirement: The command that installs the simulator, empty where it is installed.
    """

    requirement: str = ""

    @abstractmethod
    def tasks(self) -> Sequence[str]:
        """List the names of its tasks; empty where the simulator is not installed."""

    def has(self, task: str) -> bool:
        """Whether it has a task. Override this where `tasks` imports a heavy simulator for any name."""
        return task in self.tasks()

    def check(self, task: str) -> None:  # noqa: B027  (most simulators have nothing to check)
        """Check that one of its tasks can be made.

        Raises:
            UserError: If something is missing, for example assets; the message says what to do.
        """

    @abstractmethod
    def make(self, task: str, full_meshes: bool = False) -> Simulator:
        """Make a simulator of a task.

        Args:
            task: One of its tasks.
            full_meshes: Render the robot's full meshes, where the simulator has simplified ones.
        """


def _checked(name: str, entry: object) -> SimulatorSuite:
    suite = entry() if isinstance(entry, type) else entry
    if not isinstance(suite, SimulatorSuite):
        raise UserError(
            f"expected a failsafe.simulators.suites.SimulatorSuite as simulator '{name}', got {entry!r:.80}"
        )
    return suite


SIMULATORS: Registry[SimulatorSuite] = registry.simulators
"""Every simulator suite by name."""
SIMULATORS.prepare = _checked


@SIMULATORS.register("toy")
class ToySuite(SimulatorSuite):
    """The toy simulator, in plain Python."""

    def tasks(self) -> Sequence[str]:
        """List the toy's tasks."""
        return list(importlib.import_module("failsafe.simulators.toy").TASKS)

    def make(self, task: str, full_meshes: bool = False) -> Simulator:
        """Make one of the toy's tasks."""
        return importlib.import_module("failsafe.simulators.toy").make(task)


@SIMULATORS.register("maniskill")
class ManiSkillSuite(SimulatorSuite):
    """ManiSkill 3 on SAPIEN, with FailSafe's variants of its tasks."""

    NAMES: ClassVar[re.Pattern[str]] = re.compile(r".+-v\d+")
    """Names as ManiSkill's; others are none of its tasks, which is known without importing it."""

    def __init__(self) -> None:
        if importlib.util.find_spec("mani_skill") is None:
            self.requirement = "pip install 'failsafe-vla[maniskill]'"

    def tasks(self) -> Sequence[str]:
        """List ManiSkill's tasks and FailSafe's variants of them."""
        if self.requirement:
            return []
        return importlib.import_module("failsafe.simulators.maniskill.tasks").known_tasks()

    def has(self, task: str) -> bool:
        """Whether ManiSkill has a task."""
        return bool(self.NAMES.fullmatch(task)) and task in self.tasks()

    def check(self, task: str) -> None:
        """Check that the assets of a task are on this machine."""
        importlib.import_module("failsafe.simulators.maniskill.tasks").check_known(task)

    def make(self, task: str, full_meshes: bool = False) -> Simulator:
        """Make one of ManiSkill's tasks."""
        module = importlib.import_module("failsafe.simulators.maniskill.simulator")
        return module.ManiSkillSimulator(task, full_meshes)
