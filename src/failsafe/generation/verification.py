"""The proof of a correction: from the same state, without it the rollout fails, with it it succeeds.

Where a simulator cannot restore a state exactly, every arm replays the failing rollout's prefix from the
same beginning and is compared with it bit for bit. The arm without the correction is then the recorded
rollout itself: the same state and the same commands gave the failure that was judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from failsafe.errors import DivergedError, PlanError
from failsafe.experts.contract import PlanExpert
from failsafe.experts.driver import Command, Driver, Interceptor, Moment
from failsafe.experts.tasks import Task
from failsafe.generation.corrections import Candidate, propose
from failsafe.generation.rollouts import Perturbed, Twin
from failsafe.records import poses
from failsafe.records.case import Attempt, Correction, Label, Verification
from failsafe.records.trace import Trace

NOISE_METRES = 0.002
NOISE_RADIANS = np.deg2rad(1.0)
NOISE_WORDS = "actuation noise of 2 mm and 1 degree (standard deviations), commands one step late"
MAX_ATTEMPTS = 6
"""Candidates tried for one moment, shortest first."""
_STEPS_BEYOND_TWIN = 150


@dataclass(frozen=True)
class Proof:
    """What was found for one moment: the label, and the recovered rollout if there is one."""

    label: Label
    recovered: Trace | None


class ActuationNoise(Interceptor):
    """What a real arm adds: every command a little off, and one step late."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._waiting: Command | None = None

    def intercept(self, moment: Moment, command: Command) -> Command:
        """The command before this one, with noise on it."""
        late, self._waiting = self._waiting or command, command
        delta = self._rng.normal(size=6)
        delta[:3] *= NOISE_METRES
        delta[3:] *= NOISE_RADIANS
        return Command(poses.apply_delta(late.target, delta), late.gripper)


def prove(
    task: Task, twin: Twin, failing: Perturbed, step: int, rollouts: int, rng: np.random.Generator
) -> Proof:
    """Find the shortest correction that verifies at one moment of a failing rollout.

    Args:
        task: The task.
        twin: Its nominal twin.
        failing: The failing rollout.
        step: The moment, in its control steps.
        rollouts: Rollouts with the correction: the first exact, the others with noise.
        rng: Where the noise comes from.
    """
    trace = failing.trace
    stage = int(trace.stages[min(step, len(trace) - 1)])
    stage_name = failing.plan.stages[min(stage, len(failing.plan.stages) - 1)].name
    driver, exact = _branch(task, twin, trace, step)
    attempts: list[Attempt] = []
    fresh: Driver | None = driver
    for candidate in propose(task, twin, trace, step, driver)[:MAX_ATTEMPTS]:
        if fresh is None:
            driver, again = _branch(task, twin, trace, step)
            exact = exact and again
        fresh = None  # the first candidate uses the branch that the others were proposed from
        success, reason = _carry_out(task, twin, candidate, driver)
        attempts.append(Attempt(candidate.way, len(candidate.actions), success, reason))
        if success and exact:
            recovered = driver.trace()
            correction = Correction(
                actions=candidate.actions,
                frame="robot_base",
                way=candidate.way,
                resume_stage=candidate.resume_stage,
                resume_index=candidate.resume_index,
                plan_stages=tuple(s.name for s in driver.stages),
            )
            successes = 1 + _count_noisy(task, twin, trace, step, candidate, rollouts - 1, rng)
            evidence = Verification(
                prefix_exact=exact,
                without_succeeds=failing.success,
                with_succeeds=True,
                rollouts=rollouts,
                successes=successes,
                attempts=tuple(attempts),
                noise=NOISE_WORDS if rollouts > 1 else "",
            )
            return Proof(Label(step, stage_name, correction, evidence), recovered)
    evidence = Verification(exact, failing.success, False, 0, 0, tuple(attempts))
    return Proof(Label(step, stage_name, None, evidence), None)


def _branch(
    task: Task, twin: Twin, trace: Trace, step: int, noise: Sequence[Interceptor] = ()
) -> tuple[Driver, bool]:
    """A driver in the failing rollout's state at a step, and whether it is that state bit for bit."""
    task.simulator.reset(twin.record.seed)
    driver = Driver(task.simulator, noise, max_steps=step + len(twin.trace) + _STEPS_BEYOND_TWIN)
    exact = driver.replay(trace, step)
    driver.restart_from_measured_pose()
    return driver, exact


def _carry_out(task: Task, twin: Twin, candidate: Candidate, driver: Driver) -> tuple[bool, str]:
    """The correction, then the expert's remaining plan; success, or why not."""
    try:
        for row in candidate.actions:
            driver.act(np.array(row[:6]), row[6])
        if candidate.resume_index >= 0:
            driver.first_stage = candidate.resume_index
            PlanExpert(twin.record.plan, candidate.resume_index).solve(driver)
        else:
            task.expert.solve(driver)
        driver.settle()
    except PlanError as error:
        return False, f"planner: {error}"
    except DivergedError as error:
        return False, f"physics: {error}"
    success = task.simulator.evaluate().success
    return success, "" if success else "the rollout with it did not end in success"


def _count_noisy(
    task: Task,
    twin: Twin,
    trace: Trace,
    step: int,
    candidate: Candidate,
    rollouts: int,
    rng: np.random.Generator,
) -> int:
    successes = 0
    for _ in range(rollouts):
        driver, _ = _branch(task, twin, trace, step, [ActuationNoise(rng)])
        successes += _carry_out(task, twin, candidate, driver)[0]
    return successes
