"""How a drawer, a door or a knob is moved: the tool holds it, or pushes it, and follows its joint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from failsafe.errors import PlanError
from failsafe.experts.libero.goals import VERBS
from failsafe.experts.libero.grasps import HandPose, find_grasps, orientations
from failsafe.experts.libero.kinematics import Distinct
from failsafe.experts.libero.motion import Motion
from failsafe.experts.libero.scene import LiberoScene
from failsafe.records import poses
from failsafe.records.plan import CLOSED, OPEN
from failsafe.records.poses import Pose
from failsafe.simulators.contract import GoalPredicate
from failsafe.simulators.mujoco.bindings import mujoco

_TILTS = (0.0, 0.5, 1.0, np.pi / 2)
_AZIMUTHS, _ROLLS = 8, 4
_LEADING = 0.07
"""A handle is within this distance of the front of what is moved, metres."""
_ARC = 0.2
"""Angle of a joint between two waypoints, radians."""
_SIMILAR = (0.015, 0.4)
_STILL = 0.01
"""Speed of a joint at rest, m/s or rad/s."""
_MOST, _MOST_TESTED = 12, 150
"""Candidates of each kind that are kept, and for which the arm's kinematics are computed."""
_USUAL = (0.03, 40, (0.5, 0.0, 0.9))
"""Where a part is pushed: distance between the points (m), most points, and how level the fingers are: 0 is
straight down, 1 along the push."""
_THOROUGH = (0.015, 120, (0.5, 0.35, 0.2, 0.0, 0.7, 0.9))
"""The same for parts that are not reached otherwise."""
_PUSH_BACK = 0.06
"""Distance from which a push begins, metres."""
_BEYOND = {True: 0.015, False: 0.12}
"""How far a push goes beyond the joint position to reach (m for a sliding joint, rad for a turning one)."""


@dataclass(frozen=True)
class Handle:
    """A way to move an articulated part.

    Attributes:
        tool: Tool pose in the frame of the part. [7]
        pushes: Whether the closed fingers push. Otherwise they hold the part.
        approach: Vector from the tool to where it comes from, in the frame of the part, metres. [3]
    """

    tool: Pose
    pushes: bool
    approach: np.ndarray


def find_handles(scene: LiberoScene, goal: GoalPredicate) -> list[Handle]:
    """Return ways to move the joint of a goal that the arm can go now, best first.

    Args:
        scene: The scene.
        goal: The goal.
    """
    moved = scene.part(goal.arguments[0])
    target = None if moved is None else scene.joint_target(goal, moved[0])
    if moved is None or target is None:
        return []
    joint, body = moved
    path = _path(scene, joint, body, target)
    held, pushed = _holds(scene, joint, body, path), _pushes(scene, body, path, _USUAL)
    if not held and not pushed:
        pushed = _pushes(scene, body, path, _THOROUGH)
    ordered = [*held, *pushed]
    if goal.relation == "close":
        ordered = [*pushed, *held]
    return ordered


def operate(motion: Motion, goal: GoalPredicate, handle: Handle) -> None:
    """Move the joint of a goal.

    Args:
        motion: Moves the tool.
        goal: The goal.
        handle: How.

    Raises:
        PlanError: If no joint position satisfies the goal.
    """
    scene = motion.scene
    moved = scene.part(goal.arguments[0])
    target = None if moved is None else scene.joint_target(goal, moved[0])
    if moved is None or target is None:
        raise PlanError(f"no joint position satisfies {goal.relation} {goal.arguments[0]}")
    joint, body = moved
    called = " ".join(w for w in goal.arguments[0].split("_") if not w.isdigit() and w != "region")
    path = _path(scene, joint, body, target, handle.pushes)
    start = poses.compose(scene.pose(body), handle.tool)
    before = start.copy()
    away = poses.rotate(scene.pose(body)[3:], handle.approach)
    before[:3] += away
    gripper = CLOSED if handle.pushes else OPEN
    motion.travel(("rise", f"reach {called}"), before, gripper)
    motion.go(f"touch {called}" if handle.pushes else f"grasp {called}", start, gripper, hold=3, speed=0.5)
    if not handle.pushes:
        motion.close_gripper()
    for pose in path[:-1]:
        motion.go(f"{VERBS[goal.relation]} {called}", poses.compose(pose, handle.tool), CLOSED, speed=0.6)
    motion.go(f"{VERBS[goal.relation]} {called}", poses.compose(path[-1], handle.tool), CLOSED, 8, 0.6)
    away = poses.rotate(scene.pose(body)[3:], handle.approach)
    motion.leave(away, opens=not handle.pushes)
    motion.wait(lambda: abs(float(scene.data.qvel[int(scene.model.jnt_dofadr[joint])])) < _STILL)


def _path(scene: LiberoScene, joint: int, body: int, target: float, beyond: bool = False) -> list[Pose]:
    """Return poses of a part, world frame, from the present joint position to another, without the first."""
    at = int(scene.model.jnt_qposadr[joint])
    slides = int(scene.model.jnt_type[joint]) == int(mujoco.mjtJoint.mjJNT_SLIDE)
    now = float(scene.data.qpos[at])
    if beyond:
        target += math.copysign(_BEYOND[slides], target - now)
    count = 1 if slides else max(1, math.ceil(abs(target - now) / _ARC))
    scene.arm.begin()
    found: list[Pose] = []
    for value in np.linspace(now, target, count + 1)[1:]:
        scene.arm.set_joint(at, float(value))
        found.append(scene.arm.body_pose(body))
    return found


def _holds(scene: LiberoScene, joint: int, body: int, path: list[Pose]) -> list[Handle]:
    """Return grasps of a part with which the arm can follow its path."""
    surface, now = scene.surface(body), scene.pose(body)
    points = surface.points
    axis, anchor = scene.data.xaxis[joint], scene.data.xanchor[joint]
    slides = int(scene.model.jnt_type[joint]) == int(mujoco.mjtJoint.mjJNT_SLIDE)
    way = path[-1][:3] - now[:3]
    if slides:
        ahead = way / max(float(np.linalg.norm(way)), 1e-9)
        points = points[points @ ahead > float((points @ ahead).max()) - _LEADING]
    rotations = orientations(_TILTS, _AZIMUTHS, _ROLLS)
    center = points.mean(axis=0)

    def merit(hand: HandPose) -> float:
        reach = hand.position - anchor
        motion = axis if slides else np.cross(axis, reach)
        size = float(np.linalg.norm(motion))
        across = abs(float(hand.rotation[:, 1] @ motion)) / max(size, 1e-9) if size > 0.02 else 1.0
        tilt = math.acos(max(-1.0, min(1.0, -float(hand.rotation[2, 2]))))
        lever = 0.0 if slides else 2 * min(size, 0.3)
        return hand.score + across + lever + 0.35 * tilt

    hands = sorted(find_grasps(points, center, rotations, most=3000), key=lambda hand: -merit(hand))
    kept: list[Handle] = []
    tools = Distinct(*_SIMILAR)
    geoms = scene.geoms(body)
    for hand in hands:
        tool = scene.tool_of(hand)
        if not tools.add(tool):
            continue
        back = -0.1 * scene.forward(tool)
        before = tool.copy()
        before[:3] += back
        scene.arm.begin()
        if not (scene.arm.free(tool) and scene.arm.free(before)):
            continue
        offset = poses.relative(now, tool)
        if not _follows(scene, path, offset, geoms):
            continue
        kept.append(Handle(offset, False, poses.rotate(poses.quaternion_inverse(now[3:]), back)))
        if len(kept) == _MOST or len(tools) == _MOST_TESTED:
            break
    return kept


def _pushes(
    scene: LiberoScene, body: int, path: list[Pose], where: tuple[float, int, tuple[float, ...]]
) -> list[Handle]:
    """Return contacts at which closed fingers push a part along its path, among points of its surface."""
    spacing, most, shares = where
    surface, now = scene.surface(body), scene.pose(body)
    first = poses.compose(path[0], poses.inverse(now))
    moved = np.array([poses.compose(first, poses.pose(point))[:3] for point in surface.points])
    way = moved - surface.points
    size = np.linalg.norm(way, axis=1)
    along = -np.einsum("ij,ij->i", way, surface.normals) / np.maximum(size, 1e-9)
    # Far from the axis of a hinge little force is needed.
    merit = along + 2 * np.minimum(size / max(float(size.max()), 1e-9), 1.0)
    spread = np.linalg.norm(surface.points - surface.points.mean(axis=0), axis=1)
    merit -= 0.5 * spread
    order = [i for i in np.argsort(-merit, kind="stable") if along[i] > 0.7 and size[i] > 0.3 * size.max()]
    kept: list[Handle] = []
    spots: list[np.ndarray] = []
    geoms = scene.geoms(body)
    for i in order:
        point, normal = surface.points[i], surface.normals[i]
        if any(float(np.linalg.norm(point - spot)) < spacing for spot in spots):
            continue
        spots.append(point)
        for rotation in _pushing(normal, shares):
            # The fingertips are in front of the tool; a little sideways offset keeps them off the surface.
            tip = point + 0.012 * normal - 0.005 * rotation[:, 2] * float(abs(rotation[:, 2] @ normal) < 0.5)
            tool = scene.tool_of(HandPose(tip, rotation, 0.0, 0.0))
            before = tool.copy()
            before[:3] += _PUSH_BACK * normal
            scene.arm.begin()
            if not (scene.arm.free(before, 0.0) and scene.arm.free(tool, 0.0, None, geoms)):
                continue
            offset = poses.relative(now, tool)
            if not _follows(scene, path, offset, geoms):
                continue
            back = poses.rotate(poses.quaternion_inverse(now[3:]), _PUSH_BACK * normal)
            kept.append(Handle(offset, True, back))
            break
        if len(kept) == _MOST or len(spots) == most:
            break
    return kept


def _pushing(normal: np.ndarray, shares: Sequence[float]) -> list[np.ndarray]:
    """Return orientations of the hand for a push against a normal, level to some shares."""
    found: list[np.ndarray] = []
    up = np.array([0.0, 0.0, 1.0])
    level = np.cross(up, normal)
    level = level / np.linalg.norm(level) if np.linalg.norm(level) > 0.1 else np.array([0.0, 1.0, 0.0])
    for share in shares:
        forward = -share * normal - (1 - share) * up
        forward /= np.linalg.norm(forward)
        third = np.cross(level, forward)
        found += [
            np.stack([np.cross(level, forward), level, forward], axis=1),
            np.stack([np.cross(third, forward), third, forward], axis=1),
            np.stack([np.cross(-level, forward), -level, forward], axis=1),
        ]
    return found


def _follows(scene: LiberoScene, path: list[Pose], offset: Pose, geoms: tuple[int, ...]) -> bool:
    """Return whether the arm reaches the tool poses of a path without hitting anything but the part."""
    middle = path[len(path) // 2]
    return all(scene.arm.free(poses.compose(pose, offset), 0.3, None, geoms) for pose in (middle, path[-1]))
