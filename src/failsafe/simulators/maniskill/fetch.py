"""A Fetch with a static base at the table, in the place of a Panda.

ManiSkill's own Fetch drives to its task. This one stands still with a raised torso, close enough to reach
what a Panda behind the table reaches. The table is moved away from the robot to make room for its base.
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
"""Position of the robot on ManiSkill's x axis, metres. A Panda stands at -0.615."""
_TABLE = 0.36
"""Position of the middle of the table, metres: the edge is 30 cm ahead of the robot's axis."""
_TABLE_HEIGHT = 0.9196429
_STIFF = 1e5
_HOME = (0.0, 0.0, 0.0, 0.386, 0.0, 0.0, 0.0, -1.2824, 0.0, 1.648, 0.0, 1.2051, -np.pi, 0.04, 0.04)
"""Initial joint positions (m, rad): the tool points down, 15 cm above the middle of the object area."""
_ARM = [5, *range(7, 13)]
_OPEN = 0.04
"""Opening of each finger, metres: a Panda's, although the hardware allows 5 cm."""


@register_agent()
class StandingFetch(Fetch):
    """A Fetch with a static base, torso and head."""

    uid = "fetch_standing"
    base_in_root = sapien.Pose([-0.615 - _ROOT, 0.0, _TABLE_HEIGHT])
    """Base frame of a Panda at the same table."""
    tool_in_link = sapien.Pose([0.02, 0.0, 0.0], [np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0])
    """The gripper points along +x. The fingertips are 1 cm beyond the tool, as a Panda's are."""

    @property
    def _controller_configs(self) -> dict[str, Any]:
        """Joint position control as in ManiSkill, with stiff joints in base and body."""
        modes: dict[str, Any] = super()._controller_configs
        mode = deepcopy_dict(modes["pd_joint_pos"])
        stiff: dict[str, Any] = {"stiffness": _STIFF, "damping": _STIFF, "force_limit": _STIFF}
        for part, names in (("body", self.body_joint_names), ("base", self.base_joint_names)):
            mode[part] = PDJointPosControllerConfig(names, None, None, **stiff, normalize_action=False)
        mode["gripper"].lower, mode["gripper"].upper = 0.0, _OPEN
        return {"pd_joint_pos": mode}

    def is_static(self, threshold: float = 0.2, base_threshold: float = 0.05) -> torch.Tensor:
        """Return whether the arm is static, by a Panda's criterion: ManiSkill's ignores negative speeds.

        Args:
            threshold: Largest joint speed of a static arm, rad/s.
            base_threshold: As in ManiSkill's signature; not used.
        """
        robot: Any = self.robot
        speeds: torch.Tensor = robot.get_qvel()[..., :-2]
        return speeds.abs().amax(1) <= threshold


class FetchTable(TableSceneBuilder):
    """ManiSkill's table with a `StandingFetch` at it."""

    def initialize(self, env_idx: torch.Tensor) -> None:
        """Place table and robot, with ManiSkill's noise on the initial joint positions."""
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
