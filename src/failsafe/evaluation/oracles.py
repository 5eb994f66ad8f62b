"""`oracle-minimal`: the smallest correction that ground truth proves with the policy itself going on.

It is an estimate from below of what one correction and hand-back can reach, no bound: at most `MAX_TRIALS`
corrections are tried, and another one may help. The search tries corrections in whole episodes: the policy
acts up to a control step, the correction follows, then the policy goes on. The first episode that succeeds
is the result.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float32

from failsafe.errors import PolicyError
from failsafe.evaluation.episodes import EpisodeLimits, run_episode
from failsafe.evaluation.scenarios import Scenario
from failsafe.experts.tasks import Task
from failsafe.generation.corrections import Candidate, propose
from failsafe.generation.nominal import NominalRollout, run_nominal
from failsafe.monitors.waypoints import Waypoint, plan_waypoints
from failsafe.policies.contract import Frame, Policy, check_chunk, reset_policy
from failsafe.policies.wrapped import WrappedPolicy
from failsafe.records.case import RecoveryStrategy
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.episode import Episode, EpisodeKey
from failsafe.records.event import Event, EventKind
from failsafe.records.observation import PolicyObservation
from failsafe.records.plan import CLOSED, OPEN
from failsafe.records.trace import Trace
from failsafe.rollouts.branching import branch

MAX_TRIALS = 24
"""Corrections that are tried in one episode."""
_FIRST_SECONDS, _EVERY_SECONDS = 0.25, 1.0
"""Time from the beginning, or from the perturbation, to the first moment that is tried; time between two."""
_PER_STRATEGY = 2
"""Corrections of each strategy that are tried at one moment, shortest first."""
_OPEN_SHARE = 0.7
"""Share of the gripper's travel from which on it counts as open."""


def run_oracle_minimal(
    task: Task,
    policy: Policy,
    key: EpisodeKey,
    scenario: Scenario,
    limits: EpisodeLimits,
    alone: Episode,
    states: list[Float32[np.ndarray, "S"]] | None = None,
) -> Episode:
    """Run an episode in which the policy is corrected once, by a correction that makes it succeed.

    Args:
        task: The task.
        policy: The policy. It has to be deterministic: the same seed, the same episode.
        key: Which episode this is.
        scenario: What is unlike training.
        limits: When it ends.
        alone: Record of the same episode with the policy alone.
        states: Where to put the simulator's state before every step, for videos. Each [S]

    Returns:
        The corrected episode. Where the policy alone succeeds, or no correction helps, the policy is alone.

    Raises:
        PolicyError: If the policy, run again alone, ends otherwise than its record.
    """
    kept = [] if states is None else states

    def run(acting: Policy) -> Episode:
        kept.clear()
        return run_episode(task, acting, key, scenario, limits, states=kept)

    again = run(policy)
    if (again.ending, again.steps) != (alone.ending, alone.steps):
        raise PolicyError(
            f"{policy.name}: expected a deterministic policy for the condition {key.condition}, got two "
            f"episodes from seed {key.seed} of {key.task} that end differently ({alone.ending.value} after "
            f"{alone.steps} steps, {again.ending.value} after {again.steps}): leave the condition out"
        )
    if again.success or not kept:
        return again
    robot = task.simulator.spec.embodiment
    failing = list(kept)
    nominal = run_nominal(task, key.seed)
    for step, candidate in _candidates(task, nominal, failing, _moments(again, len(failing), robot)):
        corrected = run(CorrectedPolicy(policy, step, candidate.actions, robot))
        if corrected.success:
            stop = step + len(candidate.actions)
            acted = len(candidate.actions)
            events = [Event(step, EventKind.ALARM), Event(step, EventKind.TAKE_OVER, actions=acted)]
            if corrected.steps >= stop:
                events.append(Event(stop, EventKind.HAND_BACK))
            return replace(corrected, events=tuple(events))
    kept[:] = failing
    return again


class CorrectedPolicy(WrappedPolicy):
    """A policy that acts alone but for one correction at a known step; itself a policy, one action at a time.

    Args:
        policy: The base policy.
        step: Control step of the correction's first action.
        actions: The correction, as `Correction.actions`. [K, 7]
        embodiment: The robot, with its step limits and workspace.
    """

    def __init__(
        self, policy: Policy, step: int, actions: Sequence[Sequence[float]], embodiment: EmbodimentSpec
    ) -> None:
        super().__init__(policy)
        self._at, self._actions, self._embodiment = step, actions, embodiment
        self._queue: deque[np.ndarray] = deque()
        self._waypoints: deque[Waypoint] = deque()
        self._step = 0

    def reset(self, instruction: str, seed: int | None = None) -> None:
        """Start an episode.

        Args:
            instruction: The instruction of the episode.
            seed: Seed of the episode, for a base policy that takes one.
        """
        self._queue.clear()
        self._waypoints.clear()
        self._step = 0
        reset_policy(self._base, instruction, seed)

    def drop_queue(self) -> None:
        """Drop the queued actions of the base policy."""
        self._queue.clear()
        self._base.drop_queue()

    def act(self, observation: PolicyObservation) -> Float[np.ndarray, "1 7"]:
        """Return the next action: the base policy's, or the correction's.

        Raises:
            PolicyError: If the base policy returns no action that can be used.
        """
        target, measured = observation.target_pose, observation.tcp_pose
        if self._step == self._at:
            rows = (self._actions, Frame.BASE.value, measured, measured, self._embodiment)
            self._waypoints.extend(plan_waypoints(*rows))
            self.drop_queue()
        self._step += 1
        space = self._base.action_space
        if self._waypoints:
            waypoint = self._waypoints.popleft()
            return space.from_pose(waypoint.pose, waypoint.gripper, target, measured)[None]
        if not self._queue:
            self._queue.extend(check_chunk(self._base.name, self._base.act(observation), space.chunk))
        return self._queue.popleft()[None]


def _moments(failed: Episode, steps: int, robot: EmbodimentSpec) -> range:
    """Return the control steps at which corrections are tried, earliest first."""
    since = failed.injection_step or 0
    return range(since + robot.steps(_FIRST_SECONDS), steps, robot.steps(_EVERY_SECONDS))


def _candidates(
    task: Task, nominal: NominalRollout, states: Sequence[Float32[np.ndarray, "S"]], moments: Sequence[int]
) -> Iterator[tuple[int, Candidate]]:
    """Return control steps with corrections to try there, at most `MAX_TRIALS`."""
    tried = 0
    for step in moments:
        counts: Counter[RecoveryStrategy] = Counter()
        for candidate in _propose(task, nominal, states, step):
            counts[candidate.strategy] += 1
            if counts[candidate.strategy] > _PER_STRATEGY:
                continue
            if tried == MAX_TRIALS:
                return
            tried += 1
            yield step, candidate


def _propose(
    task: Task, nominal: NominalRollout, states: Sequence[Float32[np.ndarray, "S"]], step: int
) -> list[Candidate]:
    """Return the candidates at a step, shortest first. The state is restored, which is exact enough here."""
    simulator = task.simulator
    simulator.reset(nominal.record.seed)
    before = simulator.observe()
    simulator.restore(states[step])
    now = simulator.observe()
    gripper = CLOSED if now.gripper_width < _OPEN_SHARE * simulator.spec.embodiment.gripper_travel else OPEN
    # A recorded rollout of one step, from the initial state to the present one.
    episode = Trace(
        commands=np.zeros((1, simulator.spec.command_size), dtype=np.float32),
        targets=now.tcp_pose[None].astype(np.float32),
        gripper_commands=np.array([gripper], dtype=np.float32),
        stages=np.zeros(1, dtype=np.int16),
        tcp_poses=np.stack([before.tcp_pose, now.tcp_pose]).astype(np.float32),
        gripper_widths=np.array([before.gripper_width, now.gripper_width], dtype=np.float32),
        objects=np.stack([before.objects, now.objects]).astype(np.float32),
        states=np.stack([nominal.trace.states[0], states[step]]),
    )
    live = branch(simulator, nominal.record.seed, episode, 1, exact=False).runner
    return propose(task, nominal, episode, 1, live)
