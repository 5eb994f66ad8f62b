"""A plugin: one entry of every kind. `test_plugin.py` installs it and uses each entry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from failsafe.datasets.store import Dataset
from failsafe.evaluation.conditions import Condition
from failsafe.evaluation.scenarios import Scenario
from failsafe.execution.processes import ProcessExecutor
from failsafe.experts.contract import Expert
from failsafe.experts.suites import ExpertSuite
from failsafe.experts.tasks import Task
from failsafe.experts.toy import ToyPickExpert
from failsafe.perturbations.distributions import Uniform
from failsafe.perturbations.world import ObjectDropped
from failsafe.policies.contract import ActionSpace
from failsafe.records.assessment import Assessment, Window, WindowSpec
from failsafe.records.observation import PolicyObservation
from failsafe.simulators.contract import Simulator
from failsafe.simulators.suites import SimulatorSuite
from failsafe.simulators.toy import ToyPick
from failsafe.simulators.toy.tasks import PickTask


class PluginPickTask(PickTask):
    name = "PluginPick-v0"


class PluginPick(ToyPick):
    task = PluginPickTask


class PluginSimulators(SimulatorSuite):
    def tasks(self) -> Sequence[str]:
        return ["PluginPick-v0"]

    def make(self, task: str, full_meshes: bool = False) -> Simulator:
        return PluginPick()


class PluginExperts(ExpertSuite):
    def tasks(self) -> Sequence[str]:
        return ["PluginPick-v0"]

    def make(self, task: str) -> Expert:
        return ToyPickExpert()


def plugin_task() -> Task:
    return Task(ToyPick(), ToyPickExpert())


class PluginMode(ObjectDropped):
    magnitude = Uniform(0.1, 0.2)


class PluginModel:
    name = "plugin model"
    window_spec = WindowSpec(views=("front",), history=4, frames=1, size=16)

    def assess(self, window: Window) -> Assessment:
        up = (0.0, 0.0, 0.02, 0.0, 0.0, 0.0, 1.0)
        return Assessment(failure_probability=0.9, mode="slip", actions=(up,) * 2)


class PluginPolicy:
    name = "plugin policy"
    action_space = ActionSpace()
    views: ClassVar[dict[str, int]] = {"front": 16}

    def reset(self, instruction: str) -> None:
        pass

    def act(self, observation: PolicyObservation) -> np.ndarray:
        return np.array([[0.0, 0.0, -0.01, 0.0, 0.0, 0.0, 1.0]])

    def drop_queue(self) -> None:
        pass


PLUGIN_SCENARIO = Scenario("", "physics", "sensors four steps late", delay=4)


class Silent(PluginModel):
    def assess(self, window: Window) -> Assessment:
        return Assessment(failure_probability=0.1)


PLUGIN_CONDITION = Condition(threshold=0.0, control=lambda model, truth: Silent())


class PluginExecutor(ProcessExecutor):
    def __init__(self, workers: int | None = None) -> None:
        super().__init__(workers)
        Path("executor.txt").write_text(f"{workers} workers")


def plugin_exporter(dataset: Dataset, out: Path) -> None:
    out.write_text(json.dumps([case.case_id for case in dataset.cases()]))
