"""The robots of samples and demonstrations: one model or policy is trained for one robot."""

from __future__ import annotations

from collections.abc import Mapping

from failsafe.errors import UserError
from failsafe.records.embodiment import EmbodimentSpec


def common_robot(robots: Mapping[str, EmbodimentSpec]) -> EmbodimentSpec:
    """Return the robot of all tasks.

    Args:
        robots: The robot of each task, by its name; at least one.

    Raises:
        UserError: If there are robots with different control rates or step limits. A time step would not be
            the same time, or an action not the same motion.
    """
    first, robot = next(iter(robots.items()))
    for task, other in robots.items():
        if _limits(other) != _limits(robot):
            raise UserError(
                "expected tasks whose robots have one control rate and equal step limits, got "
                f"{_limits(robot)} for {first} and {_limits(other)} for {task}: train a model for each robot"
            )
    return robot


def _limits(robot: EmbodimentSpec) -> str:
    metres, radians = robot.step_limits
    return f"{robot.control_hz:g} Hz, {metres:g} m and {radians:g} rad a step"
