"""Limits of the tool poses that a policy or a user's action commands."""

from __future__ import annotations

from failsafe.records import poses
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.poses import Pose

TRACKING_LIMIT_METRES, TRACKING_LIMIT_RADIANS = 0.1, 0.5
"""Largest tracking error. Without it, a blocked tool would press ever harder towards a distant target."""


def clip_target(wanted: Pose, before: Pose, measured: Pose, embodiment: EmbodimentSpec) -> Pose:
    """Limit a tool pose to one step from the pose before or the measured one, and to the tracking error.

    Args:
        wanted: Tool pose that an action asks for, robot base frame. [7]
        before: Tool pose asked for last. [7]
        measured: Measured tool pose. [7]
        embodiment: The robot whose limits apply.
    """
    limits = embodiment.step_limits
    # A correction starts from the measured pose, which may lag a step behind the commanded one.
    if not any(_within(start, wanted, *limits) for start in (before, measured)):
        wanted = poses.limit_step(before, wanted, *limits)
    return poses.limit_step(measured, wanted, TRACKING_LIMIT_METRES, TRACKING_LIMIT_RADIANS)


def _within(start: Pose, end: Pose, metres: float, radians: float) -> bool:
    distance, angle = poses.distance(start, end)
    return distance <= metres + 1e-9 and angle <= radians + 1e-9
