"""One episode of a policy in a simulator: the control loop, and the judgement at its end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, UInt8

from failsafe.errors import DivergedError, PolicyError, UserError
from failsafe.evaluation.scenarios import Scenario
from failsafe.experts.tasks import Task
from failsafe.monitors.monitored import MonitoredPolicy
from failsafe.policies.contract import Policy, check_chunk, check_fit
from failsafe.records import poses
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.episode import Ending, Episode, EpisodeKey
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose
from failsafe.simulators.contract import Camera, Simulator

TRACKING_LIMIT_METRES, TRACKING_LIMIT_RADIANS = 0.1, 0.5
"""How far the pose asked for may be from the measured one: a tool that is stopped must not wind up."""
HOLD_STEPS = 12
"""Control steps for which a success has to last (0.6 s at 20 Hz)."""
_JUDGE_EVERY = 4
T = TypeVar("T")


@dataclass(frozen=True)
class EpisodeLimits:
    """When an episode ends.

    Attributes:
        max_steps: Control steps after which it is over, settling not counted.
    """

    max_steps: int = 400

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.max_steps < 1:
            raise UserError(f"expected episodes of at least one step, got {self.max_steps}")


@dataclass
class Stopwatch:
    """Seconds of rendering: on a robot pictures cost nothing, so they are counted apart."""

    seconds: float = 0.0


class RenderedViews(Mapping[str, UInt8[np.ndarray, "H W 3"]]):
    """Pictures of one moment, each rendered when it is first asked for.

    Args:
        simulator: The simulator.
        state: The moment.
        cameras: Where to look from, by view.
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

    def __getitem__(self, view: str) -> UInt8[np.ndarray, "H W 3"]:
        """The picture of a view. Those of the same size are rendered together, which is cheaper."""
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

    def __iter__(self) -> Iterator[str]:
        """Names of the views."""
        return iter(self._sizes)

    def __len__(self) -> int:
        """Number of views."""
        return len(self._sizes)

    def _render(self, views: list[str], size: int) -> None:
        pictures = self._simulator.render([self._cameras[view] for view in views], size, self._state)
        self._seen.update(zip(views, pictures, strict=True))


def run_episode(
    task: Task,
    policy: Policy,
    key: EpisodeKey,
    scenario: Scenario,
    limits: EpisodeLimits,
    states: list[Float32[np.ndarray, "S"]] | None = None,
) -> Episode:
    """Let a policy do a task.

    Success is judged by the task while the policy goes on acting, and counts once it has lasted for
    `HOLD_STEPS`; at the step limit it is judged after as long a settling.

    Args:
        task: The task.
        policy: The policy, perhaps with a monitor around it.
        key: Which episode this is.
        scenario: What is unlike training.
        limits: When it ends.
        states: Where to put the simulator's state of every step, for pictures.

    Raises:
        PolicyError: If policy and simulator do not fit together; later errors of the policy are an ending.
    """
    simulator = task.simulator
    spec = simulator.spec
    check_fit(policy, spec.embodiment.control_hz, spec.cameras)
    scenario.start(simulator, key.seed)
    cameras = {view: scenario.camera(simulator.camera(view), key.seed) for view in policy.views}
    loop = _Loop(simulator, policy, scenario, cameras, key.seed)
    blank = Episode(key, simulator.episode.instruction, Ending.FAILURE, 0, 0.0)
    description = ""
    try:
        ending = loop.run(simulator.episode.instruction, limits, states)
    except PolicyError as error:
        ending, description = Ending.POLICY_ERROR, str(error)
    except DivergedError as error:
        ending, description = Ending.DIVERGED, str(error)
    monitored = isinstance(policy, MonitoredPolicy)
    blocking_latency = policy.monitor.blocking_latency if monitored else 0.0
    return replace(
        blank,
        ending=ending,
        steps=loop.step,
        robot_seconds=round(loop.step / spec.embodiment.control_hz, 3),
        policy_seconds=round(loop.seconds - blocking_latency, 4),
        monitor_seconds=round(blocking_latency, 4),
        events=tuple(policy.monitor.events) if monitored else (),
        description=description,
        onset=loop.onset,
    )


class _Loop:
    """The control loop of one episode."""

    def __init__(
        self,
        simulator: Simulator,
        policy: Policy,
        scenario: Scenario,
        cameras: Mapping[str, Camera],
        seed: int,
    ) -> None:
        self._simulator, self._policy, self._cameras = simulator, policy, cameras
        # Neither changes within an episode, and both are made anew whenever they are asked for.
        self._embodiment, self._sizes = simulator.spec.embodiment, dict(policy.views)
        self._actuation = scenario.actuation(seed)
        self._accident = scenario.accident_of(simulator, seed)
        self._past: deque[PolicyObservation] = deque(maxlen=scenario.delay + 1)
        self._target = simulator.observe().tcp_pose.copy()
        self._gripper = 1.0
        self._rendering = Stopwatch()
        self._thinking = 0.0
        self.step = 0

    @property
    def seconds(self) -> float:
        """Seconds that the policy took to act, pictures not counted."""
        return self._thinking - self._rendering.seconds

    @property
    def onset(self) -> int | None:
        """Control step in which an accident began, None where there was none."""
        return None if self._accident is None else self._accident.onset

    def run(self, instruction: str, limits: EpisodeLimits, states: list[np.ndarray] | None) -> Ending:
        simulator, policy = self._simulator, self._policy
        self._call(lambda: policy.reset(instruction))
        rows: deque[np.ndarray] = deque()
        since: int | None = None
        while self.step < limits.max_steps:
            if states is not None:
                states.append(simulator.state())
            self._observe()
            if not rows:
                rows.extend(self._ask())
            self._advance(rows.popleft())
            self.step += 1
            if self.step % _JUDGE_EVERY == 0:
                if not simulator.evaluate().success:
                    since = None
                elif since is None:
                    since = self.step
                elif self.step - since >= HOLD_STEPS:
                    return Ending.SUCCESS
        for _ in range(HOLD_STEPS):
            simulator.step(simulator.command(self._target, self._gripper))
        return Ending.SUCCESS if simulator.evaluate().success else Ending.FAILURE

    def _observe(self) -> None:
        truth = self._simulator.observe()
        state = self._simulator.state()
        views = RenderedViews(self._simulator, state, self._cameras, self._sizes, self._rendering)
        self._past.append(PolicyObservation(views, truth.tcp_pose, self._target, truth.gripper_width))

    def _ask(self) -> list[np.ndarray]:
        """A chunk for what the sensors show, which may be some steps ago."""
        seen = replace(self._past[0], target_pose=self._target)
        begun = time.perf_counter()
        try:
            chunk = self._call(lambda: self._policy.act(seen))
        finally:
            self._thinking += time.perf_counter() - begun
        return list(check_chunk(self._policy.name, chunk, self._policy.action_space.chunk))

    def _call(self, what: Callable[[], T]) -> T:
        try:
            return what()
        except (PolicyError, DivergedError):
            raise
        except Exception as error:  # whatever a policy raises ends its episode, not the run
            raise PolicyError(f"{self._policy.name} raised {type(error).__name__}: {error}") from error

    def _advance(self, row: np.ndarray) -> None:
        measured = self._past[-1].tcp_pose
        wanted, self._gripper = self._policy.action_space.to_pose(row, self._target, measured)
        self._target = clip_target(wanted, self._target, measured, self._embodiment)
        pose, gripper = self._actuation(self._target, self._gripper)
        accident = self._accident.at(self.step) if self._accident is not None else ()
        self._simulator.step(self._simulator.command(pose, gripper), accident)


def clip_target(wanted: Pose, before: Pose, measured: Pose, embodiment: EmbodimentSpec) -> Pose:
    """The pose asked for, within a step's limits of the one before or of the measured one, on a leash.

    Args:
        wanted: Tool pose that an action asks for.
        before: Tool pose asked for last.
        measured: Tool pose now.
        embodiment: The robot whose limits apply.
    """
    limits = embodiment.step_limits
    # A correction begins where the tool is, which may be a step behind where it was told to be.
    if not any(_within(start, wanted, *limits) for start in (before, measured)):
        wanted = poses.limit_step(before, wanted, *limits)
    return poses.limit_step(measured, wanted, TRACKING_LIMIT_METRES, TRACKING_LIMIT_RADIANS)


def _within(start: Pose, end: Pose, metres: float, radians: float) -> bool:
    far, turned = poses.distance(start, end)
    return far <= metres + 1e-9 and turned <= radians + 1e-9
