"""Limits of the tool poses that a policy or a user's action commands."""

from __future__ import annotations

from failsafe.records import poses
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.plan import OPEN
from failsafe.records.poses import Pose
from failsafe.rollouts.hooks import Command
from failsafe.rollouts.loop import ControlLoop

TRACKING_LIMIT_METRES, TRACKING_LIMIT_RADIANS = 0.1, 0.5
"""Largest tracking error, but at least a control step's limits. Without it, a blocked tool would press ever
harder towards a distant target."""


class PoseController:
    """Commands tool poses on a control loop, within the limits of the robot.

    Args:
        loop: The control loop, at the beginning of the rollout.

    Attributes:
        target: Tool pose asked for last, within the limits. [7]
        gripper: Gripper command asked for last, -1 (closed) to +1 (open).
        limited_steps: Control steps so far in which more was asked for than the robot's step limits.
    """

    def __init__(self, loop: ControlLoop) -> None:
        self._loop = loop
        self._embodiment = loop.simulator.spec.embodiment
        self.target: Pose = loop.observation.tcp_pose.copy()
        self.gripper = OPEN
        self.limited_steps = 0
        self._sent = self.target
        """Tool pose commanded last, after hooks, which may differ from `target`."""

    def move(self, wanted: Pose, gripper: float) -> None:
        """Carry out one control step towards a tool pose.

        Args:
            wanted: Tool pose, robot base frame. [7]
            gripper: Gripper command, -1 (closed) to +1 (open).

        Raises:
            DivergedError: If the physics diverges.
        """
        measured = self._loop.observation.tcp_pose
        if not is_one_step(wanted, self.target, measured, self._embodiment):
            self.limited_steps += 1
        self.target, self.gripper = clip_target(wanted, self.target, measured, self._embodiment), gripper
        self._sent = self._loop.step(Command(self.target, gripper), (self._sent, measured)).target


def clip_target(wanted: Pose, before: Pose, measured: Pose, embodiment: EmbodimentSpec) -> Pose:
    """Limit a tool pose to one step from the pose before or the measured one, and to the tracking error.

    Args:
        wanted: Tool pose that an action asks for, robot base frame. [7]
        before: Tool pose asked for last. [7]
        measured: Measured tool pose. [7]
        embodiment: The robot whose limits apply.
    """
    if not is_one_step(wanted, before, measured, embodiment):
        wanted = poses.limit_step(before, wanted, *embodiment.step_limits)
    metres, radians = embodiment.step_limits
    return poses.limit_step(
        measured, wanted, max(TRACKING_LIMIT_METRES, metres), max(TRACKING_LIMIT_RADIANS, radians)
    )


def is_one_step(wanted: Pose, before: Pose, measured: Pose, embodiment: EmbodimentSpec) -> bool:
    """Return whether a tool pose is within the step limits of the pose before or of the measured one.

    Args:
        wanted: Tool pose that an action asks for, robot base frame. [7]
        before: Tool pose asked for last. [7]
        measured: Measured tool pose. [7]
        embodiment: The robot whose limits apply.
    """
    # A correction starts from the measured pose, which may lag a step behind the commanded one.
    return any(_within(start, wanted, *embodiment.step_limits) for start in (before, measured))


def _within(start: Pose, end: Pose, metres: float, radians: float) -> bool:
    distance, angle = poses.distance(start, end)
    return distance <= metres + 1e-9 and angle <= radians + 1e-9
