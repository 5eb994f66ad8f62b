"""Where an object can be put so that a goal holds: poses tried in simulation, without the arm."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from failsafe.experts.libero.scene import LiberoScene
from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.contract import GoalPredicate
from failsafe.simulators.mujoco.bindings import mujoco

_STEP = 0.005
"""Distance of the heights at which free space is looked for, metres."""
_ABOVE = {True: 0.12, False: 0.3}
"""How far above a region (True) or an object below (False) the origin of an object can be, metres."""
_CLEAR = 0.002
"""Height above the lowest free one from which the object is let go, metres."""
_SETTLE_SECONDS = 0.8
_MOST_TRIES = 40
_ENOUGH = 10
"""Placements after which the search ends."""
_PUSHED = 0.02
"""Distance by which no other object may move, metres."""
_STILL = 0.02
"""Speed (m/s) below which an object is at rest."""


@dataclass(frozen=True)
class Placement:
    """A pose at which an object is let go.

    Attributes:
        offset: Pose of the object in the frame of the region, or of the object below it. [7]
        cost: The lower, the better: how much the object moves before it rests.
    """

    offset: Pose
    cost: float


def find_placements(
    scene: LiberoScene, name: str, goal: GoalPredicate, share: tuple[int, int] = (0, 1)
) -> list[Placement]:
    """Return placements after which a goal holds at rest, best first. The state is the same afterwards.

    Args:
        scene: The scene.
        name: Name of the object.
        goal: The goal; its last argument is a region, or the object on which the first one is put.
        share: Number of this object among those that are put there, and how many there are.
    """
    simulator = scene.simulator
    state = simulator.state()
    reference = scene.reference(goal.arguments[1])
    # What moves by itself at the beginning does not count as pushed.
    _wait(scene)
    others = _others(scene, name)
    simulator.restore(state)
    found: list[Placement] = []
    for tries, (pose, cost) in enumerate(_candidates(scene, name, goal, share)):
        if tries == _MOST_TRIES or len(found) == _ENOUGH:
            break
        moved = _settle(scene, name, goal, pose, others)
        simulator.restore(state)
        if moved is not None:
            found.append(Placement(poses.relative(reference, pose), cost + moved))
    return sorted(found, key=lambda placement: placement.cost)


def free_placements(scene: LiberoScene, name: str, goal: GoalPredicate) -> list[Placement]:
    """Return placements in space that is free now. Whether the object rests there is not tried.

    Args:
        scene: The scene.
        name: Name of the object.
        goal: The goal.
    """
    reference = scene.reference(goal.arguments[1])
    poses_and_costs = itertools.islice(_candidates(scene, name, goal, (0, 1)), _MOST_TRIES)
    return [Placement(poses.relative(reference, pose), cost) for pose, cost in poses_and_costs]


def _candidates(
    scene: LiberoScene, name: str, goal: GoalPredicate, share: tuple[int, int]
) -> Iterator[tuple[Pose, float]]:
    """Yield poses of an object in free space, lowest first, with a cost for unusual ones."""
    body = scene.body(name)
    at = scene.free_address(body)
    now = scene.pose(body)
    target = goal.arguments[1]
    center = scene.reference(target)[:3]
    half = scene.region(target)[1] if scene.is_region(target) else np.zeros(3)
    geoms = set(scene.geoms(body))
    if goal.relation == "in":
        heights = np.arange(-half[2] - 0.03, half[2] + 0.02, _STEP)
    else:
        heights = np.arange(-0.03, _ABOVE[scene.is_region(target)], _STEP)
    for turn, turn_cost in _turns(now[3:]):
        for dx, dy, spot_cost in _spots(half, share):
            spot = center + np.array([dx * half[0], dy * half[1], 0.0])
            scene.arm.begin()
            free: list[bool] = []
            for height in heights:
                scene.arm.set_joint(at, poses.pose(spot + np.array([0.0, 0.0, height]), turn))
                free.append(not scene.arm.overlaps(geoms))
            # The lowest free height above something that is not free.
            starts = [i for i in range(1, len(free)) if free[i] and not free[i - 1]]
            for i in starts[:3]:
                height = heights[i] + _CLEAR
                pose = poses.pose(spot + np.array([0.0, 0.0, height]), turn)
                yield pose, turn_cost + spot_cost


def _spots(half: np.ndarray, share: tuple[int, int]) -> list[tuple[float, float, float]]:
    """Return places in a region, as shares of half its size, each with a cost.

    Args:
        half: Half the size of the region, metres. [3]
        share: Number of an object among those that are put there, and how many there are.
    """
    if max(half[:2]) < 0.02:
        return [(0.0, 0.0, 0.0)]
    beside = [(0.5, 0.0, 0.1), (-0.5, 0.0, 0.1), (0.0, 0.5, 0.1), (0.0, -0.5, 0.1)]
    number, count = share
    if count == 1:
        return [(0.0, 0.0, 0.0), *beside]
    # Several objects share the region: each has a place of its own along the longer side.
    side = -1.0 + 2.0 * number / (count - 1)
    own = [(0.8 * side, 0.0, 0.0), (0.6 * side, 0.0, 0.02)]
    if half[0] <= half[1] + 1e-3:
        own = [(y, x, cost) for x, y, cost in own]
    return [*own, *beside, (0.0, 0.0, 0.2)]


def _turns(now: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """Yield orientations with their costs: the present one, turned about the vertical, and lying ones."""
    down = [(np.array([1.0, 0.0, 0.0, 0.0]), 0.0)]
    quarter = np.sqrt(0.5)
    down += [
        (np.array([quarter, quarter * x, quarter * y, 0.0]), 1.0)
        for x, y in ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))
    ]
    for tip, cost in down:
        for yaw in (0.0, 0.5, 1.0, -0.5, 0.25, -0.25, 0.75, -0.75):
            spin = poses.from_rotation_vector((0.0, 0.0, yaw * np.pi))
            turned = poses.quaternion_multiply(spin, poses.quaternion_multiply(tip, now))
            yield turned, cost + 0.05 * abs(yaw)


def _others(scene: LiberoScene, name: str) -> dict[int, Pose]:
    """Return the poses of all free bodies but one, by their ids."""
    bodies = range(1, scene.model.nbody)
    return {o: scene.pose(o) for o in bodies if o != scene.body(name) and scene.free_address(o) >= 0}


def _wait(scene: LiberoScene) -> None:
    """Let everything settle while the tool stands still."""
    simulator = scene.simulator
    RolloutRunner(simulator, record=False).settle(simulator.spec.embodiment.steps(_SETTLE_SECONDS))


def _settle(
    scene: LiberoScene, name: str, goal: GoalPredicate, pose: Pose, others: dict[int, Pose]
) -> float | None:
    """Let an object fall from a pose; return how far it moves if the goal holds at rest, else None."""
    data, body = scene.data, scene.body(name)
    at = scene.free_address(body)
    data.qpos[at : at + 7] = pose
    dof = int(scene.model.body_dofadr[body])
    data.qvel[dof : dof + 6] = 0.0
    mujoco.mj_forward(scene.model, data)
    _wait(scene)
    speed = float(np.abs(data.qvel[dof : dof + 3]).max())
    if speed > _STILL or not scene.holds(goal):
        return None
    if any(poses.distance(rest, scene.pose(o))[0] > _PUSHED for o, rest in others.items()):
        return None
    metres, radians = poses.distance(pose, scene.pose(body))
    return 5 * metres + radians
