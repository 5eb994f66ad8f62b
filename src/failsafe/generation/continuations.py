"""What goes on with a task after a correction, and in the branches of a proof without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from failsafe.experts.contract import PlanExpert
from failsafe.experts.tasks import Task
from failsafe.generation.corrections import Candidate
from failsafe.generation.nominal import NominalRollout
from failsafe.records.case import EXPERT
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.trace import Trace
from failsafe.rollouts.hooks import Hook
from failsafe.rollouts.runner import RolloutRunner

_MORE_SECONDS = 7.5
"""Time that a rollout of the expert with a correction may take beyond the nominal one."""


@runtime_checkable
class Continuation(Protocol):
    """Moves the robot in the branches of a proof in which the cause of the failure has ended.

    Every method raises `PlanError` if it cannot go on, and `DivergedError` if the physics diverges.
    """

    @property
    def name(self) -> str:
        """Name in records."""
        ...

    @property
    def samples(self) -> int:
        """Rollouts of each branch without a correction: 1 if equal states always lead to equal rollouts."""
        ...

    def hooks(self) -> Sequence[Hook]:
        """Return new stopping rules for one branch."""
        ...

    def more_steps(self, step: int) -> int:
        """Return the control steps that a branch may take, settling included.

        Args:
            step: Control step of the failing rollout at which the branch begins.
        """
        ...

    def go_on(self, runner: RolloutRunner, step: int) -> None:
        """Go on with what was planned before.

        Args:
            runner: The rollout runner, in the state of the failing rollout at the step.
            step: The control step.
        """
        ...

    def plan_anew(self, runner: RolloutRunner) -> None:
        """Plan from the present state, and go on.

        Args:
            runner: The rollout runner.
        """
        ...

    def finish(self, runner: RolloutRunner, candidate: Candidate) -> None:
        """Go on after a correction.

        Args:
            runner: The rollout runner, in the state after the actions of the correction.
            candidate: The correction.
        """
        ...


class ExpertContinuation:
    """The expert goes on: with the nominal plan, or with a plan that it makes from the present state.

    Args:
        task: The task.
        nominal: Its nominal rollout.
        failing: The failing rollout, whose stages are those of the plan.
    """

    name = EXPERT
    samples = 1

    def __init__(self, task: Task, nominal: NominalRollout, failing: Trace) -> None:
        self._task, self._nominal, self._failing = task, nominal, failing
        self._plan = nominal.record.plan

    def hooks(self) -> Sequence[Hook]:
        """Return no stopping rule: the expert stops by itself."""
        return ()

    def more_steps(self, step: int) -> int:
        """Return the same for every step: the expert has no time limit. See `Continuation.more_steps`."""
        return most_steps(self._nominal, self._task.simulator.spec.embodiment)

    def go_on(self, runner: RolloutRunner, step: int) -> None:
        """Carry out the nominal plan from the present stage on. See `Continuation.go_on`."""
        stage = int(self._failing.stages[min(step, len(self._failing) - 1)])
        index = min(max(stage, 0), len(self._plan.stages) - 1)
        runner.first_stage = index
        PlanExpert(self._plan, index).solve(runner)

    def plan_anew(self, runner: RolloutRunner) -> None:
        """Ask the expert again. See `Continuation.plan_anew`."""
        self._task.expert.solve(runner)

    def finish(self, runner: RolloutRunner, candidate: Candidate) -> None:
        """Resume the nominal plan, or ask the expert. See `Continuation.finish`."""
        if candidate.resume_index < 0:
            self._task.expert.solve(runner)
            return
        runner.first_stage = candidate.resume_index
        PlanExpert(self._plan, candidate.resume_index).solve(runner)


def most_steps(nominal: NominalRollout, embodiment: EmbodimentSpec) -> int:
    """Return the control steps that the expert may take from any state to solve the task.

    Args:
        nominal: The nominal rollout of the same seed.
        embodiment: The robot.
    """
    return len(nominal.trace) + embodiment.steps(_MORE_SECONDS)
