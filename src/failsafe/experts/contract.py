"""The contract of an expert: anything that solves the task once, from ground truth."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from failsafe.records.plan import StagePlan
from failsafe.rollouts.runner import RolloutRunner


@runtime_checkable
class Expert(Protocol):
    """Solves a task by telling a driver which stages to carry out.

    An expert that is asked in the middle of an episode plans from the present state. It is never changed to
    make it fail: perturbations act on the plan that it went through, or on the execution of that plan.
    """

    def solve(self, runner: RolloutRunner) -> None:
        """Carry out the whole task.

        Raises:
            PlanError: If there is no way from the present state.
        """
        ...


class PlanExpert:
    """Carries out a recorded plan, from one of its stages on, open loop.

    Args:
        plan: The stages.
        start: Index of the first one to carry out.
    """

    def __init__(self, plan: StagePlan, start: int = 0) -> None:
        self._stages = plan.stages[start:]

    def solve(self, runner: RolloutRunner) -> None:
        """Carry out the stages."""
        for stage in self._stages:
            runner.do(stage)
