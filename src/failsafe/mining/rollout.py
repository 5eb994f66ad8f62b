"""Rollouts of a policy: whole episodes, and the branches of a proof in which the policy goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from failsafe.errors import DivergedError, PlanError, PolicyError
from failsafe.evaluation.episodes import RenderedViews, Stopwatch
from failsafe.evaluation.scenarios import Scenario
from failsafe.experts.tasks import Task
from failsafe.generation.corrections import Candidate
from failsafe.perturbations.injection import Injection
from failsafe.policies.calls import ask, policy_errors
from failsafe.policies.contract import (
    Policy,
    check_fit,
    check_readings,
    needs_full_quality,
    reset_policy,
)
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose
from failsafe.records.trace import Trace
from failsafe.rollouts.hooks import Hook
from failsafe.rollouts.rest import RestDetector
from failsafe.rollouts.runner import RolloutRunner, settle_steps
from failsafe.rollouts.stopping import StopOnSuccess
from failsafe.simulators.contract import RendersFully

STILL_SECONDS = 1.5
"""Time without any motion after which a branch of a deterministic policy is over: it will not move again."""
Rows = tuple[Float[np.ndarray, "7"], ...]
"""Actions that a policy has planned and not yet carried out."""


@dataclass(frozen=True)
class Intention:
    """What a policy is about to do before a control step.

    Attributes:
        rows: Actions that it has planned and not yet carried out.
        intended: Tool pose that it asked for last, from which its next action counts. [7]
        commanded: The pose commanded last, after hooks and limits. [7]
        gripper: Gripper command that it asked for last, -1 (closed) to +1 (open).
    """

    rows: Rows
    intended: Pose
    commanded: Pose
    gripper: float


@dataclass(frozen=True)
class PolicyEpisode:
    """An episode of a policy.

    Attributes:
        trace: The rollout, settling included.
        success: The task's judgement at its end.
        error: What the policy raised, or how the physics diverged; empty otherwise.
        intentions: What the policy was about to do before each control step of its own, and after the last.
        injections: The run-time perturbations of the episode.
        limit: Control steps after which the episode is over, settling included.
    """

    trace: Trace
    success: bool
    error: str
    intentions: tuple[Intention, ...]
    injections: tuple[Injection, ...]
    limit: int


class PolicyDriver:
    """Moves a robot as a policy asks.

    Args:
        task: The task.
        policy: The policy.

    Raises:
        PolicyError: If policy and simulator do not fit together.
    """

    def __init__(self, task: Task, policy: Policy) -> None:
        self._simulator, self.policy = task.simulator, policy
        check_fit(policy, task.simulator.spec.embodiment.control_hz, task.simulator.spec.cameras)
        check_readings(policy, task.simulator.observe().readings)
        if isinstance(task.simulator, RendersFully):
            task.simulator.render_fully(needs_full_quality(policy))
        self._sizes = dict(policy.views)
        self._cameras = {view: task.simulator.camera(view) for view in policy.views}
        self._watch = Stopwatch()

    def drive(
        self, runner: RolloutRunner, planned: Iterable[np.ndarray] = (), stop_still: bool = False
    ) -> list[Intention]:
        """Act until a hook ends the rollout, or only the steps for settling are left.

        Args:
            runner: The rollout runner.
            planned: Actions to carry out before the policy is asked.
            stop_still: Stop where nothing has moved for `STILL_SECONDS`.

        Returns:
            What the policy was about to do before each control step, and after the last.

        Raises:
            PolicyError: If the policy raises, or returns no valid chunk.
            DivergedError: If the physics diverges.
        """
        space, queue, intentions = self.policy.action_space, deque(planned), list[Intention]()
        reserve, embodiment = settle_steps(self._simulator), self._simulator.spec.embodiment
        rest, still = RestDetector(embodiment.control_hz), 0
        while runner.steps_left > reserve and not runner.ended:
            if stop_still and still >= embodiment.steps(STILL_SECONDS):
                break
            before = runner.observation
            seen = runner.sense(self._observe(runner))
            if not queue:
                queue.extend(ask(self.policy, replace(seen, target_pose=runner.intended)))
            intentions.append(_intention(runner, queue))
            runner.track(*space.to_pose(queue.popleft(), runner.intended, runner.observation.tcp_pose))
            still = still + 1 if rest.update(before, runner.observation) else 0
        return [*intentions, _intention(runner, queue)]

    def is_deterministic(self, seed: int) -> bool:
        """Return whether the policy gives the same actions twice for the first observation of an episode.

        Args:
            seed: Seed of the initial state.

        Raises:
            PolicyError: If the policy raises, or returns no valid chunk.
        """
        self._simulator.reset(seed)
        chunks: list[bytes] = []
        for _ in range(2):
            self.reset(seed)
            chunks.append(np.stack(ask(self.policy, self._observe(RolloutRunner(self._simulator)))).tobytes())
        return chunks[0] == chunks[1]

    def reset(self, seed: int) -> None:
        """Begin an episode of the policy.

        Raises:
            PolicyError: If it does not accept the instruction.
        """
        with policy_errors(self.policy):
            reset_policy(self.policy, self._simulator.episode.instruction, seed)
            self.policy.drop_queue()

    def _observe(self, runner: RolloutRunner) -> PolicyObservation:
        truth = runner.observation
        views = RenderedViews(self._simulator, runner.state, self._cameras, self._sizes, self._watch)
        return PolicyObservation(views, truth.tcp_pose, runner.intended, truth.gripper_width, truth.readings)


def run_policy(
    task: Task, driver: PolicyDriver, seed: int, scenario: Scenario, max_steps: int
) -> PolicyEpisode:
    """Run one episode of a policy, and record it.

    Args:
        task: The task.
        driver: The policy.
        seed: Seed of the initial state.
        scenario: The run-time perturbation, if any.
        max_steps: Control steps after which the episode is over, settling not counted.

    Raises:
        PolicyError: If policy and simulator do not fit together; later errors of the policy end the episode.
    """
    simulator = task.simulator
    check_fit(driver.policy, simulator.spec.embodiment.control_hz, simulator.spec.cameras)
    scenario.start(simulator, seed)
    injections = scenario.injections(simulator, seed)
    limit = max_steps + settle_steps(simulator)
    runner = RolloutRunner(simulator, [*injections, StopOnSuccess()], max_steps=limit)
    error, intentions = "", list[Intention]()
    try:
        driver.reset(seed)
        intentions = driver.drive(runner)
        runner.settle()
    except PolicyError as raised:
        error = f"policy: {raised}"
    except DivergedError as raised:
        error = f"physics: {raised}"
    success = not error and simulator.evaluate().success
    return PolicyEpisode(runner.trace(), success, error, tuple(intentions), tuple(injections), limit)


class PolicyContinuation:
    """A policy goes on.

    A policy that remembers more than the actions it has planned is asked as at the beginning of an episode.

    Args:
        name: Name of the policy in records.
        driver: The policy.
        seed: Seed of the episode.
        episode: The failed episode of the policy.
        samples: Rollouts of each branch without a correction.
    """

    def __init__(
        self, name: str, driver: PolicyDriver, seed: int, episode: PolicyEpisode, samples: int
    ) -> None:
        self.name, self.samples = name, samples
        self._driver, self._seed, self._episode = driver, seed, episode

    def hooks(self) -> Sequence[Hook]:
        """Return the stopping rule of an episode: a success that lasts."""
        return (StopOnSuccess(),)

    def more_steps(self, step: int) -> int:
        """Return what is left of the episode: the failure had no more. See `Continuation.more_steps`."""
        return self._episode.limit - step

    def go_on(self, runner: RolloutRunner, step: int) -> None:
        """Carry out what the policy had planned, then ask it. See `Continuation.go_on`."""
        # While the episode settles, what the policy asked for last holds.
        before = self._episode.intentions[min(step, len(self._episode.intentions) - 1)]
        # The policy counts from the pose that it asked for, not from the measured one, and not from the
        # commanded one, which a hook may have changed.
        runner.intended, runner.commanded, runner.gripper = before.intended, before.commanded, before.gripper
        self._drive(runner, before.rows)

    def plan_anew(self, runner: RolloutRunner) -> None:
        """Drop what the policy had planned, and ask it. See `Continuation.plan_anew`."""
        self._drive(runner)

    def finish(self, runner: RolloutRunner, candidate: Candidate) -> None:
        """Hand back to the policy. See `Continuation.finish`."""
        self._drive(runner)

    def _drive(self, runner: RolloutRunner, planned: Rows = ()) -> None:
        try:
            self._driver.reset(self._seed)
            self._driver.drive(runner, planned, stop_still=self.samples == 1)
        except PolicyError as error:
            raise PlanError(f"policy: {error}") from error


def _intention(runner: RolloutRunner, queue: Iterable[np.ndarray]) -> Intention:
    return Intention(tuple(queue), runner.intended, runner.commanded, runner.gripper)
