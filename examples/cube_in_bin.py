"""A task of one's own in ManiSkill: put the red cube into the blue bin. The page is docs/your-own.md.

A task is an environment of ManiSkill, an expert that solves it once from ground truth, and a function that
returns both:

    failsafe generate examples.cube_in_bin:make --failures 300 --out out/bin/data
"""

from typing import Any

import numpy as np
import sapien
import torch
from mani_skill.envs.sapien_env import BaseEnv
from mani_skill.utils.building import actors
from mani_skill.utils.registration import register_env
from mani_skill.utils.scene_builder.table import TableSceneBuilder
from mani_skill.utils.structs.pose import Pose

from failsafe.experts.tasks import Task
from failsafe.records import poses
from failsafe.records.plan import CLOSED, OPEN, Stage
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.maniskill.simulator import ManiSkillSimulator

HALF_CUBE = 0.02
"""Half the edge of the cube, metres."""
HALF_BIN, HALF_WALL, HALF_HEIGHT = 0.05, 0.0025, 0.015
"""Half the outer edge of the bin, half the thickness of its walls and floor, half its height, metres."""
BIN_SIDES = (
    ((0.0, 0.0, HALF_WALL), (HALF_BIN, HALF_BIN, HALF_WALL)),
    ((HALF_BIN, 0.0, HALF_HEIGHT), (HALF_WALL, HALF_BIN, HALF_HEIGHT)),
    ((-HALF_BIN, 0.0, HALF_HEIGHT), (HALF_WALL, HALF_BIN, HALF_HEIGHT)),
    ((0.0, HALF_BIN, HALF_HEIGHT), (HALF_BIN, HALF_WALL, HALF_HEIGHT)),
    ((0.0, -HALF_BIN, HALF_HEIGHT), (HALF_BIN, HALF_WALL, HALF_HEIGHT)),
)
"""Centre and half size of the floor and the four walls, in the frame of the bin, metres."""


@register_env("CubeInBin-v1", max_episode_steps=200)
class CubeInBinEnv(BaseEnv):
    """A cube and an open bin on ManiSkill's table."""

    SUPPORTED_ROBOTS = ["panda"]  # noqa: RUF012  (the name and type that ManiSkill asks for)

    def __init__(self, robot_uids: str = "panda", **settings: Any) -> None:
        super().__init__(robot_uids=robot_uids, **settings)

    # ManiSkill's own tasks override the method with this one argument, too.
    def _load_agent(self, options: dict[str, Any]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super()._load_agent(options, sapien.Pose(p=[-0.615, 0, 0]))

    def _load_scene(self, options: dict[str, Any]) -> None:
        self.table_scene = TableSceneBuilder(self)
        self.table_scene.build()
        self.cube = actors.build_cube(
            self.scene,
            half_size=HALF_CUBE,
            color=[1, 0, 0, 1],
            name="cube",
            initial_pose=sapien.Pose(p=[0, 0, HALF_CUBE]),
        )
        builder: Any = self.scene.create_actor_builder()
        blue = sapien.render.RenderMaterial(base_color=[0.1, 0.2, 0.9, 1])
        for center, half_size in BIN_SIDES:
            builder.add_box_collision(sapien.Pose(center), half_size)
            builder.add_box_visual(sapien.Pose(center), half_size, material=blue)
        builder.initial_pose = sapien.Pose(p=[0, 0.13, 0])
        self.bin = builder.build_kinematic(name="bin")

    def _initialize_episode(self, env_idx: torch.Tensor, options: dict[str, Any]) -> None:
        with torch.device(self.device):
            self.table_scene.initialize(env_idx)
            low = torch.tensor([[-0.10, -0.12, HALF_CUBE], [-0.05, 0.10, 0.0]])
            size = torch.tensor([[0.14, 0.13, 0.0], [0.10, 0.06, 0.0]])
            cube, bin_ = (low + size * torch.rand((len(env_idx), 2, 3))).unbind(1)
            self.cube.set_pose(Pose.create_from_pq(cube))
            self.bin.set_pose(Pose.create_from_pq(bin_))

    def evaluate(self) -> dict[str, torch.Tensor]:
        """Return whether the cube lies in the bin, at rest and released."""
        offset = self.cube.pose.p - self.bin.pose.p
        inside = (offset[:, :2].abs() < HALF_BIN - HALF_WALL).all(1) & (offset[:, 2] < 2 * HALF_HEIGHT)
        released = ~self.agent.is_grasping(self.cube)
        return {"success": inside & released & self.cube.is_static(lin_thresh=1e-2, ang_thresh=0.5)}


class CubeInBinExpert:
    """Grasps the cube, carries it over the bin, and lets it go."""

    def solve(self, runner: RolloutRunner) -> None:
        """Solve the task from the present state.

        Args:
            runner: Executes stages; poses are in the robot's base frame, metres.
        """
        episode, now = runner.simulator.episode, runner.observation
        cube, target = (now.objects[episode.object_index(name)] for name in ("cube", "bin"))
        down = np.array([0.0, 1.0, 0.0, 0.0])  # the tool points down, its fingers close along y

        def go(name: str, x: float, y: float, z: float, gripper: float, hold: int = 4) -> None:
            pose = poses.pose(np.array([x, y, z]), down)
            runner.do(Stage(name, tuple(pose.tolist()), gripper, hold, speed=0.6))

        x, y, z = cube[:3].tolist()
        over_x, over_y = target[:2].tolist()
        go("reach the cube", x, y, z + 0.1, OPEN)
        go("lower to the cube", x, y, z, OPEN)
        go("close gripper", x, y, z, CLOSED, hold=6)
        go("lift", x, y, 0.14, CLOSED)
        go("carry over the bin", over_x, over_y, 0.14, CLOSED)
        go("lower into the bin", over_x, over_y, 0.06, CLOSED)
        go("open gripper", over_x, over_y, 0.06, OPEN, hold=6)
        go("retreat", over_x, over_y, 0.14, OPEN)


def make() -> Task:
    """Return the task: `examples.cube_in_bin:make` on the command line."""
    instruction = "Put the red cube into the blue bin"
    return Task(ManiSkillSimulator("CubeInBin-v1"), CubeInBinExpert(), instruction=instruction)
