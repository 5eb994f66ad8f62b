"""The base frame and the tool frame of a robot, in which poses outside the adapter are given.

The tool frame is the Panda's: the fingers point along +z and close along +y. The base frame is that of a
Panda at a table, with the origin on the table top. A robot with other frames states the offsets (`fetch.py`).
"""

from __future__ import annotations

from typing import Any

import sapien


def base_in_root(agent: Any) -> sapien.Pose | None:
    """Return the base frame relative to the root of the robot's articulation; None if they are equal."""
    return getattr(agent, "base_in_root", None)


def tool_in_link(agent: Any) -> sapien.Pose | None:
    """Return the tool frame relative to the tool link; None if they are equal."""
    return getattr(agent, "tool_in_link", None)


def base_pose(agent: Any) -> sapien.Pose:
    """Return the base frame, world frame."""
    root, offset = agent.robot._objs[0].pose, base_in_root(agent)
    return root if offset is None else root * offset


def tool_pose(agent: Any) -> sapien.Pose:
    """Return the tool pose, world frame."""
    link, offset = agent.tcp._objs[0].entity_pose, tool_in_link(agent)
    return link if offset is None else link * offset
