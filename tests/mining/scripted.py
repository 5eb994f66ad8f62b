"""Policies on the toy that know the truth: one that stops beside the box, from half of the initial states."""

from __future__ import annotations

from typing import Any

import numpy as np

from failsafe.experts.toy import ToyPickPolicy, _Scene
from failsafe.policies.contract import ActionSpace
from failsafe.records import poses
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.contract import Simulator

ASIDE = 0.06
"""How far beside the box it stops, metres; from nearer it goes on to the box."""


class Aside:
    """Picks the box, but from odd seeds moves beside it unless the tool is near already."""

    name, views, action_space = "aside", {}, ActionSpace()

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._width = np.inf

    def reset(self, instruction: str) -> None:
        self._width = np.inf

    def act(self, observation: Any) -> np.ndarray:
        simulator = self._simulator
        scene = _Scene(RolloutRunner(simulator))
        seen = simulator.observe()
        desired, gripper = ToyPickPolicy._desired(scene, self._width)
        self._width = seen.gripper_width
        apart = np.linalg.norm(seen.tcp_pose[:2] - scene.pose("box")[:2])
        if simulator.episode.seed % 2 and apart > ASIDE / 2 and not simulator.held():
            desired = desired.copy()
            desired[0] += ASIDE
        step = poses.limit_step(seen.tcp_pose, desired, 0.05, 0.25)
        return np.array([[*(0.4 * poses.delta_between(observation.target_pose, step)), gripper]])

    def drop_queue(self) -> None:
        pass


class Shaky(Aside):
    """The same, a little elsewhere every time it is asked."""

    name = "shaky"

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._rng = np.random.default_rng(0)

    def act(self, observation: Any) -> np.ndarray:
        return super().act(observation) + self._rng.normal(size=7) * 1e-6


class Slow(Aside):
    """The same at a fifth of the speed: from even seeds it needs 175 to 191 control steps."""

    name = "slow"

    def act(self, observation: Any) -> np.ndarray:
        return super().act(observation) * np.array([0.2] * 6 + [1.0])


class Still:
    """Never moves."""

    name, views, action_space = "still", {}, ActionSpace()

    def reset(self, instruction: str) -> None: ...

    def act(self, observation: Any) -> np.ndarray:
        return np.array([[0.0] * 6 + [1.0]])

    def drop_queue(self) -> None: ...
