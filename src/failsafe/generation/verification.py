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
from failsafe.experts.driver import Command, Driver, Interceptor, Moment
from failsafe.experts.tasks import Task
from failsafe.generation.corrections import Candidate, propose
from failsafe.generation.rollouts import Perturbed, Twin
from failsafe.records import poses
from failsafe.records.case import Attempt, Correction, Label, Verification, Way
from failsafe.records.trace import Trace

NOISE_METRES = 0.002
NOISE_RADIANS = np.deg2rad(1.0)
_NOISE = np.array([NOISE_METRES] * 3 + [NOISE_RADIANS] * 3)
NOISE_WORDS = "actuation noise of 2 mm and 1 degree (standard deviations), commands one step late"
MAX_ATTEMPTS = 4
"""Candidates of each kind tried for one moment, shortest first."""
_STEPS_BEYOND_TWIN = 150


@dataclass(frozen=True)
class Proof:
    """What was found for one moment: the label, and the recovered rollout if there is one."""

    label: Label
    recovered: Trace | None


class ActuationNoise(Interceptor):
    """What a real arm adds: every pose it is led to a little off, and every command one step late.

    An arm that is told to stay stays where it is: the error is drawn anew only with a new target.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._waiting: Command | None = None
        self._target: poses.Pose | None = None
        self._error = np.zeros(6)

    def intercept(self, moment: Moment, command: Command) -> Command:
        """The command before this one, with an error on it."""
        late, self._waiting = self._waiting or command, Command(command.target, command.gripper)
        if self._target is None or not np.array_equal(late.target, self._target):
            self._target = late.target
            self._error = self._rng.normal(size=6) * _NOISE
        return Command(poses.apply_delta(late.target, self._error), late.gripper)


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
    for candidate in _few(propose(task, twin, trace, step, driver)):
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
                fault_ended_succeeds=_fault_ended_succeeds(task, twin, trace, step, stage),
                rollouts=rollouts,
                successes=successes,
                attempts=tuple(attempts),
                noise=NOISE_WORDS if rollouts > 1 else "",
            )
            return Proof(Label(step, stage_name, correction, evidence), recovered)
    evidence = Verification(
        prefix_exact=exact,
        without_succeeds=failing.success,
        with_succeeds=False,
        fault_ended_succeeds=_fault_ended_succeeds(task, twin, trace, step, stage),
        rollouts=0,
        successes=0,
        attempts=tuple(attempts),
    )
    return Proof(Label(step, stage_name, None, evidence), None)


def recover_now(task: Task, twin: Twin, state: Float32[np.ndarray, "S"], gripper: float) -> Trace | None:
    """The shortest way back from a state of any episode, tried out in a simulator of its own.

    Where the simulator cannot restore exactly, the state is left by millimetres: good for an oracle in an
    evaluation, not for a label.

    Args:
        task: The task, with a simulator that is free.
        twin: The nominal twin of the episode's initial state.
        state: The simulator's state now.
        gripper: What the fingers were told last.

    Returns:
        The recovered rollout, whose first steps are the correction; None where nothing that was tried ends in
        success.
    """
    simulator = task.simulator

    def begin() -> Driver:
        simulator.reset(twin.record.seed)
        simulator.restore(state)
        driver = Driver(simulator, max_steps=len(twin.trace) + _STEPS_BEYOND_TWIN)
        driver.gripper = gripper
        return driver

    simulator.reset(twin.record.seed)
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
        states=np.stack([twin.trace.states[0], state]),
    )
    for candidate in _few(propose(task, twin, trace, 1, live)):
        driver = begin()
        if _carry_out(task, twin, candidate, driver)[0]:
            return driver.trace()
    return None


def _few(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The shortest candidates of each kind, still shortest first."""
    counts: Counter[Way] = Counter()
    few: list[Candidate] = []
    for candidate in candidates:
        counts[candidate.way] += 1
        if counts[candidate.way] <= MAX_ATTEMPTS:
            few.append(candidate)
    return few


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


def _fault_ended_succeeds(task: Task, twin: Twin, trace: Trace, step: int, stage: int) -> bool:
    """Whether it is enough that the cause ends: no correction, and the plan goes on at its present stage."""
    index = min(max(stage, 0), len(twin.record.plan.stages) - 1)
    nothing = Candidate(Way.NOMINAL_PATH, (), index, twin.record.plan.stages[index].name)
    driver, _ = _branch(task, twin, trace, step)
    return _carry_out(task, twin, nothing, driver)[0]


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
