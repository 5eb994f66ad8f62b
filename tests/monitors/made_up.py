"""Moments whose pictures say when they were taken, and models that say what a test wants them to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from failsafe.monitors.monitor import Monitor, MonitorSettings
from failsafe.monitors.timing import QueryTiming
from failsafe.monitors.waypoints import Waypoint
from failsafe.records import poses
from failsafe.records.assessment import Assessment, Window, WindowSpec
from failsafe.records.event import EventKind
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose

DOWN = (0.0, 1.0, 0.0, 0.0)
SPEC = WindowSpec(views=("front", "hand"), history=4, frames=3, size=8)
EVERY = 5
"""Control steps from one look to the next, whatever the tool does."""
FIRST = EVERY
"""Step of the first look: from the start on so many have passed, and there is a history."""
UP = (0.0, 0.0, 0.02, 0.0, 0.0, 0.0, 1.0)
PATIENCE = 10.0
"""Seconds after which a test is no longer waiting for a thread."""


class Pictures(Mapping[str, np.ndarray]):
    """Pictures of one step, all of one brightness; takes down which were asked for."""

    def __init__(self, step: int, size: int = SPEC.size, views: Sequence[str] = SPEC.views) -> None:
        self._step, self._size, self._views = step, size, views
        self.asked: list[str] = []

    def __getitem__(self, view: str) -> np.ndarray:
        self.asked.append(view)
        brightness = self._step + 100 * self._views.index(view)
        return np.full((self._size, self._size, 3), brightness, dtype=np.uint8)

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


def moment(
    step: int, place: Sequence[float] | None = None, width: float = 0.08, images: Any = None
) -> PolicyObservation:
    """What is seen at a step; the tool goes along y at 10 mm a step unless it is said to be elsewhere."""
    at = poses.pose(place if place is not None else [0.5, 0.01 * (step % 40), 0.3], DOWN)
    return PolicyObservation(Pictures(step) if images is None else images, at, at.copy(), width)


class Says:
    """A model that gives one answer after another, the last for ever; an exception is raised."""

    name = "says"
    window_spec = SPEC

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked = 0

    def assess(self, window: Window) -> Assessment:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return answer


class Thinks(Says):
    """Gives its answers only once it is told to: `at_work` is set meanwhile."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(*answers)
        self.at_work, self.go_on = threading.Event(), threading.Event()

    def assess(self, window: Window) -> Assessment:
        self.at_work.set()
        assert self.go_on.wait(PATIENCE)
        return super().assess(window)


def failing(probability: float = 0.9, **changes: Any) -> Assessment:
    """A verdict with two actions upwards."""
    return Assessment(**{"failure_probability": probability, "mode": "slip", "actions": (UP, UP), **changes})


FINE = Assessment(failure_probability=0.1)


def settings(**changes: Any) -> MonitorSettings:
    """Looks every five steps exactly, believes the first, corrects once, hands back, without a cool-down."""
    timing = QueryTiming(every=EVERY, soonest=EVERY)
    fast = {"timing": timing, "drift": 0.0, "corrections": 1, "continuation_steps": 0, "cool_down": 0}
    return MonitorSettings(**{**fast, **changes})


def watch(
    monitor: Monitor, steps: int, see: Callable[[int], PolicyObservation] = moment
) -> dict[int, list[Pose]]:
    """An episode's next steps and the rest of a take-over. Where corrections led, by the step they began."""
    ways: dict[int, list[Pose]] = {}
    end = monitor.step + 1 + steps
    while monitor.step + 1 < end or monitor.in_charge:
        taken: tuple[Waypoint, ...] = monitor.watch(see(monitor.step + 1))
        if taken:
            ways[monitor.step] = [waypoint.pose for waypoint in taken]
            for _ in taken[1:]:
                monitor.follow(see(monitor.step + 1))
    return ways


def steps_of(monitor: Monitor, *kinds: EventKind) -> list[int]:
    """When something happened."""
    return [event.step for event in monitor.events if event.kind in kinds]


def words_of(monitor: Monitor, kind: EventKind) -> list[str]:
    """What is said of it."""
    return [event.description for event in monitor.events if event.kind is kind]
