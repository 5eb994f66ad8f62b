"""The proof of a correction: from the same state, without it the rollout fails, with it it succeeds.

The cause ends where the correction begins: a monitor that takes over replaces whatever sent the wrong
commands. So that this alone is not taken for the correction's merit, a third arm ends the cause and corrects
nothing; its outcome is kept beside the proof.

Where a simulator cannot restore a state exactly, every arm replays the failing rollout's prefix from the
same beginning and is compared with it bit for bit. The arm without the correction is then the recorded
rollout itself: the same state and the same commands gave the failure that was judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from failsafe.errors import DivergedError, PlanError
from failsafe.experts.contract import PlanExpert
from failsafe.experts.tasks import Task
from failsafe.generation.corrections import Candidate, propose
from failsafe.generation.nominal import NominalRollout, PerturbedRollout
from failsafe.records.case import Attempt, Correction, Label, RecoveryStrategy, Verification
from failsafe.records.trace import Trace
from failsafe.rollouts.hooks import Hook
from failsafe.rollouts.noise import NOISE_DESCRIPTION, ActuationNoise
from failsafe.rollouts.runner import RolloutRunner

MAX_ATTEMPTS = 4
"""Candidates of each kind tried for one moment, shortest first."""
_STEPS_BEYOND_TWIN = 150


@dataclass(frozen=True)
class Proof:
    """What was found for one moment: the label, and the recovered rollout if there is one."""

    label: Label
    recovered: Trace | None


def prove(
    task: Task,
    nominal: NominalRollout,
    failing: PerturbedRollout,
    step: int,
    rollouts: int,
    rng: np.random.Generator,
) -> Proof:
    """Find the shortest correction that verifies at one moment of a failing rollout.

    Args:
        task: The task.
        nominal: Its nominal twin.
        failing: The failing rollout.
        step: The moment, in its control steps.
        rollouts: Rollouts with the correction: the first exact, the others with noise.
        rng: Where the noise comes from.
    """
    trace = failing.trace
    stage = int(trace.stages[min(step, len(trace) - 1)])
    stage_name = failing.plan.stages[min(stage, len(failing.plan.stages) - 1)].name
    runner, exact = _branch(task, nominal, trace, step)
    attempts: list[Attempt] = []
    fresh: RolloutRunner | None = runner
    for candidate in _few(propose(task, nominal, trace, step, runner)):
        if fresh is None:
            runner, again = _branch(task, nominal, trace, step)
            exact = exact and again
        fresh = None  # the first candidate uses the branch that the others were proposed from
        success, reason = _carry_out(task, nominal, candidate, runner)
        attempts.append(Attempt(candidate.strategy, len(candidate.actions), success, reason))
        if success and exact:
            recovered = runner.trace()
            correction = Correction(
                actions=candidate.actions,
                frame="robot_base",
                strategy=candidate.strategy,
                resume_stage=candidate.resume_stage,
                resume_index=candidate.resume_index,
                plan_stages=tuple(s.name for s in runner.stages),
            )
            successes = 1 + _count_noisy(task, nominal, trace, step, candidate, rollouts - 1, rng)
            evidence = Verification(
                prefix_exact=exact,
                without_succeeds=failing.success,
                with_succeeds=True,
                fault_ended_succeeds=_fault_ended_succeeds(task, nominal, trace, step, stage),
                rollouts=rollouts,
                successes=successes,
                attempts=tuple(attempts),
                noise=NOISE_DESCRIPTION if rollouts > 1 else "",
            )
            return Proof(Label(step, stage_name, correction, evidence), recovered)
    evidence = Verification(
        prefix_exact=exact,
        without_succeeds=failing.success,
        with_succeeds=False,
        fault_ended_succeeds=_fault_ended_succeeds(task, nominal, trace, step, stage),
        rollouts=0,
        successes=0,
        attempts=tuple(attempts),
    )
    return Proof(Label(step, stage_name, None, evidence), None)


def recover_now(
    task: Task, nominal: NominalRollout, state: Float32[np.ndarray, "S"], gripper: float
) -> Trace | None:
    """The shortest way back from a state of any episode, tried out in a simulator of its own.

    Where the simulator cannot restore exactly, the state is left by millimetres: good for an oracle in an
    evaluation, not for a label.

    Args:
        task: The task, with a simulator that is free.
        nominal: The nominal twin of the episode's initial state.
        state: The simulator's state now.
        gripper: What the fingers were told last.

    Returns:
        The recovered rollout, whose first steps are the correction; None where nothing that was tried ends in
        success.
    """
    simulator = task.simulator

    def begin() -> RolloutRunner:
        simulator.reset(nominal.record.seed)
        simulator.restore(state)
        runner = RolloutRunner(simulator, max_steps=len(nominal.trace) + _STEPS_BEYOND_TWIN)
        runner.gripper = gripper
        return runner

    simulator.reset(nominal.record.seed)
    first, live = simulator.observe(), begin()
    now = live.observation
    trace = Trace(
        commands=np.zeros((1, simulator.spec.command_size), dtype=np.float32),
        targets=now.tcp_pose[None].astype(np.float32),
        gripper_commands=np.array([gripper], dtype=np.float32),
        stages=np.zeros(1, dtype=np.int16),
        tcp_poses=np.stack([first.tcp_pose, now.tcp_pose]).astype(np.float32),
        gripper_widths=np.array([first.gripper_width, now.gripper_width], dtype=np.float32),
        objects=np.stack([first.objects, now.objects]).astype(np.float32),
        states=np.stack([nominal.trace.states[0], state]),
    )
    for candidate in _few(propose(task, nominal, trace, 1, live)):
        runner = begin()
        if _carry_out(task, nominal, candidate, runner)[0]:
            return runner.trace()
    return None


def _few(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The shortest candidates of each kind, still shortest first."""
    counts: Counter[RecoveryStrategy] = Counter()
    few: list[Candidate] = []
    for candidate in candidates:
        counts[candidate.strategy] += 1
        if counts[candidate.strategy] <= MAX_ATTEMPTS:
            few.append(candidate)
    return few


def _branch(
    task: Task, nominal: NominalRollout, trace: Trace, step: int, noise: Sequence[Hook] = ()
) -> tuple[RolloutRunner, bool]:
    """A driver in the failing rollout's state at a step, and whether it is that state bit for bit."""
    task.simulator.reset(nominal.record.seed)
    runner = RolloutRunner(task.simulator, noise, max_steps=step + len(nominal.trace) + _STEPS_BEYOND_TWIN)
    exact = runner.replay(trace, step)
    runner.restart_from_measured_pose()
    return runner, exact


def _carry_out(
    task: Task, nominal: NominalRollout, candidate: Candidate, runner: RolloutRunner
) -> tuple[bool, str]:
    """The correction, then the expert's remaining plan; success, or why not."""
    try:
        for row in candidate.actions:
            runner.act(np.array(row[:6]), row[6])
        if candidate.resume_index >= 0:
            runner.first_stage = candidate.resume_index
            PlanExpert(nominal.record.plan, candidate.resume_index).solve(runner)
        else:
            task.expert.solve(runner)
        runner.settle()
    except PlanError as error:
        return False, f"planner: {error}"
    except DivergedError as error:
        return False, f"physics: {error}"
    success = task.simulator.evaluate().success
    return success, "" if success else "the rollout with it did not end in success"


def _fault_ended_succeeds(task: Task, nominal: NominalRollout, trace: Trace, step: int, stage: int) -> bool:
    """Whether it is enough that the cause ends: no correction, and the plan goes on at its present stage."""
    index = min(max(stage, 0), len(nominal.record.plan.stages) - 1)
    nothing = Candidate(RecoveryStrategy.NOMINAL_PATH, (), index, nominal.record.plan.stages[index].name)
    runner, _ = _branch(task, nominal, trace, step)
    return _carry_out(task, nominal, nothing, runner)[0]


def _count_noisy(
    task: Task,
    nominal: NominalRollout,
    trace: Trace,
    step: int,
    candidate: Candidate,
    rollouts: int,
    rng: np.random.Generator,
) -> int:
    successes = 0
    for _ in range(rollouts):
        runner, _ = _branch(task, nominal, trace, step, [ActuationNoise(rng)])
        successes += _carry_out(task, nominal, candidate, runner)[0]
    return successes
