"""When an episode left the way to success: the control steps that the expert needs from each of its states.

On the way to success this number falls by one in every control step. The episode has left the way where the
number stops falling for good: from then on the policy made no progress that the expert would not have had to
make, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from failsafe.experts.tasks import Task
from failsafe.generation.continuations import most_steps
from failsafe.generation.nominal import NominalRollout
from failsafe.generation.verification import ends_in_success
from failsafe.records.trace import Trace
from failsafe.rollouts.branching import branch

EVERY_SECONDS = 0.5
"""Time between the states from which the expert is asked."""
_LESS = 2
"""Control steps by which the number has to fall to count as progress: plans are rounded to whole steps."""


@dataclass(frozen=True)
class ExpertSteps:
    """Control steps that the expert needs from states of an episode.

    Attributes:
        steps: Control steps of the episode at which the expert was asked, ascending.
        needed: Control steps that the expert needs from there to succeed, -1 where it fails.
    """

    steps: tuple[int, ...]
    needed: tuple[int, ...]

    @property
    def left_step(self) -> int:
        """Control step from which on the number never falls again; 0 if the expert never succeeds."""
        known = [(step, needed) for step, needed in zip(self.steps, self.needed, strict=True) if needed >= 0]
        least = min((needed for _, needed in known), default=0)
        return next((step for step, needed in known if needed <= least + _LESS), 0)

    @property
    def lost_step(self) -> int | None:
        """First of the steps from which on the expert always fails; None if it succeeds from the last one."""
        succeeds = [step for step, needed in zip(self.steps, self.needed, strict=True) if needed >= 0]
        return next((step for step in self.steps if not succeeds or step > succeeds[-1]), None)

    def stages(self, nominal: NominalRollout, length: int) -> Int[np.ndarray, "T"]:
        """Return the stage of the nominal plan that is due in each control step, by the steps still needed.

        Args:
            nominal: The nominal rollout of the same initial state.
            length: Control steps T of the episode.
        """
        of_nominal, due = nominal.trace.stages, np.zeros(length, dtype=np.int16)
        for step, needed in zip(self.steps, self.needed, strict=True):
            if needed >= 0:
                due[step:] = of_nominal[min(max(len(of_nominal) - needed, 0), len(of_nominal) - 1)]
        return due


def measure_expert_steps(task: Task, nominal: NominalRollout, trace: Trace, close: bool) -> ExpertSteps:
    """Let the expert solve the task from states of an episode, every `EVERY_SECONDS`.

    Args:
        task: The task.
        nominal: The nominal rollout of the same initial state.
        trace: The episode.
        close: Whether restored states are good enough (`rollouts.branching.restores_closely`); otherwise each
            state is reached by replay.
    """
    simulator = task.simulator
    embodiment = simulator.spec.embodiment
    steps = tuple(range(0, len(trace) + 1, embodiment.steps(EVERY_SECONDS)))
    needed: list[int] = []
    for step in steps:
        runner = branch(
            simulator,
            nominal.record.seed,
            trace,
            step,
            exact=not close,
            more_steps=most_steps(nominal, embodiment),
            record=False,
        ).runner
        if simulator.evaluate().success:
            needed.append(0)
            continue
        before = runner.step_count
        success, _ = ends_in_success(task, task.expert.solve, runner)
        needed.append(runner.step_count - before if success else -1)
    return ExpertSteps(steps, tuple(needed))
