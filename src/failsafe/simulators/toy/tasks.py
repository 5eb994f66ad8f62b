"""The three tasks of the toy: initial states and success criteria."""

from __future__ import annotations

import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.simulators.contract import Evaluation, GoalPredicate, ObjectSpec, Role
from failsafe.simulators.toy.body import RigidBody

AT_REST = 0.05
"""Speed below which a box is at rest, m/s."""
HOME = (0.45, 0.0, 0.28)
"""Initial position of the tool, which points down, metres."""


class ToyTask(ABC):
    """One task. Success depends on the current state only; it is never latched."""

    name: ClassVar[str]
    instruction: ClassVar[str]
    objects: ClassVar[tuple[ObjectSpec, ...]]
    goals: ClassVar[tuple[GoalPredicate, ...]]
    home: ClassVar[tuple[float, float, float]] = HOME

    def generator(self, seed: int) -> np.random.Generator:
        """Return the random generator of this task and a seed."""
        return np.random.default_rng([zlib.crc32(self.name.encode()), seed])

    @abstractmethod
    def layout(self, rng: np.random.Generator) -> dict[str, Pose]:
        """Draw a pose for every object."""

    @abstractmethod
    def judge(self, boxes: Sequence[RigidBody], goals: Mapping[str, Sequence[float]]) -> Evaluation:
        """Evaluate the success criterion.

        Args:
            boxes: The movable objects, in the order of `objects`.
            goals: Poses of the goal markers, by name. [7]
        """


class PickTask(ToyTask):
    """Bring a box to a point in the air and hold it there."""

    name = "ToyPick-v0"
    instruction = "pick up the box and hold it at the goal"
    objects = (
        # The diagonal is wider than the gripper opens, so the yaw of the fingers matters.
        ObjectSpec("box", Role.MOVABLE, (0.036, 0.02, 0.025)),
        ObjectSpec("goal", Role.GOAL, (0.02, 0.02, 0.02)),
    )
    goals = (GoalPredicate("held_at", ("box", "goal")),)
    radius: ClassVar[float] = 0.025

    def layout(self, rng: np.random.Generator) -> dict[str, Pose]:
        """Draw a box pose on the table within reach, with any yaw, and a goal in the air."""
        return {
            "box": _lying(
                rng.uniform(0.38, 0.58), rng.uniform(-0.18, 0.18), 0.025, rng.uniform(-math.pi, math.pi)
            ),
            "goal": poses.pose([rng.uniform(0.38, 0.58), rng.uniform(-0.18, 0.18), rng.uniform(0.12, 0.28)]),
        }

    def judge(self, boxes: Sequence[RigidBody], goals: Mapping[str, Sequence[float]]) -> Evaluation:
        """Succeed if the box is near the goal, held, and at rest. See `ToyTask.judge`."""
        box = boxes[0]
        distance = math.dist((box.x, box.y, box.z), goals["goal"][:3])
        success = distance <= self.radius and box.held and box.speed <= AT_REST
        return Evaluation(success, {"distance": distance, "held": float(box.held), "speed": box.speed})


class PushTask(ToyTask):
    """Push a box to a round region with the closed gripper."""

    name = "ToyPush-v0"
    instruction = "push the box onto the goal region"
    objects = (
        ObjectSpec("box", Role.MOVABLE, (0.03, 0.03, 0.025)),
        ObjectSpec("goal", Role.GOAL, (0.04, 0.04, 0.001)),
    )
    goals = (GoalPredicate("at", ("box", "goal")),)
    radius: ClassVar[float] = 0.04

    def layout(self, rng: np.random.Generator) -> dict[str, Pose]:
        """Draw a box pose, and a goal 14 to 20 cm ahead of one of its faces."""
        x, y = rng.uniform(0.34, 0.42), rng.uniform(-0.15, 0.15)
        ahead, far = rng.uniform(-0.6, 0.6), rng.uniform(0.14, 0.20)
        goal = (x + far * math.cos(ahead), y + far * math.sin(ahead))
        return {
            "box": _lying(x, y, 0.025, ahead + rng.normal(0.0, 0.03)),
            "goal": _lying(*goal, 0.001, 0.0),
        }

    def judge(self, boxes: Sequence[RigidBody], goals: Mapping[str, Sequence[float]]) -> Evaluation:
        """Succeed if the box lies on the table at rest, its middle inside the region. See `ToyTask.judge`."""
        box, goal = boxes[0], goals["goal"]
        distance = math.hypot(box.x - goal[0], box.y - goal[1])
        height = box.z - box.height
        success = distance <= self.radius and abs(height) < 0.005 and not box.held and box.speed <= AT_REST
        return Evaluation(success, {"distance": distance, "height": height, "speed": box.speed})


class StackTask(ToyTask):
    """Put one box on another and let go."""

    name = "ToyStack-v0"
    instruction = "stack the small box on the big box"
    objects = (
        ObjectSpec("box_a", Role.MOVABLE, (0.02, 0.02, 0.02)),
        ObjectSpec("box_b", Role.MOVABLE, (0.026, 0.026, 0.024)),
    )
    goals = (GoalPredicate("on", ("box_a", "box_b")),)

    def layout(self, rng: np.random.Generator) -> dict[str, Pose]:
        """Draw two box poses on the table with room for the fingers between them."""
        while True:
            spots = rng.uniform([0.38, -0.18], [0.58, 0.18], size=(2, 2))
            if np.linalg.norm(spots[0] - spots[1]) > 0.13:
                break
        yaws = rng.uniform(-math.pi, math.pi, size=2)
        return {
            "box_a": _lying(spots[0, 0], spots[0, 1], 0.02, yaws[0]),
            "box_b": _lying(spots[1, 0], spots[1, 1], 0.024, yaws[1]),
        }

    def judge(self, boxes: Sequence[RigidBody], goals: Mapping[str, Sequence[float]]) -> Evaluation:
        """Succeed if the small box stands on the middle of the big one, released, both at rest.

        See `ToyTask.judge`.
        """
        small, big = boxes
        offset = math.hypot(small.x - big.x, small.y - big.y)
        gap = (small.z - small.height) - (big.z + big.height)
        speed = max(small.speed, big.speed)
        released = not (small.held or big.held)
        on_table = big.z - big.height < 0.005
        success = offset <= 0.02 and abs(gap) < 0.004 and released and on_table and speed <= AT_REST
        terms = {"offset": offset, "gap": gap, "released": float(released), "speed": speed}
        return Evaluation(success, terms)


def _lying(x: float, y: float, z: float, yaw: float) -> Pose:
    return poses.pose([x, y, z], [math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)])
