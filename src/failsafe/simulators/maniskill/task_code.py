"""The task's own code: what ManiSkill's `reset` and `step` run beside the physics.

`BaseEnv.step` calls four hooks, counts the steps, and evaluates the task. A checked task that overrides no
hook pays for none of this: its steps are physics only, and it is evaluated when somebody asks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from failsafe.errors import PlanError, UserError
from failsafe.simulators.contract import Evaluation
from failsafe.simulators.maniskill.instructions import is_checked, task_code

_NOT_TERMS = ("elapsed_steps", "reconfigure")


class TaskCode:
    """Runs the task's own code at its places in a control step.

    Args:
        task: Name of the environment.
        env: The unwrapped environment.

    Attributes:
        checked: Whether the adapter's tests have compared the task with ManiSkill's own step.
        stateful: Whether the task may keep values of its own (a counter, a latch). Such a task is reset in
            full in every episode, and evaluated once in every control step, as by ManiSkill.
        in_substeps: Whether the task or its robot overrides a hook of the physics substeps.
    """

    def __init__(self, task: str, env: Any) -> None:
        from mani_skill.agents.base_agent import BaseAgent
        from mani_skill.envs.sapien_env import BaseEnv

        self._task, self._env = task, env
        self.checked = is_checked(task, type(env))
        self._before_control = _overridden(env, BaseEnv, "_before_control_step")
        self._after_control = _overridden(env, BaseEnv, "_after_control_step")
        robot = _overridden(env.agent, BaseAgent, "before_simulation_step")
        before, after = (
            _overridden(env, BaseEnv, f"_{when}_simulation_step") for when in ("before", "after")
        )
        self._before_substep = [hook for hook in (robot, before) if hook is not None]
        self._after_substep = [hook for hook in (after,) if hook is not None]
        self.in_substeps = bool(self._before_substep or self._after_substep)
        hooks = (self._before_control, self._after_control, self.in_substeps)
        self.stateful = not self.checked or any(hooks)

    def before_control_step(self) -> None:
        """Run the task's code before a control step, after its command has been set."""
        if self._before_control is not None:
            with self.own_code("_before_control_step()"):
                self._before_control()

    def before_substep(self) -> None:
        """Run the robot's and the task's code before a physics substep."""
        for hook in self._before_substep:
            with self.own_code(f"{hook.__name__}()"):
                hook()

    def after_substep(self) -> None:
        """Run the task's code after a physics substep."""
        for hook in self._after_substep:
            with self.own_code(f"{hook.__name__}()"):
                hook()

    def after_control_step(self) -> Evaluation | None:
        """Run the task's code after a control step, count the step, and evaluate the task.

        Returns:
            The evaluation; None for a task that is evaluated when somebody asks.

        Raises:
            PlanError: If a drawing task has run out of steps.
            UserError: If the task's code raises an exception, or `evaluate` does not say whether the task is
                solved.
        """
        if not self.stateful:
            return None
        try:
            if self._after_control is not None:
                with self.own_code("_after_control_step()"):
                    self._after_control()
            self._env._elapsed_steps += 1
            return self.evaluate()
        except IndexError as error:
            # ManiSkill's drawing tasks have a fixed number of dots, one per step.
            raise PlanError(
                f"{self._task} has no steps left: it supports a fixed number of control steps"
            ) from error

    def evaluate(self) -> Evaluation:
        """Evaluate the task in the current state.

        Raises:
            UserError: If `evaluate` raises an exception, or does not say whether the task is solved.
        """
        with self.own_code("evaluate()"):
            info = self._env.get_info() if self.stateful else self._env.evaluate()
        return self.read(info)

    def own_code(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Return a context in which an error of a task that no test covers is one sentence.

        Args:
            name: Name of the code that runs.
        """
        return contextlib.nullcontext() if self.checked else task_code(self._task, name)

    def read(self, info: Mapping[str, Any]) -> Evaluation:
        """Return what ManiSkill's info says about success. Words, None and arrays are left out.

        Args:
            info: What the task's `evaluate`, or ManiSkill's `reset`, returned.

        Raises:
            UserError: If it does not say whether the task is solved.
        """
        terms: dict[str, float] = {}
        for name, value in info.items():
            number = None if name in _NOT_TERMS else _number(value)
            if number is not None:
                terms[name] = number
        if "success" not in terms:
            got = f"success={info['success']!r}" if "success" in info else f"the keys {sorted(info)}"
            raise UserError(
                f"task '{self._task}': expected evaluate() to return a dictionary with 'success', one "
                f"boolean, got {got}: return whether the task is solved as 'success'"
            )
        return Evaluation(bool(terms["success"]), terms)


def _overridden(thing: Any, base: type[Any], name: str) -> Callable[[], None] | None:
    """Return a bound method if the class of `thing` overrides that of a base class."""
    return getattr(thing, name) if getattr(type(thing), name) is not getattr(base, name) else None


def _number(value: Any) -> float | None:
    """Return a value as one number; None if it is something else."""
    try:
        values = np.asarray(value).reshape(-1)
    except (TypeError, ValueError, RuntimeError):  # ragged lists, tensors on other devices or with gradients
        return None
    return float(values[0]) if values.size == 1 and values.dtype.kind in "biuf" else None
