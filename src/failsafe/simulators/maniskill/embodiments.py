"""The embodiments of ManiSkill's robots: what the controller states, and what ManiSkill does not."""

from __future__ import annotations

from typing import Any

from failsafe.records.embodiment import EmbodimentSpec
from failsafe.simulators.maniskill.arm import Arm

TOOL_SPEED, TOOL_TURN_RATE = 0.5, 2.5
"""Fastest commanded tool motion, m/s and rad/s: a third of a Panda's translation limit, its wrist's limit."""
GRIPPER_SECONDS = 0.2
"""Time in which the fingers close, seconds. Measured on the Panda: 80 mm to 2 mm in 0.15 s, 0 mm in 0.2 s."""
WORKSPACE_LOW, WORKSPACE_HIGH = (0.15, -0.6, 0.005), (0.95, 0.6, 0.7)
"""Box over ManiSkill's table that an arm behind it reaches, robot base frame, metres."""


def embodiment_of(agent: Any, arm: Arm) -> EmbodimentSpec:
    """Return the embodiment of a ManiSkill agent.

    Args:
        agent: ManiSkill's agent.
        arm: The same robot, as the adapter drives it.
    """
    control_hz = float(agent._control_freq)
    return EmbodimentSpec(
        robot=agent.uid,
        control_hz=control_hz,
        max_translation=TOOL_SPEED / control_hz,
        max_rotation=TOOL_TURN_RATE / control_hz,
        gripper_travel=arm.gripper_travel,
        gripper_seconds=GRIPPER_SECONDS if arm.has_gripper else 0.0,
        workspace_low=WORKSPACE_LOW,
        workspace_high=WORKSPACE_HIGH,
        action_dimensions=(*(True,) * 6, arm.has_gripper),
    )
