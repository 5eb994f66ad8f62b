"""Expert suites: what the registry knows of an expert before one is made for a task."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

from failsafe import registry
from failsafe.experts.contract import Expert
from failsafe.registry import Registry
from failsafe.simulators.suites import LiberoSuite, ManiSkillSuite, MetaWorldSuite


class ExpertSuite(ABC):
    """An expert and the names of the tasks that it solves.

    The class must be cheap to import: its methods import the expert.
    """

    @abstractmethod
    def tasks(self) -> Sequence[str]:
        """List the names of the tasks that it solves; empty where their simulator is not installed."""

    def has(self, task: str) -> bool:
        """Whether it solves a task. Override this where `tasks` imports a heavy simulator for any name."""
        return task in self.tasks()

    @abstractmethod
    def make(self, task: str) -> Expert:
        """Make the expert for one of its tasks."""


EXPERTS: Registry[ExpertSuite] = registry.experts
"""Every expert suite by name. The first one that solves a task is its expert."""
EXPERTS.expect(ExpertSuite)


@EXPERTS.register("toy")
class ToyExperts(ExpertSuite):
    """Experts for the toy's tasks."""

    def tasks(self) -> Sequence[str]:
        """List the toy's tasks."""
        return list(importlib.import_module("failsafe.experts.toy").EXPERTS)

    def make(self, task: str) -> Expert:
        """Make the expert of one of the toy's tasks."""
        return importlib.import_module("failsafe.experts.toy").EXPERTS[task]()


@EXPERTS.register("maniskill")
class ManiSkillExperts(ExpertSuite):
    """ManiSkill's own solution scripts."""

    def tasks(self) -> Sequence[str]:
        """List the tasks that a solution script solves."""
        if ManiSkillSuite().requirement:
            return []
        return importlib.import_module("failsafe.experts.maniskill").solvable_tasks()

    def has(self, task: str) -> bool:
        """Whether a solution script solves a task."""
        return bool(ManiSkillSuite.NAMES.fullmatch(task)) and task in self.tasks()

    def make(self, task: str) -> Expert:
        """Make the expert that runs a task's solution script."""
        return importlib.import_module("failsafe.experts.maniskill").ManiSkillExpert(task)


@EXPERTS.register("metaworld")
class MetaWorldExperts(ExpertSuite):
    """Meta-World's own scripted policies."""

    def tasks(self) -> Sequence[str]:
        """List Meta-World's tasks: each has a policy."""
        return MetaWorldSuite().tasks()

    def make(self, task: str) -> Expert:
        """Make the expert that runs a task's scripted policy."""
        return importlib.import_module("failsafe.experts.metaworld").MetaWorldExpert(task)


@EXPERTS.register("libero")
class LiberoExperts(ExpertSuite):
    """One expert for all of LIBERO's tasks, from their goals and the geometry of their scenes."""

    def tasks(self) -> Sequence[str]:
        """List LIBERO's tasks."""
        return LiberoSuite().tasks()

    def has(self, task: str) -> bool:
        """Whether LIBERO has a task."""
        return LiberoSuite().has(task)

    def make(self, task: str) -> Expert:
        """Make the expert of one of LIBERO's tasks."""
        return importlib.import_module("failsafe.experts.libero.expert").LiberoExpert(task)
