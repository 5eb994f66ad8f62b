"""Meta-World's scripted policies as experts.

A policy is a function of what it sees, so that it can be asked again from any state. It acts in closed loop:
the rollout is cut into stages where the policy takes another branch of its own decision.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from failsafe.errors import PlanError, UnknownNameError
from failsafe.records import poses
from failsafe.records.plan import OPEN
from failsafe.records.poses import Pose
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.metaworld.simulator import MAX_TRANSLATION, MetaWorldSimulator
from failsafe.simulators.metaworld.tasks import INSTRUCTIONS, PREFIX

_SECONDS = 10.0
"""Longest time that a policy takes."""
_HOLD_SECONDS = 0.1
"""How long success has to last before the tool stops."""
_REST_SECONDS = 0.5
"""How long success has to last at rest."""
_STUCK_SECONDS, _STUCK = 1.0, 0.001
"""A policy that sees the same, within this much of each number, after this time is stuck."""
_STOP = 0
"""Number of the stage in which the tool stands still; the branches of a policy count from 1."""
_UPRIGHT = np.array([0.0, 0.0, 1.0, 0.0])
"""Orientation of the tool in `env.step`: straight down."""


def policy_class(task: str) -> type[Any]:
    """Return the scripted policy that Meta-World ships for a task.

    Raises:
        UnknownNameError: If there is no such task.
    """
    from metaworld.policies import ENV_POLICY_MAP

    name = task.removeprefix(PREFIX)
    if name not in ENV_POLICY_MAP or not task.startswith(PREFIX):
        raise UnknownNameError("task with a scripted policy", task, [PREFIX + n for n in INSTRUCTIONS])
    return ENV_POLICY_MAP[name]


class MetaWorldExpert:
    """Solves a Meta-World task with its scripted policy.

    Args:
        task: Name of the task.

    Raises:
        UnknownNameError: If Meta-World ships no policy for it.
    """

    def __init__(self, task: str) -> None:
        cls = policy_class(task)
        self._policy: Any = cls()
        self._branch = branch_function(cls)

    def solve(self, runner: RolloutRunner) -> None:
        """Act until the task is solved and stays solved at rest.

        Raises:
            PlanError: If the policy does not get there.
        """
        simulator = runner.simulator
        assert isinstance(simulator, MetaWorldSimulator)
        robot = simulator.spec.embodiment
        hold, successes, stops = robot.steps(_HOLD_SECONDS), 0, 0
        past: deque[np.ndarray] = deque(maxlen=robot.steps(_STUCK_SECONDS))
        environment = simulator.environment
        seen = environment.observe()
        for _ in range(robot.steps(_SECONDS)):
            if len(past) == past.maxlen and np.abs(seen - past[0]).max() < _STUCK:
                raise PlanError("Meta-World's policy stands still, and the task is not solved")
            past.append(seen)
            branch = self._branch(self._policy, seen.copy())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                action = np.asarray(self._policy.get_action(seen.copy()), dtype=np.float64)
            target = _target(runner.intended, action, robot.clip_to_workspace)
            # Without an effort the fingers stay where they are. After a failure that may be closed.
            effort = min(max(float(action[3]), -1.0), 1.0)
            gripper = -effort if effort > 0 else OPEN
            runner.act(_within_limits(runner.intended, target, robot.step_limits), gripper, branch)
            seen = environment.observe()
            successes = successes + 1 if environment.succeeds(seen) else 0
            if successes >= hold:
                # What springs back has to be held where it is, by a tool that goes on pressing.
                if _rests_in_success(runner, simulator, pressing=stops % 2 == 1):
                    return
                successes, stops = 0, stops + 1
                past.clear()
                seen = environment.observe()
        raise PlanError(f"Meta-World's policy did not solve the task within {_SECONDS:g} s")


def _rests_in_success(runner: RolloutRunner, simulator: MetaWorldSimulator, pressing: bool) -> bool:
    """Stop the tool where it is, or where it was sent last, and return whether the task stays solved."""
    if not pressing:
        runner.restart_from_measured_pose()
    for _ in range(simulator.spec.embodiment.steps(_REST_SECONDS)):
        runner.act(np.zeros(6), runner.gripper, _STOP)
    return simulator.evaluate().success


def _target(start: Pose, action: np.ndarray, clip: Callable[[Pose], Pose]) -> Pose:
    """Return the tool pose that an action asks for, with the tool straight down."""
    way = np.minimum(np.maximum(action[:3], -1.0), 1.0) * MAX_TRANSLATION
    return clip(np.concatenate([start[:3] + way, _UPRIGHT]))


def _within_limits(start: Pose, target: Pose, limits: tuple[float, float]) -> np.ndarray:
    return poses.delta_between(start, poses.limit_step(start, target, *limits))


def branch_function(cls: type[Any]) -> Callable[[Any, np.ndarray], int]:
    """Return a function that says which branch a policy takes for an observation.

    The function runs the policy's own decision, with a mark at the beginning of every branch.

    Args:
        cls: Class of a scripted policy.
    """
    decides = "_desired_pos" if "_desired_pos" in vars(cls) else "get_action"
    function: Any = inspect.unwrap(getattr(cls, decides))
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    definition: Any = tree.body[0]
    definition.decorator_list = []
    definition.returns = None
    for argument in definition.args.args:
        argument.annotation = None
    _Marks().visit(definition)
    marks: list[int] = []
    scope = {**function.__globals__, "_mark": marks.append}
    exec(compile(ast.fix_missing_locations(tree), f"<{cls.__name__}>", "exec"), scope)
    marked: Any = scope[decides]

    def branch(policy: Any, seen: np.ndarray) -> int:
        marks.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if decides == "get_action":
                marked(policy, seen)
            else:
                marked(cls._parse_obs(seen))
        return marks[-1] if marks else 1

    return branch


class _Marks(ast.NodeTransformer):
    """Puts a numbered mark at the beginning of every branch."""

    def __init__(self) -> None:
        self._count = 0

    def visit_If(self, node: ast.If) -> ast.If:
        """Mark both sides of a decision."""
        node.body = [self._mark(), *(self.visit(n) for n in node.body)]
        if len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
            node.orelse = [self.visit(node.orelse[0])]
        else:
            node.orelse = [self._mark(), *(self.visit(n) for n in node.orelse)]
        return node

    def _mark(self) -> ast.stmt:
        self._count += 1
        return ast.parse(f"_mark({self._count})").body[0]
