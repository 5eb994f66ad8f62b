"""One episode of a policy in a simulator, and the judgement at its end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, UInt8

from failsafe.errors import DivergedError, PolicyError, UserError
from failsafe.evaluation.scenarios import Scenario
from failsafe.experts.tasks import Task
from failsafe.monitors.monitored import MonitoredPolicy
from failsafe.policies.calls import ask, policy_errors
from failsafe.policies.contract import Policy, check_fit, needs_full_quality, reset_policy
from failsafe.records.episode import Ending, Episode, EpisodeKey
from failsafe.records.names import LAST_STEP
from failsafe.records.observation import PolicyObservation
from failsafe.rollouts.hooks import Command, Hook
from failsafe.rollouts.limits import PoseController
from failsafe.rollouts.loop import ControlLoop
from failsafe.rollouts.recording import StateRecorder
from failsafe.rollouts.stopping import HOLD_SECONDS, StopOnSuccess
from failsafe.simulators.contract import Camera, RendersFully, Simulator


@dataclass(frozen=True)
class EpisodeLimits:
    """When an episode ends.

    Attributes:
        max_steps: Control steps after which it is over, settling not counted.
    """

    max_steps: int = 400

    def __post_init__(self) -> None:
        """Refuse a limit below one step.

        Raises:
            UserError: If there is one.
        """
        if not 1 <= self.max_steps <= LAST_STEP:
            raise UserError(f"expected episodes of 1 to {LAST_STEP} steps, got {self.max_steps}")


@dataclass
class Stopwatch:
    """Time spent on rendering. A robot has cameras, so this time is not counted as the policy's.

    Attributes:
        seconds: The time so far.
    """

    seconds: float = 0.0


class RenderedViews(Mapping[str, UInt8[np.ndarray, "H W 3"]]):
    """Images of one control step, each rendered when it is first asked for.

    Args:
        simulator: The simulator.
        state: The moment.
        cameras: The camera of each view.
        sizes: Height and width in pixels, by view.
        watch: Where the time that it takes is added.
    """

    def __init__(
        self,
        simulator: Simulator,
        state: Float32[np.ndarray, "S"],
        cameras: Mapping[str, Camera],
        sizes: Mapping[str, int],
        watch: Stopwatch,
    ) -> None:
        self._simulator, self._state, self._watch = simulator, state, watch
        self._cameras, self._sizes = cameras, sizes
        self._seen: dict[str, np.ndarray] = {}
        self._resized: dict[tuple[str, int], np.ndarray] = {}

    def __getitem__(self, view: str) -> UInt8[np.ndarray, "H W 3"]:
        """Return the image of a view. Views of the same size are rendered together, which is cheaper."""
        if view not in self._seen:
            begun, size = time.perf_counter(), self._sizes[view]
            wanted = [v for v in self._sizes if self._sizes[v] == size and v not in self._seen]
            try:
                self._render(wanted, size)
            except Exception:  # a camera that fails must not take the others with it
                self._render([view], size)
            finally:
                self._watch.seconds += time.perf_counter() - begun
        return self._seen[view]

    def at(self, view: str, size: int) -> UInt8[np.ndarray, "S S 3"]:
        """Return the image of a view, rendered at a size.

        A policy and a monitor with different sizes both get the images that they were trained with.

        Args:
            view: Name of the view.
            size: Height and width, pixels.
        """
        if size == self._sizes[view]:
            return self[view]
        if (view, size) not in self._resized:
            begun = time.perf_counter()
            try:
                image = self._simulator.render([self._cameras[view]], size, self._state)[0]
            finally:
                self._watch.seconds += time.perf_counter() - begun
            self._resized[view, size] = image
        return self._resized[view, size]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the views."""
        return iter(self._sizes)

    def __len__(self) -> int:
        """Count the views."""
        return len(self._sizes)

    def _render(self, views: list[str], size: int) -> None:
        images = self._simulator.render([self._cameras[view] for view in views], size, self._state)
        self._seen.update(zip(views, images, strict=True))


def run_episode(
    task: Task,
    policy: Policy,
    key: EpisodeKey,
    scenario: Scenario,
    limits: EpisodeLimits,
    states: list[Float32[np.ndarray, "S"]] | None = None,
) -> Episode:
    """Let a policy do a task.

    The task judges success while the policy acts; a success counts once it has lasted for `HOLD_SECONDS`. At
    the step limit the task is judged after the last command was held for as long.

    Args:
        task: The task.
        policy: The policy, perhaps with a monitor around it.
        key: Which episode this is.
        scenario: What is unlike training.
        limits: When it ends.
        states: Where to put the simulator's state before every step, for videos. Each [S]

    Raises:
        PolicyError: If policy and simulator do not fit together; later errors of the policy end the episode.
    """
    simulator = task.simulator
    spec = simulator.spec
    check_fit(policy, spec.embodiment.control_hz, spec.cameras)
    if isinstance(simulator, RendersFully):
        simulator.render_fully(needs_full_quality(policy))
    scenario.start(simulator, key.seed)
    injections = scenario.injections(simulator, key.seed)
    recorder = StateRecorder()
    hooks = [*injections, *scenario.hooks(key.seed), recorder]
    cameras = {view: scenario.camera(simulator.camera(view), key.seed) for view in policy.views}
    rollout = _PolicyRollout(simulator, policy, hooks, cameras)
    description = ""
    try:
        ending = rollout.run(simulator.episode.instruction, key.seed, limits)
    except PolicyError as error:
        ending, description = Ending.POLICY_ERROR, str(error)
    except DivergedError as error:
        ending, description = Ending.DIVERGED, str(error)
    if states is not None:
        states.extend(recorder.states[: rollout.sensed])
    monitored = isinstance(policy, MonitoredPolicy)
    blocked = policy.monitor.blocking_latency if monitored else 0.0
    return Episode(
        key=key,
        instruction=simulator.episode.instruction,
        ending=ending,
        steps=rollout.steps,
        limited_steps=rollout.limited_steps,
        robot_seconds=round(rollout.steps / spec.embodiment.control_hz, 3),
        policy_seconds=round(rollout.policy_seconds - blocked, 4),
        monitor_seconds=round(blocked, 4),
        events=tuple(policy.monitor.events) if monitored else (),
        description=description,
        perturbations=tuple(injection.mode.perturbation for injection in injections),
        injection_step=min((i.step for i in injections if i.step is not None), default=None),
    )


class _PolicyRollout:
    """The rollout of a policy, on the control loop."""

    def __init__(
        self, simulator: Simulator, policy: Policy, hooks: Sequence[Hook], cameras: Mapping[str, Camera]
    ) -> None:
        self._simulator, self._policy, self._cameras = simulator, policy, cameras
        self._sizes = dict(policy.views)  # they do not change within an episode
        self._success = StopOnSuccess()
        self._loop = ControlLoop(simulator, [*hooks, self._success])
        self._controller = PoseController(self._loop)
        self._rendering = Stopwatch()
        self._thinking = 0.0
        self.sensed = 0
        """Control steps that were begun: one more than `steps` where the policy fails."""

    @property
    def steps(self) -> int:
        """Control steps so far."""
        return self._loop.step_count

    @property
    def limited_steps(self) -> int:
        """Control steps in which the policy asked for more than the robot's step limits."""
        return self._controller.limited_steps

    @property
    def policy_seconds(self) -> float:
        """Time that the policy took to act, without rendering, seconds."""
        return self._thinking - self._rendering.seconds

    def run(self, instruction: str, seed: int, limits: EpisodeLimits) -> Ending:
        """Act until the episode ends."""
        loop = self._loop
        with policy_errors(self._policy):
            reset_policy(self._policy, instruction, seed)
        actions: deque[np.ndarray] = deque()
        while self.steps < limits.max_steps:
            seen = self._sense()
            if not actions:
                actions.extend(self._ask(seen))
            self._act(actions.popleft())
            if loop.ended:
                return Ending.SUCCESS if self._success.succeeded else Ending.FAILURE
        settling, last = ControlLoop(self._simulator), self._controller
        for _ in range(self._simulator.spec.embodiment.steps(HOLD_SECONDS)):
            settling.step(Command(last.target, last.gripper), (last.target,))
        return Ending.SUCCESS if self._simulator.evaluate().success else Ending.FAILURE

    def _sense(self) -> PolicyObservation:
        self.sensed += 1
        truth, state = self._loop.observation, self._loop.state
        views = RenderedViews(self._simulator, state, self._cameras, self._sizes, self._rendering)
        target = self._controller.target
        return self._loop.sense(
            PolicyObservation(views, truth.tcp_pose, target, truth.gripper_width, truth.readings)
        )

    def _ask(self, seen: PolicyObservation) -> list[np.ndarray]:
        """Ask for a chunk. What is sensed may be late; what was commanded is known at once."""
        seen = replace(seen, target_pose=self._controller.target)
        begun = time.perf_counter()
        try:
            return ask(self._policy, seen)
        finally:
            self._thinking += time.perf_counter() - begun

    def _act(self, action: np.ndarray) -> None:
        measured = self._loop.observation.tcp_pose
        self._controller.move(*self._policy.action_space.to_pose(action, self._controller.target, measured))
