"""A Fetch that stands at the table as a Panda would: the other arm whose meshes come with ManiSkill.

ManiSkill's own Fetch drives up to what it is to do. This one stands still, its torso up, so near that its
arm reaches what a Panda would reach from behind the table; the table is moved away from it to make room.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sapien
import torch
from mani_skill.agents.controllers import PDJointPosControllerConfig, deepcopy_dict
from mani_skill.agents.registration import register_agent
from mani_skill.agents.robots.fetch.fetch import FETCH_WHEELS_COLLISION_BIT, Fetch
from mani_skill.utils.scene_builder.table import TableSceneBuilder

_ROOT = -0.55
"""Where it stands on ManiSkill's x axis, metres. A Panda stands at -0.615."""
_TABLE = 0.36
"""Where the middle of the table is: its edge is 30 cm ahead of the robot's axis, as its base is round."""
_TABLE_HEIGHT = 0.9196429
_STIFF = 1e5
_HOME = (0.0, 0.0, 0.0, 0.386, 0.0, 0.0, 0.0, -1.2824, 0.0, 1.648, 0.0, 1.2051, -np.pi, 0.04, 0.04)
"""Joint positions (m, rad) in which the tool points down, 15 cm above the middle of where objects lie."""
_ARM = [5, *range(7, 13)]
_OPEN = 0.04
"""Metres that a finger opens: as far as a Panda's, of the 5 cm that it could."""


@register_agent()
class StandingFetch(Fetch):
    """A Fetch whose base, torso and head stay where they are."""

    uid = "fetch_standing"
    base_in_root = sapien.Pose([-0.615 - _ROOT, 0.0, _TABLE_HEIGHT])
    """Where a Panda's base would be."""
    tool_in_link = sapien.Pose([0.02, 0.0, 0.0], [np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0])
    """Its gripper points along +x; the tips of the fingers are 1 cm beyond the tool, as a Panda's are."""

    @property
    def _controller_configs(self) -> dict[str, Any]:
        """Joint positions, as ManiSkill's, for joints that hold still against what the arm does to them."""
        modes: dict[str, Any] = super()._controller_configs
        mode = deepcopy_dict(modes["pd_joint_pos"])
        stiff: dict[str, Any] = {"stiffness": _STIFF, "damping": _STIFF, "force_limit": _STIFF}
        for part, names in (("body", self.body_joint_names), ("base", self.base_joint_names)):
            mode[part] = PDJointPosControllerConfig(names, None, None, **stiff, normalize_action=False)
        mode["gripper"].lower, mode["gripper"].upper = 0.0, _OPEN
        return {"pd_joint_pos": mode}

    def is_static(self, threshold: float = 0.2, base_threshold: float = 0.05) -> torch.Tensor:
        """Whether the arm stands still, judged as a Panda's: ManiSkill's Fetch lets it go backwards."""
        robot: Any = self.robot
        speeds: torch.Tensor = robot.get_qvel()[..., :-2]
        return speeds.abs().amax(1) <= threshold


class FetchTable(TableSceneBuilder):
    """ManiSkill's table with a `StandingFetch` at it."""

    def initialize(self, env_idx: torch.Tensor) -> None:
        """Put table and robot where they belong, the arm a little off, as ManiSkill does with a Panda."""
        super().initialize(env_idx)
        env: Any = self.env
        table: Any = self.table
        pose = table.pose.sp
        table.set_pose(sapien.Pose([_TABLE, 0.0, pose.p[2]], pose.q))
        joints = np.tile(_HOME, (len(env_idx), 1))
        noise = env._episode_rng.normal(0, self.robot_init_qpos_noise, (len(env_idx), len(_ARM)))
        joints[:, _ARM] += noise
        env.agent.reset(joints)
        env.agent.robot.set_pose(sapien.Pose([_ROOT, 0.0, -_TABLE_HEIGHT]))
        self.ground.set_collision_group_bit(group=2, bit_idx=FETCH_WHEELS_COLLISION_BIT, bit=1)
