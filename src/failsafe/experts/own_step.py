"""Comparison of a task with its simulator's own step, on a rollout of its expert, before data is written."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import numpy as np

from failsafe.errors import DivergedError, PlanError, UserError
from failsafe.experts.tasks import Task, load_task, task_name
from failsafe.records.plan import OPEN
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.contract import ComparesOwnStep, StepComparison

_MOST_TASKS = 8
"""Loaded tasks that are kept. A task of LIBERO takes half a gigabyte."""
_FEWEST = 20
"""Control steps to compare at least. The tool holds still after a shorter rollout of the expert."""


class TaskLoader:
    """Loads tasks by name, each once, and compares it with its simulator's own step before its first use.

    Args:
        tasks: Tasks that have been loaded already, by name.
    """

    def __init__(self, tasks: Mapping[str, Task] | None = None) -> None:
        self._given = dict(tasks or {})
        self._loaded: dict[str, Task] = {}
        self._compared: set[str] = set()

    def load(self, name: str, seed: int) -> Task:
        """Return a task.

        Args:
            name: Name of the task, as for `load_task`.
            seed: Seed of the rollout that is compared.

        Raises:
            UserError: If the task cannot be loaded, or differs from its simulator's own step.
        """
        task = self._given.get(name) or self._loaded.pop(name, None)
        if task is None:
            while len(self._loaded) >= _MOST_TASKS:  # the one that has not been asked for the longest time
                self._loaded.pop(next(iter(self._loaded))).simulator.close()
            task = load_task(name)
        if name not in self._given:
            self._loaded[name] = task
        if name not in self._compared:
            require_own_step(task, seed)
            self._compared.add(name)
        return task


def require_own_step(task: Task, seed: int) -> None:
    """Check that a task which no test of FailSafe covers is the same in the adapter as in its simulator.

    A checked task costs nothing.

    Args:
        task: The task.
        seed: Seed of the initial state of the rollout.

    Raises:
        UserError: If a rollout differs. The message says what differs and by how much.
    """
    if task.simulator.spec.checked:
        return
    compared = compare_own_step(task, seed)
    if compared is not None and compared.difference:
        raise UserError(
            f"task '{task_name(task)}' would give wrong data: over {compared.steps} control steps, "
            f"{compared.difference}"
        )


def compare_own_step(task: Task, seed: int) -> StepComparison | None:
    """Compare the rollout of the expert with the simulator's own step under the same commands.

    Args:
        task: The task; the present episode of its simulator ends.
        seed: Seed of the initial state.

    Returns:
        What was compared; None where the simulator has no other step than the adapter's.
    """
    simulator = task.simulator
    if not isinstance(simulator, ComparesOwnStep):
        return None
    simulator.reset(seed)
    runner = RolloutRunner(simulator)
    with contextlib.suppress(PlanError, DivergedError):  # what there is of a rollout is compared
        task.expert.solve(runner)
        runner.settle()
    commands = list(runner.trace().commands)
    while len(commands) < _FEWEST:
        commands.append(simulator.command(simulator.observe().tcp_pose, OPEN))
    return simulator.compare_with_own_step(seed, np.array(commands, dtype=np.float32))
