"""Experts for the toy's tasks: plan stages from the present poses, and carry them out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from failsafe.errors import PlanError
from failsafe.experts.contract import Expert
from failsafe.records import poses
from failsafe.records.plan import CLOSED, OPEN, Stage
from failsafe.records.poses import Pose
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.contract import Role
from failsafe.simulators.toy.gripper import ARM, MAX_OPENING, SHOULDER, THICKNESS

CLEAR = 0.10
"""Height above a box at which the tool passes, metres."""
WIDEST = 0.076
"""Widest box that the fingers fit around, metres."""
DEEP = 0.022
"""Largest depth of a grasp below the top of a box (the palm is 5 cm above the tool), metres."""
LOWEST = 0.014
"""Lowest height of the tool at which the fingertips do not touch the table, metres."""
FINGER_SPACE = 0.015
"""Space that a finger needs around its centre, metres."""
SLOW = 0.5
"""Speed close to a box, as a share of the step limits."""
GAIN = 0.4
"""Share of the distance to its target that the closed-loop policy commands in one step."""
PATIENCE = 150
"""Control steps after which the closed-loop policy gives up."""
CLOSING, OPENING = 8, 6
"""Control steps in which the gripper closes and opens."""


class Lying(NamedTuple):
    """The orientation and size of a box on the table.

    Attributes:
        yaw: Direction of the first horizontal axis, radians.
        first: Half the size along that axis, metres.
        second: Half the size along the other horizontal axis, metres.
        height: Half the vertical size, metres.
        tilt: Angle from lying flat, radians.
    """

    yaw: float
    first: float
    second: float
    height: float
    tilt: float


def lying(pose: Pose, half: tuple[float, float, float]) -> Lying:
    """Return how a box lies, whatever face it lies on.

    Args:
        pose: Pose of the box. [7]
        half: Half extents of the box in its own frame, metres. [3]
    """
    columns = np.array([poses.rotate(pose[3:], e) for e in np.eye(3)])
    up = int(np.argmax(np.abs(columns[:, 2])))
    i, j = (k for k in range(3) if k != up)
    yaw = math.atan2(columns[i, 1], columns[i, 0])
    tilt = math.acos(min(1.0, abs(float(columns[up, 2]))))
    return Lying(yaw, half[i], half[j], half[up], tilt)


def pointing_down(x: float, y: float, z: float, yaw: float) -> Pose:
    """Return a tool pose with the hand pointing down and the fingers closing across the direction `yaw`.

    Args:
        x: Position, metres.
        y: Position, metres.
        z: Position, metres.
        yaw: Direction of the tool's x axis, radians.
    """
    return poses.pose([x, y, z], [0.0, math.cos(yaw / 2), math.sin(yaw / 2), 0.0])


def yaw_of(tool: Pose) -> float:
    """Return the direction of the tool's x axis, radians."""
    pointing = poses.rotate(tool[3:], (1.0, 0.0, 0.0))
    return math.atan2(pointing[1], pointing[0])


def nearest_yaw(now: Pose, yaw: float) -> float:
    """Return `yaw`, or the yaw half a turn away, whichever takes the smaller rotation.

    Args:
        now: Present tool pose. [7]
        yaw: Desired direction of the tool's x axis, radians.
    """
    current = yaw_of(now)
    return current + (yaw - current + math.pi / 2) % math.pi - math.pi / 2


class _Scene:
    """The steps that the three experts share."""

    def __init__(self, runner: RolloutRunner) -> None:
        self.runner = runner
        self._episode = runner.simulator.episode

    def pose(self, name: str) -> Pose:
        return self.runner.observation.objects[self._episode.object_index(name)]

    def lying(self, name: str) -> Lying:
        return lying(self.pose(name), self._episode.objects[self._episode.object_index(name)].half_extents)

    def go(self, name: str, target: Pose, gripper: float, hold: int = 2, speed: float = 1.0) -> None:
        self.runner.do(Stage(name, tuple(target.tolist()), gripper, hold, speed))

    def stay(self, name: str, gripper: float, hold: int) -> None:
        self.go(name, self.runner.intended, gripper, hold)

    def rise(self, height: float, gripper: float) -> None:
        """Move straight up to a height if the hand is lower, so that it clears other objects."""
        now = self.runner.intended
        if now[2] < height:
            self.go("rise", poses.pose([now[0], now[1], height], now[3:]), gripper)

    def wait_until_flat(self, name: str) -> None:
        """Wait until a box that is falling or tipping over is at rest."""
        for _ in range(4):
            if self.lying(name).tilt < 0.02 and self._supported(name):
                return
            self.stay("wait", OPEN, 6)
        if self.lying(name).tilt >= 0.02:
            raise PlanError(f"expected '{name}' to come to rest, but it still stands on an edge")

    def check_reach(self, what: str, at: Pose) -> None:
        far = math.dist(at[:3].tolist(), SHOULDER)
        if far > ARM:
            raise PlanError(
                f"expected '{what}' within {ARM} m of the arm's shoulder, got it {far:.2f} m away"
            )

    def grasp(self, name: str) -> Pose:
        """Reach, move down, close the gripper; return the tool pose of the grasp."""
        self.wait_until_flat(name)
        self.rise(self.pose(name)[2] + CLEAR / 2, OPEN)
        target, opening = self.grasp_pose(name)
        above = target + np.array([0.0, 0.0, CLEAR, 0.0, 0.0, 0.0, 0.0])
        self.go("reach", above, opening)
        self.go("grasp", target, opening, speed=SLOW)
        self.go("close gripper", target, CLOSED, CLOSING)
        return target

    def grasp_pose(self, name: str) -> tuple[Pose, float]:
        """Return the tool pose for a grasp, and the gripper command before it."""
        box, at = self.lying(name), self.pose(name)
        self.check_reach(name, at)
        # The tool's x lies along the longer side, so that the fingers close across the shorter one.
        yaw, width = (box.yaw, box.second) if box.first >= box.second else (box.yaw + math.pi / 2, box.first)
        if 2 * width > WIDEST:
            raise PlanError(f"expected a side of '{name}' narrower than {WIDEST} m, got {2 * width:.3f} m")
        height = max(at[2], at[2] + box.height - DEEP, LOWEST)
        now = self.runner.intended
        yaws = [nearest_yaw(now, yaw)]
        if 2 * max(box.first, box.second) <= WIDEST and abs(box.first - box.second) < 0.005:
            yaws.append(nearest_yaw(now, yaw + math.pi / 2))
        # Space for the fingers counts first, then the smaller rotation. In a tight place the gripper opens no
        # wider than needed.
        for opening in (MAX_OPENING, 2 * width + 0.012):
            spaces = [min(self._space(name, y, opening), FINGER_SPACE) for y in yaws]
            if max(spaces) == FINGER_SPACE:
                break
        best = max(range(len(yaws)), key=lambda i: (spaces[i], -abs(yaws[i] - yaw_of(now))))
        return pointing_down(at[0], at[1], height, yaws[best]), 2 * opening / MAX_OPENING - 1

    def _space(self, name: str, yaw: float, opening: float) -> float:
        """Return the smallest distance from the centre of a finger at one box to any other box, metres."""
        offset = 0.5 * (opening + THICKNESS)
        at, space = self.pose(name), math.inf
        for other in self._episode.objects:
            if other.role is not Role.MOVABLE or other.name == name:
                continue
            box, there = self.lying(other.name), self.pose(other.name)
            cos, sin = math.cos(box.yaw), math.sin(box.yaw)
            for side in (-offset, offset):
                dx, dy = at[0] - side * math.sin(yaw) - there[0], at[1] + side * math.cos(yaw) - there[1]
                along, across = abs(dx * cos + dy * sin) - box.first, abs(dy * cos - dx * sin) - box.second
                space = min(space, math.hypot(max(along, 0.0), max(across, 0.0)))
        return space

    def _supported(self, name: str) -> bool:
        bottom = self.pose(name)[2] - self.lying(name).height
        tops = [0.0]
        for other in self._episode.objects:
            if other.name != name:
                tops.append(float(self.pose(other.name)[2]) + self.lying(other.name).height)
        return any(abs(bottom - top) < 0.003 for top in tops)


class ToyPickExpert:
    """Grasps the box and carries it to the goal."""

    def solve(self, runner: RolloutRunner) -> None:
        """Carry out the whole task."""
        scene = _Scene(runner)
        grasped = scene.grasp("box")
        lifted = grasped + np.array([0.0, 0.0, 0.08, 0.0, 0.0, 0.0, 0.0])
        scene.go("lift", lifted, CLOSED)
        goal, box = scene.pose("goal"), scene.pose("box")
        target = runner.observation.tcp_pose.copy()
        target[:3] += goal[:3] - box[:3]
        target[3:] = lifted[3:]
        scene.go("move to goal", target, CLOSED, hold=4)


class ToyPushExpert:
    """Pushes the box at the centre of one face, and then, if needed, at the next face."""

    def solve(self, runner: RolloutRunner) -> None:
        """Carry out the whole task."""
        scene = _Scene(runner)
        scene.wait_until_flat("box")
        pushes = self._pushes(scene)
        for i in range(pushes):
            self._push(scene, "push" if i == 0 else "push across")
        scene.rise(float(runner.intended[2]) + 0.04, CLOSED)

    @staticmethod
    def _needed_pushes(scene: _Scene) -> list[tuple[float, float, float]]:
        """Return the two pushes: direction (rad), distance (m), half size of the box (m); longest first."""
        box, goal, at = scene.lying("box"), scene.pose("goal"), scene.pose("box")
        dx, dy = float(goal[0] - at[0]), float(goal[1] - at[1])
        pushes: list[tuple[float, float, float]] = []
        for yaw, half in ((box.yaw, box.first), (box.yaw + math.pi / 2, box.second)):
            along = dx * math.cos(yaw) + dy * math.sin(yaw)
            pushes.append((yaw if along >= 0 else yaw + math.pi, abs(along), half))
        return sorted(pushes, key=lambda push: -push[1])

    def _pushes(self, scene: _Scene) -> int:
        return sum(distance > 0.02 for _, distance, _ in self._needed_pushes(scene))

    def _push(self, scene: _Scene, name: str) -> None:
        direction, distance, half = self._needed_pushes(scene)[0]
        at, box = scene.pose("box"), scene.lying("box")
        cos, sin = math.cos(direction), math.sin(direction)
        back = half + 0.035
        height = max(LOWEST, float(at[2]) - 0.3 * box.height)
        yaw = nearest_yaw(scene.runner.intended, direction)
        scene.rise(float(at[2]) + box.height + 0.03, CLOSED)
        behind = pointing_down(at[0] - back * cos, at[1] - back * sin, height + CLEAR, yaw)
        scene.go("reach" if name == "push" else "go round", behind, CLOSED)
        behind[2] = height
        scene.go("lower", behind, CLOSED, speed=SLOW)
        # The closed fingers are 1 cm deep in the direction of the push.
        travel = back - half - 0.01 + distance
        scene.check_reach("box", behind)
        pushed = pointing_down(behind[0] + travel * cos, behind[1] + travel * sin, height, yaw)
        scene.check_reach("goal", pushed)
        scene.go(name, pushed, CLOSED, hold=4, speed=SLOW)


class ToyStackExpert:
    """Grasps the small box, aligns it above the big one, sets it down and releases it."""

    def solve(self, runner: RolloutRunner) -> None:
        """Carry out the whole task."""
        scene = _Scene(runner)
        scene.wait_until_flat("box_b")
        grasped = scene.grasp("box_a")
        box_a, box_b = scene.lying("box_a"), scene.lying("box_b")
        top = float(scene.pose("box_b")[2]) + box_b.height
        clear = max(float(grasped[2]) + 0.06, top + CLEAR)
        scene.go("lift", poses.pose([grasped[0], grasped[1], clear], grasped[3:]), CLOSED)
        offset = scene.pose("box_b")[:3] - scene.pose("box_a")[:3]
        above = poses.pose([*(runner.observation.tcp_pose[:2] + offset[:2]), clear], grasped[3:])
        scene.go("align", above, CLOSED, hold=4)
        drop = float(scene.pose("box_a")[2]) - box_a.height - top
        placed = above - np.array([0.0, 0.0, drop - 0.001, 0.0, 0.0, 0.0, 0.0])
        scene.go("place", placed, CLOSED, hold=4, speed=SLOW)
        scene.go("open gripper", placed, OPEN, OPENING)
        scene.rise(float(placed[2]) + 0.08, OPEN)


class ToyPickPolicy:
    """Picks in closed loop, without waypoints: observes in every step and commands a small motion.

    It represents the scripted policies of other benchmarks, whose rollouts `segmentation` cuts into stages.
    """

    def solve(self, runner: RolloutRunner) -> None:
        """Carry out the whole task.

        Raises:
            PlanError: If the box is not at the goal after `PATIENCE` control steps.
        """
        scene = _Scene(runner)
        width_before, arrived = math.inf, 0
        for _ in range(PATIENCE):
            seen = runner.observation
            desired, gripper = self._desired(scene, width_before)
            width_before = seen.gripper_width
            runner.act(GAIN * poses.delta_between(seen.tcp_pose, self._near(seen.tcp_pose, desired)), gripper)
            arrived = arrived + 1 if self._offset(scene) < 0.005 else 0
            if arrived >= 3:
                return
        raise PlanError(f"expected the box at the goal within {PATIENCE} steps, got another pose")

    @staticmethod
    def _near(now: Pose, desired: Pose) -> Pose:
        return poses.limit_step(now, desired, 0.02 / GAIN, 0.1 / GAIN)

    @staticmethod
    def _offset(scene: _Scene) -> float:
        return float(np.linalg.norm(scene.pose("box")[:3] - scene.pose("goal")[:3]))

    @staticmethod
    def _desired(scene: _Scene, width_before: float) -> tuple[Pose, float]:
        """Return the desired tool pose and gripper command."""
        tool, width = scene.runner.observation.tcp_pose, scene.runner.observation.gripper_width
        grasp = scene.grasp_pose("box")[0]
        aside = float(np.linalg.norm(tool[:2] - grasp[:2]))
        misplaced = aside > 0.01 or poses.distance(tool, grasp)[1] > 0.1
        at_box = aside < 0.02 and abs(tool[2] - grasp[2]) < 0.012
        if at_box and width < 0.06 and abs(width - width_before) < 1e-4:
            target = tool.copy()
            target[:3] += scene.pose("goal")[:3] - scene.pose("box")[:3]
            return target, CLOSED
        if at_box and (not misplaced or width < 0.06):
            return grasp, CLOSED
        if misplaced:
            grasp[2] += CLEAR
        return grasp, OPEN


EXPERTS: Mapping[str, type[Expert]] = {
    "ToyPick-v0": ToyPickExpert,
    "ToyPush-v0": ToyPushExpert,
    "ToyStack-v0": ToyStackExpert,
}
"""The expert of each of the toy's tasks."""

__all__ = [
    "EXPERTS",
    "ToyPickExpert",
    "ToyPickPolicy",
    "ToyPushExpert",
    "ToyStackExpert",
    "lying",
    "nearest_yaw",
    "pointing_down",
]
