"""The robots that the adapter can drive: one arm with a tool, with or without a two-finger gripper."""

from __future__ import annotations

from typing import Any

from failsafe.errors import UserError

CONTROL_MODE = "pd_joint_pos"
"""ManiSkill's control mode in which actions are joint targets."""
SUPPORTED = (
    f"one arm with a tool link (agent.tcp), control mode {CONTROL_MODE}, and a two-finger gripper or none, "
    "such as panda, panda_wristcam or panda_stick"
)


def check_robot(task: str, agent: Any) -> None:
    """Check that the adapter can drive the robot of a task.

    Args:
        task: Name of the environment, for the message.
        agent: ManiSkill's agent; None for a task without a robot.

    Raises:
        UserError: If it cannot. The message says what is supported.
    """
    problem = _problem(agent)
    if problem:
        raise unsupported_robot(task, problem)


def unsupported_robot(task: str, problem: str) -> UserError:
    """Return the error for a robot that the adapter cannot drive.

    Args:
        task: Name of the environment.
        problem: What the task has instead of a supported robot.
    """
    return UserError(
        f"task '{task}' has {problem}: FailSafe's ManiSkill adapter supports {SUPPORTED}; choose another "
        "task or robot_uids"
    )


def _problem(agent: Any) -> str:
    """Return what is not supported about a robot, to follow "task X has"; empty if everything is."""
    from mani_skill.agents.controllers.pd_joint_pos import PDJointPosController

    if agent is None:
        return "no robot"
    if hasattr(agent, "agents"):
        return f"{len(agent.agents)} robots ({', '.join(a.uid for a in agent.agents)})"
    robot = f"the robot '{agent.uid}', which has"
    if not hasattr(agent, "tcp"):
        return f"{robot} no tool link"
    parts: dict[str, Any] = getattr(agent.controller, "controllers", {"arm": agent.controller})
    if "arm" not in parts:
        return f"{robot} no controller named 'arm', only {', '.join(parts)}"
    if "gripper" in parts and len(parts["gripper"].joints) != 2:
        return f"{robot} a gripper with {len(parts['gripper'].joints)} joints"
    for name in ("arm", "gripper"):
        controller = parts.get(name)
        if controller is None:
            continue
        if not isinstance(controller, PDJointPosController):
            return f"{robot} a controller of another kind for its {name} ({type(controller).__name__})"
        for setting in ("use_delta", "interpolate"):
            if getattr(controller.config, setting):
                return f"{robot} a {CONTROL_MODE} controller with {setting}=True for its {name}"
    return ""
