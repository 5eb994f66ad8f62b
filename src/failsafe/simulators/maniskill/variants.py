"""Variants of PickCube with other objects, physics or robots, to evaluate generalization.

Importing this module registers them with ManiSkill. All keep PickCube's instruction, so that policies trained
on PickCube accept them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import sapien
from mani_skill.envs.tasks.tabletop.pick_cube import PickCubeEnv
from mani_skill.utils.building import actors
from mani_skill.utils.registration import register_env
from mani_skill.utils.scene_builder.table import TableSceneBuilder
from sapien import physx

from failsafe.simulators.maniskill.fetch import FetchTable, StandingFetch

_VARIANTS: dict[str, dict[str, Any]] = {
    "PickSmallCube-v1": {"half_sizes": (0.015, 0.015, 0.015)},
    "PickLargeCube-v1": {"half_sizes": (0.025, 0.025, 0.025)},
    "PickTallCube-v1": {"half_sizes": (0.02, 0.02, 0.03)},
    "PickBlueCube-v1": {"colour": (0.1, 0.2, 0.9, 1.0)},
    "PickSphere-v1": {"round": True},
    "PickHeavyCube-v1": {"heavier": 10.0},
    "PickSlipperyCube-v1": {"friction": 0.25},
    "PickCubeFetch-v1": {"robot": StandingFetch.uid, "table": FetchTable},
}
"""The differences of each variant from PickCube, see `_PickVariant`."""
ORIGINAL = dict.fromkeys(_VARIANTS, "PickCube-v1")
"""The original task of each variant."""


class _PickVariant(PickCubeEnv):
    """Base class of the variants.

    Attributes:
        half_sizes: Half the edge lengths of the cube, metres. The last is also the radius of the sphere.
        colour: Red, green, blue and opacity, 0 to 1.
        round: Whether the object is a sphere instead of a cube.
        heavier: Factor on the mass.
        friction: Friction coefficient between fingers and object; None: ManiSkill's.
        robot: Name of the robot.
        table: Scene builder that places robot and table.
    """

    SUPPORTED_ROBOTS: ClassVar = [*PickCubeEnv.SUPPORTED_ROBOTS, StandingFetch.uid]
    half_sizes = (0.02, 0.02, 0.02)
    colour = (1.0, 0.0, 0.0, 1.0)
    round = False
    heavier = 1.0
    friction: float | None = None
    robot = "panda"
    table = TableSceneBuilder

    def __init__(self, **settings: Any) -> None:
        named: dict[str, Any] = {"robot_uids": self.robot, **settings}
        super().__init__(**named)

    def _load_scene(self, options: dict[str, Any]) -> None:
        """Build the table, the object and the goal."""
        height: Any = self.half_sizes[2]
        self.cube_half_size = height  # ManiSkill derives the initial height from it
        self.table_scene = self.table(self, robot_init_qpos_noise=self.robot_init_qpos_noise)
        self.table_scene.build()
        resting = sapien.Pose(p=[0, 0, height])
        common: dict[str, Any] = {"color": list(self.colour), "name": "cube", "initial_pose": resting}
        if self.round:
            self.cube = actors.build_sphere(self.scene, radius=height, **common)
        else:
            self.cube = actors.build_box(self.scene, half_sizes=list(self.half_sizes), **common)
        cube: Any = self.cube
        body = cube._objs[0].find_component_by_type(physx.PhysxRigidDynamicComponent)
        body.mass *= self.heavier
        body.inertia = body.inertia * self.heavier
        if self.friction is not None:
            material = physx.PhysxMaterial(self.friction, self.friction, 0.0)
            robot: Any = self.agent.robot
            links = [link._objs[0] for link in robot.links if "finger" in link.name]
            # PhysX averages the coefficients of two bodies, so both are set.
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


for _name, _differs in _VARIANTS.items():
    # The instruction is read from the documentation.
    _class = type(_name.split("-")[0], (_PickVariant,), {**_differs, "__doc__": PickCubeEnv.__doc__})
    register_env(_name, max_episode_steps=50)(_class)
