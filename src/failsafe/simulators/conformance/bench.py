"""A simulator under test, and the motions that the rules share."""

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
"""Seed of the tested episode. Other episodes run in between."""
OPEN, CLOSED = 1.0, -1.0
MOTION = (
    # Offset from the object (m), gripper, duration (s).
    ((0.0, 0.0, 0.08), OPEN, 1.0),
    ((0.0, 0.0, 0.0), OPEN, 0.6),
    ((0.0, 0.0, 0.0), CLOSED, 0.5),
    ((0.0, 0.0, 0.07), CLOSED, 0.4),
    ((0.06, 0.04, -0.01), CLOSED, 0.7),
    ((0.06, 0.04, 0.05), OPEN, 0.5),
)
"""Move above an object, go down, close the gripper, lift, push the object aside, open the gripper."""
LIFTED_PHASES = 4
"""Number of phases of `MOTION` after which the object is lifted, if the grasp succeeded."""


class Broken(Exception):
    """A rule is violated; the message states what was expected and what was measured."""


class Bench:
    """A simulator under test, and the motions that the rules share.

    Args:
        factory: Makes the simulator.
    """

    def __init__(self, factory: Callable[[], Simulator]) -> None:
        self.simulator = factory()

    def movable(self) -> str:
        """Return the name of the first movable object; empty if there is none."""
        return next(iter(self.simulator.episode.names(Role.MOVABLE)), "")

    def position(self, name: str) -> np.ndarray:
        """Return the position [3] of an object, robot base frame, metres."""
        return self.simulator.observe().objects[self.simulator.episode.object_index(name), :3].copy()

    def steps(self, seconds: float) -> int:
        """Return the number of control steps of a duration."""
        return self.simulator.spec.embodiment.steps(seconds)

    def move_to(self, target: Pose, gripper: float, seconds: float) -> list[np.ndarray]:
        """Move the tool towards a pose within the step limits.

        Args:
            target: Tool pose, robot base frame. [7]
            gripper: Gripper command, -1 closed to +1 open.
            seconds: Duration of the motion.

        Returns:
            The native commands.
        """
        limits, commands = self.simulator.spec.embodiment.step_limits, []
        goal = self.simulator.observe().tcp_pose
        for _ in range(self.steps(seconds)):
            goal = poses.limit_step(goal, target, *limits)
            command = self.simulator.command(goal, gripper)
            self.simulator.step(command)
            commands.append(command)
        return commands

    @functools.cached_property
    def commands(self) -> list[np.ndarray]:
        """Native commands of an episode with contacts, see `MOTION`."""
        self.simulator.reset(SEED)
        start = self.simulator.observe().tcp_pose
        name = self.movable()
        at = self.position(name) if name else start[:3] - [0.0, 0.0, 0.05]
        commands: list[np.ndarray] = []
        for offset, gripper, seconds in MOTION:
            commands += self.move_to(poses.pose(at + np.array(offset), start[3:]), gripper, seconds)
        return commands

    @property
    def lifting_commands(self) -> list[np.ndarray]:
        """The commands up to the point where a grasped object is lifted."""
        return self.commands[: sum(self.steps(seconds) for *_, seconds in MOTION[:LIFTED_PHASES])]

    def play(self, commands: Iterable[np.ndarray], seed: int | None = SEED) -> list[np.ndarray]:
        """Execute native commands.

        Args:
            commands: The commands.
            seed: Seed to reset to; None: continue from the current state.

        Returns:
            The states before each command and after the last.
        """
        if seed is not None:
            self.simulator.reset(seed)
        states = [self.simulator.state()]
        for command in commands:
            self.simulator.step(command)
            states.append(self.simulator.state())
        return states

    def disturb_other_episodes(self) -> None:
        """Run other episodes with contacts and changed friction, which must not affect later episodes."""
        name = self.movable()
        for seed in (SEED + 1, SEED + 2):
            self.play(self.commands[: len(self.commands) // 2], seed)
            if name:
                self.simulator.step(
                    self.commands[-1], [Disturbance(name, (0.3, 0.1, 0.2, 2.0, 0.0, 1.0), 0.1)]
                )


def expect_same(first: Sequence[np.ndarray], second: Sequence[np.ndarray], when: str) -> None:
    """Check that two sequences of states are equal, bit for bit.

    Args:
        first: The expected states.
        second: The other states.
        when: When the states must be equal, for the message.

    Raises:
        Broken: If the sequences differ.
    """
    for step, (a, b) in enumerate(zip(first, second, strict=True)):
        if a.tobytes() != b.tobytes():
            off = float(np.max(np.abs(a - b))) if a.shape == b.shape else math.inf
            raise Broken(
                f"expected the same states {when}, got one that differs by {off:.3g} after {step} steps"
            )
