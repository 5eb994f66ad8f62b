"""Verify corrections: from the same state, the rollout fails without a correction and succeeds with it.

A proof has four branches from one state:

1. The cause goes on. This is the recorded rollout itself: the same state and the same commands led to the
   failure that was judged.
2. The cause ends, and the continuation goes on. Where only the world was disturbed, and that is over, this is
   the recorded rollout, too.
3. The cause ends, and the continuation plans anew from here.
4. The cause ends, the correction is carried out, and the continuation goes on from there. The cause ends
   because a monitor that takes over replaces whatever sent the wrong commands.

A correction is verified if (1) fails and (4) succeeds, and needed if (2) and (3) fail as well. (2) and (3)
are tried for verified corrections alone, and (3) only if (2) fails: otherwise their outcome changes nothing.

A branch takes as long as its continuation may (`Continuation.more_steps`): a policy until the end of its
episode, as in branch 1; the expert, which has no time limit, longer than its nominal rollout.

Every branch of a proof is exact (`rollouts.branching`). Noisy rollouts, and the screening of candidates,
begin from a restored state, which may be inexact; the record says so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from failsafe.errors import DivergedError, PlanError
from failsafe.experts.tasks import Task
from failsafe.generation.candidates import CandidateStatistics
from failsafe.generation.continuations import Continuation, ExpertContinuation
from failsafe.generation.corrections import Candidate, propose
from failsafe.generation.nominal import NominalRollout
from failsafe.generation.perturbed import PerturbedRollout
from failsafe.records.case import (
    Attempt,
    BranchMethod,
    Correction,
    Label,
    Verification,
)
from failsafe.records.trace import Trace
from failsafe.rollouts.branching import Branch, branch, restores_closely
from failsafe.rollouts.hooks import Hook
from failsafe.rollouts.noise import NOISE_DESCRIPTION, ActuationNoise
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.contract import Exactness

SCREENED_OUT = "screening: no success from a restored state"


@dataclass(frozen=True)
class Proof:
    """The result for one step of a failing rollout.

    Attributes:
        label: The label, with a correction if one was verified.
        recovered: The recovered rollout, None if there is none.
    """

    label: Label
    recovered: Trace | None


class Verifier:
    """Finds and proves corrections for one failing rollout.

    Args:
        task: The task.
        nominal: Its nominal rollout.
        failing: The failing rollout.
        statistics: What is known about candidates; by default nothing.
        mode: Name of the perturbation mode, by which `statistics` counts.
        continuation: What goes on after a correction; by default the expert.
    """

    def __init__(
        self,
        task: Task,
        nominal: NominalRollout,
        failing: PerturbedRollout,
        statistics: CandidateStatistics | None = None,
        mode: str = "",
        continuation: Continuation | None = None,
    ) -> None:
        self._task, self._nominal, self._failing = task, nominal, failing
        self._statistics, self._mode = statistics or CandidateStatistics(), mode
        self._continuation = continuation or ExpertContinuation(task, nominal, failing.trace)

    @functools.cached_property
    def restores_closely(self) -> bool:
        """Whether noisy rollouts and screening may begin from a restored state in this task."""
        nominal = self._nominal
        return restores_closely(self._task.simulator, nominal.record.seed, nominal.trace)

    def prove(
        self,
        step: int,
        rollouts: int,
        rng: np.random.Generator,
        candidates: Sequence[Candidate] | None = None,
    ) -> Proof:
        """Find the shortest correction that verifies at one step.

        Args:
            step: Control step before whose command the correction begins.
            rollouts: Rollouts with the correction: the first exact, the others with noise.
            rng: Source of the noise.
            candidates: What to try, shortest first; by default what is proposed and selected for the step.

        Raises:
            DivergedError: If the physics diverges in a replayed prefix.
        """
        trace = self._failing.trace
        stage = int(trace.stages[min(step, len(trace) - 1)])
        stages = self._failing.plan.stages
        stage_name = stages[min(stage, len(stages) - 1)].name
        first: Branch | None = self._branch(step)
        exact, method = first.exact, first.method
        attempts: list[Attempt] = []

        def verification(**outcome: Any) -> Verification:
            return Verification(
                prefix_exact=exact,
                without_succeeds=self._failing.success,
                attempts=tuple(attempts),
                continuation=self._continuation.name,
                without_samples=self._continuation.samples,
                branch=method,
                **outcome,
            )

        if candidates is None:
            proposed = propose(self._task, self._nominal, trace, step, first.runner)
            candidates = self._statistics.select(self._mode, proposed)
        for candidate in candidates:
            strategy, length = candidate.strategy, len(candidate.actions)
            # The first candidate uses the branch that all were proposed from: screening would save nothing.
            if first is None and self._fails_screening(candidate, step):
                attempts.append(Attempt(strategy, length, False, SCREENED_OUT, screened=True))
                continue
            branched, first = first or self._branch(step), None
            exact = exact and branched.exact
            success, reason = self._carry_out(candidate, branched.runner)
            attempts.append(Attempt(strategy, length, success, reason))
            if not (success and exact):
                continue
            recovered, resumed = branched.trace(), branched.runner.stages
            noisy = [self._succeeds_with_noise(candidate, step, rng) for _ in range(rollouts - 1)]
            cause_ended, replanned, same = self._without_correction(step)
            exact = same
            verified = verification(
                with_succeeds=True,
                rollouts=rollouts,
                successes=1 + sum(noisy),
                noise=NOISE_DESCRIPTION if noisy else "",
                noisy_branch=self._inexact_method if noisy else None,
                cause_ended_succeeds=cause_ended,
                replanned_succeeds=replanned,
            )
            correction = Correction(
                actions=candidate.actions,
                frame="robot_base",
                strategy=strategy,
                resume_stage=candidate.resume_stage,
                resume_index=candidate.resume_index,
                plan_stages=tuple(s.name for s in resumed),
            )
            return Proof(Label(step, stage_name, correction, verified), recovered)
        unverified = verification(with_succeeds=False, rollouts=0, successes=0)
        return Proof(Label(step, stage_name, None, unverified), None)

    @property
    def _inexact_method(self) -> BranchMethod:
        return BranchMethod.RESTORE if self.restores_closely else BranchMethod.REPLAY

    def _branch(
        self, step: int, hooks: Sequence[Hook] = (), exact: bool = True, record: bool = True
    ) -> Branch:
        simulator, nominal = self._task.simulator, self._nominal
        return branch(
            simulator,
            nominal.record.seed,
            self._failing.trace,
            step,
            [*hooks, *self._continuation.hooks()],
            exact=exact or not self.restores_closely,
            more_steps=self._continuation.more_steps(step),
            record=record,
        )

    def _fails_screening(self, candidate: Candidate, step: int) -> bool:
        """Whether a candidate is screened and fails: it is then not worth an exact branch."""
        rest = len(candidate.actions) + len(self._nominal.trace)
        if candidate.resume_index >= 0:
            rest -= self._nominal.record.spans[candidate.resume_index].start
        replays = self._task.simulator.spec.exactness is Exactness.REPLAY
        if not self._statistics.screens(self._mode, candidate, step if replays else 0, rest):
            return False
        if not self.restores_closely:
            return False
        runner = self._branch(step, exact=False, record=False).runner
        return not self._carry_out(candidate, runner)[0]

    def _succeeds_with_noise(self, candidate: Candidate, step: int, rng: np.random.Generator) -> bool:
        runner = self._branch(step, [ActuationNoise(rng)], exact=False, record=False).runner
        return self._carry_out(candidate, runner)[0]

    def _carry_out(self, candidate: Candidate, runner: RolloutRunner) -> tuple[bool, str]:
        return carry_out(self._task, self._continuation, candidate, runner)

    def _without_correction(self, step: int) -> tuple[bool, bool | None, bool]:
        """Return the outcomes of branches 2 and 3, and whether both were exact."""
        going_on, exact = self._continuation, True

        def succeeds(what: Callable[[RolloutRunner], None]) -> bool:
            nonlocal exact
            for _ in range(going_on.samples):
                branched = self._branch(step, record=False)
                exact = exact and branched.exact
                if ends_in_success(self._task, what, branched.runner)[0]:
                    return True
            return False

        if self._failing.cause_is_over(step) and going_on.samples == 1:
            cause_ended = self._failing.success
        else:
            cause_ended = succeeds(lambda runner: going_on.go_on(runner, step))
        return cause_ended, None if cause_ended else succeeds(going_on.plan_anew), exact


def carry_out(
    task: Task, continuation: Continuation, candidate: Candidate, runner: RolloutRunner
) -> tuple[bool, str]:
    """Carry out a correction, and let the continuation go on.

    Args:
        task: The task.
        continuation: What goes on.
        candidate: The correction.
        runner: In the state in which the correction begins.

    Returns:
        Whether the rollout ends in success, and why not.
    """

    def correct_and_finish(runner: RolloutRunner) -> None:
        for row in candidate.actions:
            runner.act(np.array(row[:6]), row[6])
        continuation.finish(runner, candidate)

    return ends_in_success(task, correct_and_finish, runner)


def ends_in_success(
    task: Task, what: Callable[[RolloutRunner], None], runner: RolloutRunner
) -> tuple[bool, str]:
    """Carry something out, settle, and judge the task.

    Args:
        task: The task.
        what: Moves the robot.
        runner: In the state in which it begins.

    Returns:
        Whether the rollout ends in success, and why not.
    """
    try:
        what(runner)
        runner.settle()
    except PlanError as error:
        return False, f"planner: {error}"
    except DivergedError as error:
        return False, f"physics: {error}"
    success = task.simulator.evaluate().success
    return success, "" if success else "the rollout with it did not end in success"
