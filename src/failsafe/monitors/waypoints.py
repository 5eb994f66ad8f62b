"""From the actions of an assessment to tool poses, one per control step, within the robot's limits.

An arm that arrives at each target within a control step gets one waypoint per action. One that lags behind
gets as many as its tool can follow, and the last one again until it has arrived: a correction says where the
tool is to be, not what it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from failsafe.errors import PolicyError
from failsafe.policies.contract import Frame
from failsafe.records import poses
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.plan import OPEN
from failsafe.records.poses import Pose

CATCH_UP_SECONDS = 1.2
"""Longest time added to a correction because the tool moved on while the model computed."""
OUTSIDE_STEPS = 2
"""A tool farther outside the workspace than this many control steps is not where it claims to be: its pose is
then probably not in the robot's base frame."""
RELEASE_SECONDS, RISE = 0.3, 0.08
"""Before a new beginning: time in which the gripper opens, and metres by which the tool then rises."""
NEGLIGIBLE_SECONDS = 0.1
NEGLIGIBLE_TRANSLATION, NEGLIGIBLE_ROTATION = 0.4, 0.8
"""A correction no longer than this, that moves the tool by less than these fractions of one control step's
limits, has nothing to correct."""


@dataclass(frozen=True)
class Waypoint:
    """Target of one control step.

    Attributes:
        pose: Tool pose, robot base frame. [7]
        gripper: Gripper command, from -1 (closed) to +1 (open).
    """

    pose: Pose
    gripper: float


def plan_waypoints(
    actions: Sequence[Sequence[float]],
    frame: str,
    queried_at: Pose,
    tcp_pose: Pose,
    embodiment: EmbodimentSpec,
    settle: bool = True,
) -> tuple[Waypoint, ...]:
    """Return the waypoints that execute the actions of an assessment.

    Args:
        actions: Rows `[dx, dy, dz, rx, ry, rz, gripper]`, metres, rotation vector in radians. [K, 7]
        frame: Frame of the rows: a value of `Frame`.
        queried_at: Tool pose at the end of the window that the model assessed, robot base frame. [7]
        tcp_pose: Tool pose now, robot base frame. [7]
        embodiment: The robot, with its step limits and workspace.
        settle: Whether an arm that lags behind gets the last waypoint again until it has arrived.

    Raises:
        PolicyError: If the frame is unknown, or the tool is far outside the workspace.
    """
    if frame not in [known.value for known in Frame]:
        raise PolicyError(f"the model's frame is unknown: '{frame}'")
    outside = poses.distance(tcp_pose, embodiment.clip_to_workspace(tcp_pose))[0]
    if outside > OUTSIDE_STEPS * embodiment.max_translation:
        at = ", ".join(f"{x:.2f}" for x in tcp_pose[:3])
        raise PolicyError(f"the tool is outside the workspace, at {at}: is this the robot's base frame?")
    planned = at_pace(waypoints(actions, Frame(frame), queried_at, embodiment), queried_at, embodiment)
    planned = catch_up(planned, tcp_pose, embodiment)
    settling = embodiment.steps(embodiment.settle_seconds) if settle and embodiment.settle_seconds else 0
    return planned + planned[-1:] * settling


def begin_anew(tcp_pose: Pose, start: Pose, embodiment: EmbodimentSpec) -> list[tuple[float, ...]]:
    """Return the actions after which a policy can begin anew: open the gripper, rise, return to the start.

    Args:
        tcp_pose: Tool pose now, robot base frame. [7]
        start: Tool pose at the beginning of the episode, robot base frame. [7]
        embodiment: The robot, with its control rate and step limits.

    Returns:
        Rows `[dx, dy, dz, rx, ry, rz, gripper]` in the robot base frame, metres, rotation vector in radians.
    """
    rows = [(*np.zeros(6).tolist(), OPEN)] * embodiment.steps(RELEASE_SECONDS)
    lifted = tcp_pose.copy()
    lifted[2] += RISE
    at = tcp_pose
    for target in (lifted, start):
        steps = max(1, poses.steps_between(at, target, *embodiment.step_limits))
        for pose in poses.interpolate(at, target, steps):
            rows.append((*poses.delta_between(at, pose).tolist(), OPEN))
            at = pose
    return rows


def at_pace(planned: Sequence[Waypoint], start: Pose, embodiment: EmbodimentSpec) -> tuple[Waypoint, ...]:
    """Return the waypoints with others between them, no farther apart than the tool can follow.

    Args:
        planned: Waypoints within the step limits.
        start: Tool pose before the first of them. [7]
        embodiment: The robot, with its pace; without one the waypoints stay as they are.
    """
    if embodiment.pace is None:
        return tuple(planned)
    found: list[Waypoint] = []
    for waypoint in planned:
        steps = max(1, poses.steps_between(start, waypoint.pose, *embodiment.pace))
        found += [Waypoint(pose, waypoint.gripper) for pose in poses.interpolate(start, waypoint.pose, steps)]
        start = waypoint.pose
    return tuple(found)


def waypoints(
    actions: Sequence[Sequence[float]], frame: Frame, start: Pose, embodiment: EmbodimentSpec
) -> tuple[Waypoint, ...]:
    """Return one waypoint per action, each within one control step's limits of the last, in the workspace.

    Args:
        actions: Rows `[dx, dy, dz, rx, ry, rz, gripper]`, metres, rotation vector in radians. [K, 7]
        frame: Frame of the rows.
        start: Tool pose from which the first action counts, robot base frame. [7]
        embodiment: The robot, with its step limits and workspace.
    """
    found: list[Waypoint] = []
    at = start
    for row in actions:
        delta = np.array(row[:6])
        if frame is Frame.TOOL:
            delta = np.concatenate([poses.rotate(at[3:], delta[:3]), poses.rotate(at[3:], delta[3:])])
        target = poses.limit_step(at, poses.apply_delta(at, delta), *embodiment.step_limits)
        # A tool that starts outside the workspace returns to it within the step limits.
        at = poses.limit_step(at, embodiment.clip_to_workspace(target), *embodiment.step_limits)
        found.append(Waypoint(at, float(np.clip(row[6], -1, 1))))
    return tuple(found)


def catch_up(planned: Sequence[Waypoint], tcp_pose: Pose, embodiment: EmbodimentSpec) -> tuple[Waypoint, ...]:
    """Return the waypoints of a tool that moved on while the model computed, ending at the planned end.

    Args:
        planned: Waypoints from the pose at which the model was queried.
        tcp_pose: Tool pose now, robot base frame. [7]
        embodiment: The robot, with its step limits.
    """
    found: list[Waypoint] = []
    at = tcp_pose
    for waypoint in planned:
        at = poses.limit_step(at, waypoint.pose, *embodiment.step_limits)
        found.append(Waypoint(at, waypoint.gripper))
    for _ in range(embodiment.steps(CATCH_UP_SECONDS)):
        if not planned or np.array_equal(at, planned[-1].pose):
            break
        at = poses.limit_step(at, planned[-1].pose, *embodiment.step_limits)
        found.append(Waypoint(at, planned[-1].gripper))
    return tuple(found)


def is_negligible(actions: Sequence[Sequence[float]], embodiment: EmbodimentSpec) -> bool:
    """Return whether a correction is so short and small that it has nothing to correct.

    Args:
        actions: Rows `[dx, dy, dz, rx, ry, rz, gripper]`, metres, rotation vector in radians. [K, 7]
        embodiment: The robot, with its control rate and step limits.
    """
    if not 0 < len(actions) <= embodiment.steps(NEGLIGIBLE_SECONDS):
        return False
    total = np.array([row[:6] for row in actions]).sum(0)
    metres, radians = float(np.linalg.norm(total[:3])), float(np.linalg.norm(total[3:]))
    pace = embodiment.pace or embodiment.step_limits
    return _is_below(metres, NEGLIGIBLE_TRANSLATION * pace[0]) and _is_below(
        radians, NEGLIGIBLE_ROTATION * pace[1]
    )


def _is_below(value: float, limit: float) -> bool:
    """Return whether a value is below a limit by more than a rounding error."""
    return value < limit and not math.isclose(value, limit)
