"""The embodiments of ManiSkill's robots."""

from __future__ import annotations

from typing import Any

from failsafe.records.embodiment import EmbodimentSpec
from failsafe.simulators.maniskill.arm import Arm

TOOL_SPEED, TOOL_TURN_RATE = 0.5, 2.5
"""Largest commanded speed of the tool, m/s and rad/s: a third of a Panda's limit, its wrist's limit."""
GRIPPER_SECONDS = 0.2
"""Time in which the fingers close, seconds. A Panda closes from 80 mm to 2 mm in 0.15 s, to 0 in 0.2 s."""
WORKSPACE_LOW, WORKSPACE_HIGH = (0.15, -0.6, 0.005), (0.95, 0.6, 0.7)
"""Box above ManiSkill's table within reach of an arm behind it, robot base frame, metres."""
WORK_CENTER = (0.6, 0.0, 0.15)
"""Center of the region of that box where tabletop tasks take place, robot base frame, metres."""


def embodiment_of(agent: Any, arm: Arm) -> EmbodimentSpec:
    """Return the embodiment of a ManiSkill agent.

    Args:
        agent: ManiSkill's agent.
        arm: The same robot, as the adapter drives it.
    """
    control_hz = float(agent._control_freq)
    return EmbodimentSpec(
        robot=agent.uid.removesuffix("_wristcam"),  # the same arm, with a camera
        control_hz=control_hz,
        max_translation=TOOL_SPEED / control_hz,
        max_rotation=TOOL_TURN_RATE / control_hz,
        gripper_travel=arm.gripper_travel,
        gripper_seconds=GRIPPER_SECONDS if arm.has_gripper else 0.0,
        workspace_low=WORKSPACE_LOW,
        workspace_high=WORKSPACE_HIGH,
        work_center=WORK_CENTER,
        action_dimensions=(*(True,) * 6, arm.has_gripper),
    )
