"""A custom task: ManiSkill's PokeCube, for which ManiSkill ships no solution.

A new task needs an expert that solves it once. This one has five stages. The failure modes, the judging, the
corrections and their proofs follow from its rollout:

    failsafe generate examples.poke_cube:make --failures 100 --out out/poke
"""

import numpy as np

from failsafe.experts.tasks import Task
from failsafe.records import poses
from failsafe.records.plan import CLOSED, OPEN, Stage
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.maniskill.simulator import ManiSkillSimulator


class PokeCubeExpert:
    """Grasps the peg, aligns it with the cube, and pokes the cube to the goal."""

    def solve(self, runner: RolloutRunner) -> None:
        """Solve the task from the present state.

        Args:
            runner: Executes stages; poses are in the robot's base frame, metres.
        """
        episode, now = runner.simulator.episode, runner.observation
        peg, cube, goal = (now.objects[episode.object_index(n)] for n in ("peg", "cube", "goal_region"))
        peg_half = episode.objects[episode.object_index("peg")].half_extents
        cube_half = episode.objects[episode.object_index("cube")].half_extents
        down = np.array([0.0, 1.0, 0.0, 0.0])  # the tool points down, its fingers close along y

        def go(name: str, x: float, y: float, z: float, gripper: float, hold: int = 4) -> None:
            target = poses.pose(np.array([x, y, z]), down)
            runner.do(Stage(name, tuple(target.tolist()), gripper, hold, speed=0.6))

        x, y, z = peg[:3].tolist()
        x -= 0.07  # grasp the peg near its end: the goal is at the edge of the robot's reach
        poke = float(goal[0] - cube_half[0] - peg_half[0]) - 0.07
        go("reach the peg", x, y, z + 0.1, OPEN)
        go("lower to the peg", x, y, z, OPEN)
        go("close gripper", x, y, z, CLOSED, hold=6)
        go("line up with the cube", x, float(cube[1]), z + 0.002, CLOSED)
        go("poke the cube", poke, float(cube[1]), z + 0.002, CLOSED)


def make() -> Task:
    """Return the task: `examples.poke_cube:make` on the command line."""
    return Task(ManiSkillSimulator("PokeCube-v1"), PokeCubeExpert())
