"""A policy with a monitor around it, which is a policy like any other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float, UInt8

from failsafe.models.contract import RecoveryModel
from failsafe.monitors.history import fit
from failsafe.monitors.monitor import Monitor, MonitorSettings, ignore
from failsafe.monitors.waypoints import Waypoint
from failsafe.policies.contract import ActionSpace, Policy, check_chunk
from failsafe.records.event import Event
from failsafe.records.observation import PolicyObservation


class MonitoredPolicy:
    """A policy with a monitor around it; itself a policy, one that gives one action at a time.

    Args:
        policy: The base policy. Its actions are passed on unchanged unless the monitor has taken over.
        model: The recovery model.
        threshold: Score above which an alarm is raised: a number, or one by instruction, such as
            `Calibration.threshold`.
        settings: When to look, act and give up.
        tell: Called with every event.
        ask_help: Called once an episode, when the monitor gives up.

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
        tell: Callable[[Event], None] = ignore,
        ask_help: Callable[[Event], None] = ignore,
    ) -> None:
        self.base = policy
        self.monitor = Monitor(model, threshold, settings, tell, ask_help)
        self._space = policy.action_space
        self._queue: deque[np.ndarray] = deque()
        self._way: deque[Waypoint] = deque()

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"{self.base.name} + {self.monitor.model.name}"

    @property
    def action_space(self) -> ActionSpace:
        """That of the base policy, one action at a time."""
        return replace(self._space, chunk=1)

    @property
    def views(self) -> Mapping[str, int]:
        """What the base policy and the model look through, each at the larger size of the two."""
        spec = self.monitor.model.window_spec
        wanted = dict(self.base.views)
        for view in spec.views:
            wanted[view] = max(wanted.get(view, 0), spec.size)
        return wanted

    def reset(self, instruction: str) -> None:
        """Begin an episode."""
        self._queue.clear()
        self._way.clear()
        self.monitor.begin(instruction)
        self.base.reset(instruction)

    def drop_queue(self) -> None:
        """Forget what was thought out before, by the policy as by the monitor."""
        self._queue.clear()
        self._way.clear()
        self.base.drop_queue()
        if self.monitor.in_charge:
            self.monitor.hand_back()

    def act(self, observation: PolicyObservation) -> Float[np.ndarray, "1 7"]:
        """The next action: the base policy's, or the correction's while the monitor has taken over.

        Raises:
            PolicyError: If the base policy gives none that can be used.
        """
        if self._way:
            self.monitor.follow(observation)
        elif way := self.monitor.watch(observation):
            self._queue.clear()
            self.base.drop_queue()
            self._way.extend(way)
        if self._way:
            return self._correct(observation)[None]
        if not self._queue:
            seen = self._as_the_base_sees(observation)
            self._queue.extend(check_chunk(self.base.name, self.base.act(seen), self._space.chunk))
        return self._queue.popleft()[None]

    def _correct(self, observation: PolicyObservation) -> Float[np.ndarray, "7"]:
        waypoint = self._way.popleft()
        return self._space.from_pose(
            waypoint.pose, waypoint.gripper, observation.target_pose, observation.tcp_pose
        )

    def _as_the_base_sees(self, observation: PolicyObservation) -> PolicyObservation:
        """The observation with the pictures at the sizes that the base policy asks for."""
        return replace(observation, images=_Fitted(observation.images, self.base.views))


class _Fitted(Mapping[str, UInt8[np.ndarray, "S S 3"]]):
    """Pictures at other sizes, made when they are asked for."""

    def __init__(self, images: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> None:
        self._images, self._sizes = images, sizes

    def __getitem__(self, view: str) -> UInt8[np.ndarray, "S S 3"]:
        return fit(self._images[view], self._sizes[view])

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)
