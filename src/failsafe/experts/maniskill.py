"""ManiSkill's own solution scripts as experts, without its motion planner.

Each script computes target poses from the ground truth and passes them to a planner class that its module
imports. Here a stand-in replaces that class: every call becomes one stage, which the rollout runner carries
out on a straight line. There is no code per task, and no `mplib`.
"""

from __future__ import annotations

import inspect
import linecache
import re
import traceback
import types
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from failsafe.errors import PlanError, UnknownNameError
from failsafe.records import poses
from failsafe.records.plan import CLOSED, OPEN, Stage
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.maniskill.frames import base_pose
from failsafe.simulators.maniskill.scene import to_array
from failsafe.simulators.maniskill.simulator import ManiSkillSimulator

_SPEED = 0.6
"""Share of the step limits that stands for the scripts' default joint speed (0.9): 15 mm per step."""
_SCRIPT_SPEED = 0.9
_HOLD = 4
"""Control steps after each path, in which the arm reaches the target."""
_GRIPPER_HOLD = 6
"""Control steps in which the gripper opens or closes, as in the scripts."""
_MOST_BOXES = 64
"""Bounding boxes that are kept."""


def maniskill_tasks() -> dict[str, Callable[..., Any]]:
    """Return the solution scripts that ManiSkill ships for the Panda, by task."""
    from mani_skill.examples.motionplanning.panda.run import MP_SOLUTIONS

    return dict(MP_SOLUTIONS)


def solvable_tasks() -> list[str]:
    """Return the names of ManiSkill's tasks with a solution script, and of our variants of them."""
    from failsafe.simulators.maniskill.variants import ORIGINAL

    return [*maniskill_tasks(), *ORIGINAL]


def script_of(task: str) -> Callable[..., Any]:
    """Return the solution script of a task, or of the task that it is a variant of.

    Raises:
        UnknownNameError: If there is no such script.
    """
    from failsafe.simulators.maniskill.variants import ORIGINAL

    scripts, original = maniskill_tasks(), ORIGINAL.get(task, task)
    if original not in scripts:
        raise UnknownNameError("task with a solution script", task, scripts)
    return scripts[original]


class ManiSkillExpert:
    """Solves a ManiSkill task with its solution script.

    Args:
        task: Name of the task.

    Raises:
        UnknownNameError: If ManiSkill ships no solution for it.
    """

    def __init__(self, task: str) -> None:
        self._script = script_of(task)
        find_box = self._script.__globals__.get("get_actor_obb")
        self._boxes = _BoundingBoxes(find_box) if find_box is not None else None

    def solve(self, runner: RolloutRunner) -> None:
        """Carry out the task from the present state.

        Raises:
            PlanError: If the script finds no solution.
        """
        # Perhaps within an `InstructedSimulator`, which hands on the attributes of the simulator within.
        simulator = cast(ManiSkillSimulator, runner.simulator)
        planner = _planner_class(runner, simulator, self._script.__code__.co_filename)
        names: dict[str, Any] = {
            name: planner
            for name, value in self._script.__globals__.items()
            if isinstance(value, type) and name.endswith("MotionPlanningSolver")
        }
        names["print"] = _print_nothing  # standard output belongs to the command
        if self._boxes is not None:
            names["get_actor_obb"] = self._boxes
        script = types.FunctionType(self._script.__code__, {**self._script.__globals__, **names})
        try:
            script(_EnvironmentInProgress(simulator.env), seed=None, debug=False, vis=False)
        except Exception as error:
            if _raised_by_failsafe(error):
                raise
            # Scripts are run in states that their authors did not foresee, such as a cube on its edge.
            raise PlanError(f"the solution script failed: {type(error).__name__}: {error}") from error


class _EnvironmentInProgress:
    """The environment that a script is given: `reset` leaves the episode as it is."""

    def __init__(self, env: Any) -> None:
        self.unwrapped = env

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        """Do nothing: the episode has begun."""


class _BoundingBoxes:
    """ManiSkill's `get_actor_obb`, with the results kept by pose: it takes as long as nine physics steps.

    A script asks for the same box again in every rollout that begins in the same state.
    """

    def __init__(self, find: Callable[..., Any]) -> None:
        self._find = find
        self._found: dict[tuple[Any, ...], Any] = {}

    def __call__(self, actor: Any, *args: Any, **kwargs: Any) -> Any:
        entity = actor._objs[0]
        # The entity is part of the key, and so kept alive: its place cannot be taken by another one.
        key = (entity, to_array(entity.pose).tobytes(), args, tuple(kwargs.items()))
        if key not in self._found:
            if len(self._found) >= _MOST_BOXES:
                self._found.clear()
            self._found[key] = self._find(actor, *args, **kwargs)
        return self._found[key]


def _print_nothing(*_: Any, **__: Any) -> None:
    """Replace `print`."""


def _planner_class(runner: RolloutRunner, simulator: ManiSkillSimulator, script_file: str) -> type[Any]:
    """Return the stand-in for ManiSkill's planner classes, bound to a rollout runner."""
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
    """Return a `sapien.Pose`, or ManiSkill's batched one, as an array [7]."""
    if hasattr(pose, "raw_pose"):
        return np.asarray(pose.raw_pose[0], dtype=np.float64)
    return to_array(pose)


def _raised_by_failsafe(error: Exception) -> bool:
    """Whether an exception was raised in code of FailSafe that a script called, not in the script."""
    frames = traceback.walk_tb(error.__traceback__)
    names = [str(frame.f_globals.get("__name__", "")) for frame, _ in frames]
    return any(name.startswith("failsafe.") for name in names[1:])


def _caller(script_file: str) -> types.FrameType | None:
    """Return the innermost frame of the script."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename != script_file:
        frame = frame.f_back
    return frame


def _pose_name(frame: types.FrameType | None, pose: Any) -> str:
    """Return the script's own name for a waypoint: `reach_pose` is "reach"."""
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
