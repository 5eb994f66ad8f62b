"""Three tasks of the toy: where things lie at the beginning, and when the task is done."""

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
"""Speed in m/s below which a box counts as resting."""
HOME = (0.45, 0.0, 0.28)
"""Where the tool begins, pointing down, metres."""


class ToyTask(ABC):
    """One task. Success is judged of the present moment alone, never latched."""

    name: ClassVar[str]
    instruction: ClassVar[str]
    objects: ClassVar[tuple[ObjectSpec, ...]]
    goals: ClassVar[tuple[GoalPredicate, ...]]
    home: ClassVar[tuple[float, float, float]] = HOME

    def generator(self, seed: int) -> np.random.Generator:
        """The stream of random numbers that belongs to this task and seed."""
        return np.random.default_rng([zlib.crc32(self.name.encode()), seed])

    @abstractmethod
    def layout(self, rng: np.random.Generator) -> dict[str, Pose]:
        """A pose for every object."""

    @abstractmethod
    def judge(self, boxes: Sequence[RigidBody], goals: Mapping[str, Sequence[float]]) -> Evaluation:
        """Whether the task is done now.

        Args:
            boxes: The movable objects, in the order of `objects`.
            goals: Poses of the marks, by name. [7]
        """


class PickTask(ToyTask):
    """Bring a box to a point in the air and hold it there."""

    name = "ToyPick-v0"
    instruction = "pick up the box and hold it at the goal"
    objects = (
        # Its diagonal is wider than the gripper opens: the fingers' yaw must be about right.
        ObjectSpec("box", Role.MOVABLE, (0.036, 0.02, 0.025)),
        ObjectSpec("goal", Role.GOAL, (0.02, 0.02, 0.02)),
    )
    goals = (GoalPredicate("held_at", ("box", "goal")),)
    radius: ClassVar[float] = 0.025

    def layout(self, rng: np.random.Generator) -> dict[str, Pose]:
        """The box anywhere on the table within reach, turned anyhow; the goal in the air."""
        return {
            "box": _lying(
                rng.uniform(0.38, 0.58), rng.uniform(-0.18, 0.18), 0.025, rng.uniform(-math.pi, math.pi)
            ),
            "goal": poses.pose([rng.uniform(0.38, 0.58), rng.uniform(-0.18, 0.18), rng.uniform(0.12, 0.28)]),
        }

    def judge(self, boxes: Sequence[RigidBody], goals: Mapping[str, Sequence[float]]) -> Evaluation:
        """Near enough to the goal, in the grip, at rest."""
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
        """The goal ahead of one of the box's faces, 14 to 20 cm away."""
        x, y = rng.uniform(0.34, 0.42), rng.uniform(-0.15, 0.15)
        ahead, far = rng.uniform(-0.6, 0.6), rng.uniform(0.14, 0.20)
        goal = (x + far * math.cos(ahead), y + far * math.sin(ahead))
        return {
            "box": _lying(x, y, 0.025, ahead + rng.normal(0.0, 0.03)),
            "goal": _lying(*goal, 0.001, 0.0),
        }

    def judge(self, boxes: Sequence[RigidBody], goals: Mapping[str, Sequence[float]]) -> Evaluation:
        """The box's middle in the region, lying on the table, at rest."""
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
        """Both boxes on the table, far enough apart for the fingers to fit between."""
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
        """The small box's middle over the big one's top, its bottom on it, both at rest, released."""
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
