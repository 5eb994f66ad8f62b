"""Tasks with other objects or physics than ManiSkill's own, to see how far policy and monitor generalise.

Each is PickCube with another thing to pick, under a name of its own; importing this module registers them.
The words of the task stay, so that a policy that knows PickCube can be asked.
"""

from __future__ import annotations

from typing import Any

import sapien
from mani_skill.envs.tasks.tabletop.pick_cube import PickCubeEnv
from mani_skill.utils.building import actors
from mani_skill.utils.registration import register_env
from mani_skill.utils.scene_builder.table import TableSceneBuilder
from sapien import physx

ORIGINAL = {
    name: "PickCube-v1"
    for name in (
        "PickSmallCube-v1",
        "PickLargeCube-v1",
        "PickBlueCube-v1",
        "PickSphere-v1",
        "PickHeavyCube-v1",
        "PickSlipperyCube-v1",
    )
}
"""The task that each of them is a variant of."""


class _PickVariant(PickCubeEnv):
    """What the variants have in common."""

    half_size = 0.02
    colour = (1.0, 0.0, 0.0, 1.0)
    round = False
    heavier = 1.0
    friction: float | None = None

    def _load_scene(self, options: dict[str, Any]) -> None:
        """The table, the thing to pick, and the goal."""
        self.cube_half_size = self.half_size
        self.table_scene = TableSceneBuilder(self, robot_init_qpos_noise=self.robot_init_qpos_noise)
        self.table_scene.build()
        resting = sapien.Pose(p=[0, 0, self.half_size])
        common: dict[str, Any] = {"color": list(self.colour), "name": "cube", "initial_pose": resting}
        if self.round:
            self.cube = actors.build_sphere(self.scene, radius=self.half_size, **common)
        else:
            self.cube = actors.build_cube(self.scene, half_size=self.half_size, **common)
        cube: Any = self.cube
        body = cube._objs[0].find_component_by_type(physx.PhysxRigidDynamicComponent)
        body.mass *= self.heavier
        body.inertia = body.inertia * self.heavier
        if self.friction is not None:
            material = physx.PhysxMaterial(self.friction, self.friction, 0.0)
            robot: Any = self.agent.robot
            links = [link._objs[0] for link in robot.links if "finger" in link.name]
            # PhysX averages the two bodies' coefficients, so that both must have it.
            for shape in (s for part in (body, *links) for s in part.collision_shapes):
                shape.physical_material = material
        goal_size: Any = self.goal_thresh
        self.goal_site = actors.build_sphere(
            self.scene,
            radius=goal_size,
            color=[0, 1, 0, 1],
            name="goal_site",
            body_type="kinematic",
            add_collision=False,
            initial_pose=sapien.Pose(),
        )
        self._hidden_objects.append(self.goal_site)


@register_env("PickSmallCube-v1", max_episode_steps=50)
class PickSmallCube(_PickVariant):
    """A cube of 3 cm."""

    half_size = 0.015


@register_env("PickLargeCube-v1", max_episode_steps=50)
class PickLargeCube(_PickVariant):
    """A cube of 5 cm."""

    half_size = 0.025


@register_env("PickBlueCube-v1", max_episode_steps=50)
class PickBlueCube(_PickVariant):
    """A blue cube."""

    colour = (0.1, 0.2, 0.9, 1.0)


@register_env("PickSphere-v1", max_episode_steps=50)
class PickSphere(_PickVariant):
    """A sphere of 4 cm."""

    round = True


@register_env("PickHeavyCube-v1", max_episode_steps=50)
class PickHeavyCube(_PickVariant):
    """A cube ten times as heavy."""

    heavier = 10.0


@register_env("PickSlipperyCube-v1", max_episode_steps=50)
class PickSlipperyCube(_PickVariant):
    """A cube and fingers of little friction."""

    friction = 0.25


for _variant in (PickSmallCube, PickLargeCube, PickBlueCube, PickSphere, PickHeavyCube, PickSlipperyCube):
    _variant.__doc__ = PickCubeEnv.__doc__  # where the words of the task are read
