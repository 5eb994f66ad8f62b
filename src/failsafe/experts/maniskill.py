"""ManiSkill's own solution scripts as experts, without its motion planner.

Each script computes target poses from the ground truth and hands them to a planner class that its module
names. Run with a stand-in for that class, a script drives our controller instead: straight lines of the
tool, inverse kinematics, and every call one stage of the plan. No code per task, and no `mplib`.
"""

from __future__ import annotations

import inspect
import linecache
import re
import traceback
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from failsafe.errors import PlanError, UnknownNameError
from failsafe.records import poses
from failsafe.records.plan import CLOSED, OPEN, Stage
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.maniskill.frames import base_pose
from failsafe.simulators.maniskill.scene import to_array
from failsafe.simulators.maniskill.simulator import ManiSkillSimulator

_SPEED = 0.6
"""Share of the per-step limits at which the scripts' default joint speed (0.9) is followed: 15 mm a step."""
_SCRIPT_SPEED = 0.9
_HOLD = 4
"""Control steps after each path in which the arm, which lags behind its targets, arrives."""
_GRIPPER_HOLD = 6
"""Control steps that the scripts give the gripper to open or close."""


def maniskill_tasks() -> dict[str, Callable[..., Any]]:
    """The solution scripts that ManiSkill ships for the Panda, by task."""
    from mani_skill.examples.motionplanning.panda.run import MP_SOLUTIONS

    return dict(MP_SOLUTIONS)


def solvable_tasks() -> list[str]:
    """Names of the tasks that a solution script solves: ManiSkill's own, and our variants of them."""
    from failsafe.simulators.maniskill.variants import ORIGINAL

    return [*maniskill_tasks(), *ORIGINAL]


def script_of(task: str) -> Callable[..., Any]:
    """The solution script of a task, or of the one that it is a variant of.

    Raises:
        UnknownNameError: If there is none.
    """
    from failsafe.simulators.maniskill.variants import ORIGINAL

    scripts, original = maniskill_tasks(), ORIGINAL.get(task, task)
    if original not in scripts:
        raise UnknownNameError("task with a solution script", task, scripts)
    return scripts[original]


class ManiSkillExpert:
    """Solves a ManiSkill task with the solution script that ManiSkill ships for it.

    Args:
        task: Name of the task.

    Raises:
        UnknownNameError: If ManiSkill ships no solution for it.
    """

    def __init__(self, task: str) -> None:
        self._script = script_of(task)

    def solve(self, runner: RolloutRunner) -> None:
        """Carry out the task from the present state.

        Raises:
            PlanError: If the script finds no way, or asks for a pose out of reach.
        """
        simulator = runner.simulator
        assert isinstance(simulator, ManiSkillSimulator)
        planner = _planner_class(runner, simulator, self._script.__code__.co_filename)
        names: dict[str, Any] = {
            name: planner
            for name, value in self._script.__globals__.items()
            if isinstance(value, type) and name.endswith("MotionPlanningSolver")
        }
        names["print"] = _say_nothing  # standard output is not the script's
        script = types.FunctionType(self._script.__code__, {**self._script.__globals__, **names})
        try:
            script(_EnvironmentInProgress(simulator.env), seed=None, debug=False, vis=False)
        except Exception as error:
            if _came_through_ours(error):
                raise
            # Scripts meet states that their authors did not foresee, such as a cube on its edge.
            raise PlanError(f"the solution script failed: {type(error).__name__}: {error}") from error


class _EnvironmentInProgress:
    """The environment as a script sees it, with a `reset` that leaves the episode as it is."""

    def __init__(self, env: Any) -> None:
        self.unwrapped = env

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        """Do nothing: the episode has begun."""


def _say_nothing(*_: Any, **__: Any) -> None:
    """A `print` that prints nothing."""


def _planner_class(runner: RolloutRunner, simulator: ManiSkillSimulator, script_file: str) -> type[Any]:
    """The stand-in for ManiSkill's planner classes, bound to a driver."""
    base = to_array(base_pose(simulator.env.agent))
    base_inverse = poses.inverse(base)

    class PlannerStandIn:
        OPEN, CLOSED = OPEN, CLOSED

        def __init__(self, env: Any, *_: Any, joint_vel_limits: float = _SCRIPT_SPEED, **__: Any) -> None:
            self._speed = _SPEED * joint_vel_limits / _SCRIPT_SPEED
            self._gripper = OPEN

        def move_to_pose_with_screw(self, pose: Any, dry_run: bool = False, refine_steps: int = 0) -> Any:
            target = poses.compose(base_inverse, _pose_array(pose))
            if dry_run:
                return {} if simulator.reachable(target) else -1
            target = simulator.closest_reachable(target)
            name, hold = _pose_name(_caller(script_file), pose), _HOLD + refine_steps
            runner.do(Stage(name, tuple(target.tolist()), self._gripper, hold, self._speed))
            return {}

        move_to_pose_with_RRTConnect = move_to_pose_with_screw
        move_to_pose_with_RRTStar = move_to_pose_with_screw

        def close_gripper(self, t: int = _GRIPPER_HOLD, gripper_state: float | None = None) -> Any:
            return self._grip("close gripper", t, CLOSED if gripper_state is None else gripper_state)

        def open_gripper(self, t: int = _GRIPPER_HOLD, gripper_state: float | None = None) -> Any:
            return self._grip("open gripper", t, OPEN if gripper_state is None else gripper_state)

        def _grip(self, name: str, steps: int, gripper: float) -> Any:
            self._gripper = gripper
            runner.do(Stage(name, tuple(runner.observation.tcp_pose.tolist()), gripper, steps, self._speed))
            return {}

        def close(self) -> None:
            pass

    return PlannerStandIn


def _pose_array(pose: Any) -> poses.Pose:
    """A `sapien.Pose`, or ManiSkill's batched one, as an array."""
    if hasattr(pose, "raw_pose"):
        return np.asarray(pose.raw_pose[0], dtype=np.float64)
    return to_array(pose)


def _came_through_ours(error: Exception) -> bool:
    """Whether an exception left the script through code of ours that it called, rather than by itself."""
    frames = traceback.walk_tb(error.__traceback__)
    names = [str(frame.f_globals.get("__name__", "")) for frame, _ in frames]
    return any(name.startswith("failsafe.") for name in names[1:])


def _caller(script_file: str) -> types.FrameType | None:
    """The innermost frame of the script, however many calls of ours (or of a type checker) lie between."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename != script_file:
        frame = frame.f_back
    return frame


def _pose_name(frame: types.FrameType | None, pose: Any) -> str:
    """What the script itself calls a waypoint: `reach_pose` is "reach"."""
    if frame is None:
        return "move"
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    match = re.search(r"\(\s*([a-z]\w*?)_pose\b", line)
    if match:
        return match.group(1).replace("_", " ")
    for name, value in frame.f_locals.items():
        if value is pose and name.endswith("_pose"):
            return name.removesuffix("_pose").replace("_", " ")
    return "move"
