"""Observations whose images encode their step, and models that return scripted assessments."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from failsafe.monitors.budget import NO_LIMIT
from failsafe.monitors.monitor import Monitor
from failsafe.monitors.settings import MonitorSettings
from failsafe.monitors.timing import QueryTiming
from failsafe.monitors.waypoints import Waypoint
from failsafe.records import poses
from failsafe.records.assessment import Assessment, Window, WindowSpec
from failsafe.records.embodiment import MANISKILL_PANDA
from failsafe.records.event import EventKind
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose

DOWN = (0.0, 1.0, 0.0, 0.0)
SPEC = WindowSpec(views=("front", "hand"), history=4, frames=3, size=8)
EVERY = 5
"""Control steps between two queries in these tests."""
FIRST = EVERY
"""Step of the first query: the history is full by then."""
UP = (0.0, 0.0, 0.02, 0.0, 0.0, 0.0, 1.0)
PATIENCE = 10.0
"""Longest time that a test waits for a thread, seconds."""


class Images(Mapping[str, np.ndarray]):
    """The images of one step, all of one brightness; records which views are read."""

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


def observation(
    step: int, place: Sequence[float] | None = None, width: float = 0.08, images: Any = None
) -> PolicyObservation:
    """Return the observation of a step; the tool moves along y by 10 mm per step unless a place is given."""
    at = poses.pose(place if place is not None else [0.5, 0.01 * (step % 40), 0.3], DOWN)
    return PolicyObservation(Images(step) if images is None else images, at, at.copy(), width)


class ScriptedModel:
    """A model that returns one answer after another and repeats the last; exceptions are raised."""

    name = "scripted"
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


class BlockingModel(ScriptedModel):
    """A scripted model that answers once `go_on` is set; `at_work` is set while it waits."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(*answers)
        self.at_work, self.go_on = threading.Event(), threading.Event()

    def assess(self, window: Window) -> Assessment:
        self.at_work.set()
        assert self.go_on.wait(PATIENCE)
        return super().assess(window)


def failing(probability: float = 0.9, **changes: Any) -> Assessment:
    """Return an assessment with two actions upwards."""
    return Assessment(**{"failure_probability": probability, "mode": "slip", "actions": (UP, UP), **changes})


FINE = Assessment(failure_probability=0.1)


def seconds(steps: int) -> float:
    """Return the duration of some control steps."""
    return steps / MANISKILL_PANDA.control_hz


def settings(takeovers: int = 6, **changes: Any) -> MonitorSettings:
    """Return settings: a query every five steps, no drift, one correction, no cool-down, no budget."""
    timing = QueryTiming(interval=seconds(EVERY), min_interval=seconds(EVERY))
    fast = {"timing": timing, "drift": 0.0, "max_corrections": 1, "cool_down_seconds": 0.0}
    fast["budget"] = replace(NO_LIMIT, takeovers=takeovers)
    return MonitorSettings(**{**fast, **changes})


def make_monitor(model: Any, *arguments: Any) -> Monitor:
    """Return a monitor on a Panda."""
    return Monitor(model, MANISKILL_PANDA, *arguments)


def play(
    monitor: Monitor, steps: int, see: Callable[[int], PolicyObservation] = observation
) -> dict[int, list[Pose]]:
    """Run an episode's next steps and the rest of a takeover.

    Returns:
        The poses of each correction and continuation, by the step at which it starts.
    """
    ways: dict[int, list[Pose]] = {}
    end = monitor.step + 1 + steps
    while monitor.step + 1 < end or monitor.in_control:
        taken: tuple[Waypoint, ...] = monitor.decide(see(monitor.step + 1))
        if taken:
            ways[monitor.step] = [waypoint.pose for waypoint in taken]
            for _ in taken[1:]:
                monitor.observe(see(monitor.step + 1))
    return ways


def steps_of(monitor: Monitor, *kinds: EventKind) -> list[int]:
    """Return the steps of the events of some kinds."""
    return [event.step for event in monitor.events if event.kind in kinds]


def descriptions_of(monitor: Monitor, kind: EventKind) -> list[str]:
    """Return the descriptions of the events of a kind."""
    return [event.description for event in monitor.events if event.kind is kind]
