"""A simulator under test, and the ways to move it that the rules share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.records.trace import Disturbance
from failsafe.simulators.contract import Role, Simulator

SEED = 3
"""The episode that is looked at; others are run in between."""
LIFTED = 50
"""Commands of `Bench.commands` after which the object, where it was grasped, is in the air."""


class Broken(Exception):
    """A rule is not kept; the message says which part of it and how far off."""


class Bench:
    """A simulator under test, and the ways to move it that the checks share."""

    def __init__(self, factory: Callable[[], Simulator]) -> None:
        self.simulator = factory()

    def movable(self) -> str:
        """Name of the first object that can be moved, empty where there is none."""
        return next(iter(self.simulator.episode.names(Role.MOVABLE)), "")

    def position(self, name: str) -> np.ndarray:
        """Where an object is, metres [3]."""
        return self.simulator.observe().objects[self.simulator.episode.object_index(name), :3].copy()

    def lead(self, target: Pose, gripper: float, steps: int) -> list[np.ndarray]:
        """Move the tool towards a pose within the step limits, and return the native commands."""
        limits, commands = self.simulator.spec.embodiment.step_limits, []
        goal = self.simulator.observe().tcp_pose
        for _ in range(steps):
            goal = poses.limit_step(goal, target, *limits)
            command = self.simulator.command(goal, gripper)
            self.simulator.step(command)
            commands.append(command)
        return commands

    @functools.cached_property
    def commands(self) -> list[np.ndarray]:
        """An episode with contacts: go to an object, close on it, lift, shove it aside, let go."""
        self.simulator.reset(SEED)
        start = self.simulator.observe().tcp_pose
        name = self.movable()
        at = self.position(name) if name else start[:3] - [0.0, 0.0, 0.05]
        commands: list[np.ndarray] = []
        for offset, gripper, steps in (
            ((0.0, 0.0, 0.08), 1.0, 20),
            ((0.0, 0.0, 0.0), 1.0, 12),
            ((0.0, 0.0, 0.0), -1.0, 10),
            ((0.0, 0.0, 0.07), -1.0, 8),
            ((0.06, 0.04, -0.01), -1.0, 14),
            ((0.06, 0.04, 0.05), 1.0, 10),
        ):
            commands += self.lead(poses.pose(at + np.array(offset), start[3:]), gripper, steps)
        return commands

    def play(self, commands: Iterable[np.ndarray], seed: int | None = SEED) -> list[np.ndarray]:
        """States before each command and after the last; goes on from the present one if seed is None."""
        if seed is not None:
            self.simulator.reset(seed)
        states = [self.simulator.state()]
        for command in commands:
            self.simulator.step(command)
            states.append(self.simulator.state())
        return states

    def disturb_other_episodes(self) -> None:
        """Leave as much of a past behind as an episode can: others, with contacts and other friction."""
        name = self.movable()
        for seed in (SEED + 1, SEED + 2):
            self.play(self.commands[: len(self.commands) // 2], seed)
            if name:
                self.simulator.step(
                    self.commands[-1], [Disturbance(name, (0.3, 0.1, 0.2, 2.0, 0.0, 1.0), 0.1)]
                )


def expect_same(first: Sequence[np.ndarray], second: Sequence[np.ndarray], when: str) -> None:
    """Two runs of states, bit for bit.

    Raises:
        Broken: If they differ.
    """
    for step, (a, b) in enumerate(zip(first, second, strict=True)):
        if a.tobytes() != b.tobytes():
            off = float(np.max(np.abs(a - b))) if a.shape == b.shape else math.inf
            raise Broken(
                f"expected the same states {when}, got one that differs by {off:.3g} after {step} steps"
            )
