"""A policy with a monitor around it, which is itself a policy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float, UInt8

from failsafe.models.contract import RecoveryModel, embodiment_of
from failsafe.monitors.monitor import EventCallback, Monitor, ignore
from failsafe.monitors.settings import MonitorSettings
from failsafe.monitors.waypoints import Waypoint
from failsafe.policies.contract import (
    ActionSpace,
    Policy,
    check_chunk,
    needs_full_quality,
    reset_policy,
)
from failsafe.records import poses
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose
from failsafe.records.transforms import ImageTransform

_ARRIVED = (0.003, 0.02)
"""Metres and radians within which a tool is where a correction says."""
_STILL = (0.001, 0.01)
"""Metres and radians, and metres of the gripper, below which nothing moved in a control step."""


class MonitoredPolicy:
    """A policy with a monitor around it; itself a policy, which returns one action at a time.

    Args:
        policy: The base policy. Its actions pass unchanged unless the monitor is in control.
        model: The recovery model.
        threshold: Score above which an alarm is raised: a number, or a function of the instruction such as
            `Calibration.threshold`.
        settings: When to query, take over, hand back and give up.
        on_event: Called with every event.
        on_help: Called once per episode, when the monitor gives up.
        embodiment: The robot, with its step limits and workspace; by default that of the model's training
            data, or ManiSkill's Panda if the model states none. The control rate is the policy's.

    Attributes:
        base: The base policy.
        monitor: The monitor, with the events of this episode.
    """

    def __init__(
        self,
        policy: Policy,
        model: RecoveryModel,
        threshold: float | Callable[[str], float] = 5.0,
        settings: MonitorSettings | None = None,
        on_event: EventCallback = ignore,
        on_help: EventCallback = ignore,
        embodiment: EmbodimentSpec | None = None,
    ) -> None:
        self.base = policy
        self._space = policy.action_space
        robot = embodiment or embodiment_of(model)
        robot = replace(robot, control_hz=self._space.rate_hz)
        self.monitor = Monitor(model, robot, threshold, settings, on_event, on_help)
        self._queue: deque[np.ndarray] = deque()
        self._waypoints: deque[Waypoint] = deque()
        self._executed: tuple[Waypoint, PolicyObservation] | None = None
        """The last waypoint, and what was observed before it."""

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.base.name} + {self.monitor.model.name}"

    @property
    def action_space(self) -> ActionSpace:
        """The base policy's action space, with one action per chunk."""
        return replace(self._space, chunk=1)

    @property
    def full_quality(self) -> bool:
        """Whether the base policy is shown images of the suite's own quality."""
        return needs_full_quality(self.base)

    @property
    def views(self) -> Mapping[str, int]:
        """The views of the base policy and the model, each at the larger of the two sizes, pixels."""
        spec = self.monitor.model.window_spec
        wanted = dict(self.base.views)
        for view in spec.views:
            wanted[view] = max(wanted.get(view, 0), ImageTransform.of(spec).rendered)
        return wanted

    def reset(self, instruction: str, seed: int | None = None) -> None:
        """Start an episode.

        Args:
            instruction: The instruction of the episode.
            seed: Seed of the episode, for a base policy that takes one.
        """
        self._queue.clear()
        self._waypoints.clear()
        self.monitor.reset(instruction)
        reset_policy(self.base, instruction, seed)

    def drop_queue(self) -> None:
        """Drop the queued actions of the policy and of the monitor."""
        self._queue.clear()
        self._waypoints.clear()
        self.base.drop_queue()
        self.monitor.hand_back()

    def act(self, observation: PolicyObservation) -> Float[np.ndarray, "1 7"]:
        """Return the next action: the base policy's, or the monitor's while it is in control.

        Raises:
            PolicyError: If the base policy returns no action that can be used.
        """
        if self._has_arrived(observation):
            self.monitor.skip(len(self._waypoints))
            self._waypoints.clear()
        if self._waypoints:
            self.monitor.observe(observation)
        elif waypoints := self.monitor.decide(observation):
            self._queue.clear()
            self.base.drop_queue()
            self._waypoints.extend(waypoints)
        if self._waypoints:
            waypoint = self._waypoints.popleft()
            self._executed = waypoint, observation
            target, measured = observation.target_pose, observation.tcp_pose
            return self._space.from_pose(waypoint.pose, waypoint.gripper, target, measured)[None]
        if not self._queue:
            resized = replace(observation, images=_Resized(observation.images, self.base.views))
            self._queue.extend(check_chunk(self.base.name, self.base.act(resized), self._space.chunk))
        return self._queue.popleft()[None]

    def _has_arrived(self, now: PolicyObservation) -> bool:
        """Return whether only settling is left of a correction, and the tool has settled."""
        if not self._waypoints or self._executed is None:
            return False
        last, before = self._executed
        return (
            all(waypoint is last for waypoint in self._waypoints)
            and _within(now.tcp_pose, last.pose, _ARRIVED)
            and _within(now.tcp_pose, before.tcp_pose, _STILL)
            and abs(now.gripper_width - before.gripper_width) < _STILL[0]
        )


def _within(a: Pose, b: Pose, limits: tuple[float, float]) -> bool:
    metres, radians = poses.distance(a, b)
    return metres < limits[0] and radians < limits[1]


class _Resized(Mapping[str, UInt8[np.ndarray, "S S 3"]]):
    """Images resized to what the base policy takes, each when it is read."""

    def __init__(self, images: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> None:
        self._images, self._sizes = images, sizes

    def __getitem__(self, view: str) -> UInt8[np.ndarray, "S S 3"]:
        return ImageTransform(self._sizes[view]).read(self._images, view)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)
