"""The contract of an expert: something that solves a task once, from ground truth."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from failsafe.records.plan import StagePlan
from failsafe.rollouts.runner import RolloutRunner


@runtime_checkable
class Expert(Protocol):
    """Solves a task by asking a rollout runner to carry out stages.

    In the middle of an episode, an expert plans from the present state. Experts are never changed to make
    them fail: perturbations act on the recorded plan, or on its execution.
    """

    def solve(self, runner: RolloutRunner) -> None:
        """Carry out the whole task.

        Args:
            runner: The rollout runner, in the state from which to solve the task.

        Raises:
            PlanError: If there is no plan from the present state.
        """
        ...


class PlanExpert:
    """Carries out a recorded plan open loop, from one of its stages on.

    Args:
        plan: The stages.
        start: Index of the first stage to carry out.
    """

    def __init__(self, plan: StagePlan, start: int = 0) -> None:
        self._stages = plan.stages[start:]

    def solve(self, runner: RolloutRunner) -> None:
        """Carry out the stages."""
        for stage in self._stages:
            runner.do(stage)
