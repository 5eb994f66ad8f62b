"""Where base and tool of a robot are: the frames that every pose outside the adapter is stated in.

The tool's frame is a Panda's: +z is where the fingers point, +y where they close. The base frame is a Panda's
place at a table: on its top. A robot that has other frames says how they lie to these (`fetch.py`).
"""

from __future__ import annotations

from typing import Any

import sapien


def base_in_root(agent: Any) -> sapien.Pose | None:
    """The base frame as seen from the root of the robot's articulation; None where they are the same."""
    return getattr(agent, "base_in_root", None)


def tool_in_link(agent: Any) -> sapien.Pose | None:
    """The tool's frame as seen from the link that is the tool; None where they are the same."""
    return getattr(agent, "tool_in_link", None)


def base_pose(agent: Any) -> sapien.Pose:
    """The base frame in the world."""
    root, offset = agent.robot._objs[0].pose, base_in_root(agent)
    return root if offset is None else root * offset


def tool_pose(agent: Any) -> sapien.Pose:
    """The tool in the world."""
    link, offset = agent.tcp._objs[0].entity_pose, tool_in_link(agent)
    return link if offset is None else link * offset
