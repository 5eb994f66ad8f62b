"""From a verdict's actions to where the tool is led, control step by control step, within what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from failsafe.models.contract import MAX_ROTATION, MAX_TRANSLATION
from failsafe.policies.contract import Frame
from failsafe.records import poses
from failsafe.records.poses import Pose

_CATCH_UP = 24
"""The most control steps more for a tool that has moved on while the model was thinking."""


@dataclass(frozen=True)
class Workspace:
    """The box that the tool is kept in while the monitor acts, robot base frame, metres."""

    low: tuple[float, float, float] = (0.15, -0.6, 0.005)
    high: tuple[float, float, float] = (0.95, 0.6, 0.7)

    def clip(self, pose: Pose) -> Pose:
        """The pose, drawn into the box."""
        inside = pose.copy()
        inside[:3] = np.clip(pose[:3], self.low, self.high)
        return inside

    def is_far(self, pose: Pose) -> bool:
        """Whether a tool is so far outside the box that its pose cannot be in the robot's base frame."""
        return poses.distance(pose, self.clip(pose))[0] > 2 * MAX_TRANSLATION


@dataclass(frozen=True)
class Waypoint:
    """Where the tool is to be led in one control step: pose in the robot's base frame, gripper -1 to +1."""

    pose: Pose
    gripper: float


def waypoints(
    rows: Sequence[Sequence[float]], frame: Frame, at: Pose, workspace: Workspace
) -> tuple[Waypoint, ...]:
    """Actions as poses to go to, each within the limits of a control step and of the workspace.

    Args:
        rows: The actions `[dx, dy, dz, rx, ry, rz, gripper]`, metres and radians.
        frame: The frame that they are in.
        at: Where the tool was when the model looked, robot base frame.
        workspace: The box that it is kept in.
    """
    way: list[Waypoint] = []
    for row in rows:
        step = np.array(row[:6])
        if frame is Frame.TOOL:
            step = np.concatenate([poses.rotate(at[3:], step[:3]), poses.rotate(at[3:], step[3:])])
        wanted = poses.limit_step(at, poses.apply_delta(at, step), MAX_TRANSLATION, MAX_ROTATION)
        # A tool that is outside the box is led to it step by step, too.
        at = poses.limit_step(at, workspace.clip(wanted), MAX_TRANSLATION, MAX_ROTATION)
        way.append(Waypoint(at, float(np.clip(row[6], -1, 1))))
    return tuple(way)


def catch_up(way: Sequence[Waypoint], at: Pose) -> tuple[Waypoint, ...]:
    """The same way for a tool that has moved on while the model was thinking, and is somewhere else now."""
    led: list[Waypoint] = []
    for waypoint in way:
        at = poses.limit_step(at, waypoint.pose, MAX_TRANSLATION, MAX_ROTATION)
        led.append(Waypoint(at, waypoint.gripper))
    for _ in range(_CATCH_UP):
        if not way or np.array_equal(at, way[-1].pose):
            break
        at = poses.limit_step(at, way[-1].pose, MAX_TRANSLATION, MAX_ROTATION)
        led.append(Waypoint(at, way[-1].gripper))
    return tuple(led)
