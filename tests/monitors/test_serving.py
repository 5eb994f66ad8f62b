"""A served monitor: what it says of its thresholds, and what clients can make it say and keep."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from tests.monitors.openpi_client import INSTRUCTION, Model, alarmed, answer, request

from failsafe.monitors import serving
from failsafe.monitors.calibration import Calibration, Threshold
from failsafe.monitors.requests import Wire, guard_clients
from failsafe.monitors.serving import make_service
from failsafe.monitors.settings import MonitorSettings
from failsafe.records.event import EventKind


def calibration(**thresholds: float | None) -> Calibration:
    found = {name: Threshold(value, 40) for name, value in thresholds.items()}
    return Calibration(0.05, "made up", "openpi", 2.0, found)


class Knows(Model):
    """States the instructions that it was trained on."""

    class meta:
        instructions = ("lift", "stack")


@pytest.mark.parametrize(
    ("given", "alarms", "warnings"),
    [
        ({"threshold": 5.0}, "alarms above 5", []),
        ({}, "only observes", ["there are no thresholds, so the monitor only observes: "]),
        (
            {"calibration": calibration(lift=4.25, stack=None)},
            "alarms above 4.25",
            ["no threshold for 'stack': the monitor only observes"],
        ),
        ({"calibration": calibration(lift=4.25, stack=7.0)}, "alarms above 4.25 to 7", []),
        (
            {"calibration": calibration(push=1.0)},
            "only observes",
            ["no threshold for 'lift'", "no threshold for 'stack'"],
        ),
    ],
)
def test_it_says_where_it_alarms(given: dict[str, Any], alarms: str, warnings: list[str]) -> None:
    said: list[str] = []
    service = make_service("ws://127.0.0.1:9", Knows(), port=0, on_warning=said.append, **given)
    service.proxy.stop()
    assert (service.alarms, service.instructions) == (alarms, ("lift", "stack"))
    assert len(said) == len(warnings)
    assert all(line.startswith(start) for line, start in zip(sorted(said), sorted(warnings), strict=True))


def test_instructions_of_clients_are_cut_and_few_are_named() -> None:
    said: list[str] = []
    threshold = serving._WarnWhereMissing(calibration(lift=1.0), said.append)
    for _ in range(2):
        for number in range(1000):
            assert threshold(f"{number} " + "x" * 5000) == float("inf")
    assert threshold("lift") == 1.0
    assert len(said) == 33
    assert all(len(line) < 200 for line in said)
    assert "more instructions without a threshold" in said[-1]


def test_long_prompts_are_not_kept() -> None:
    """40 prompts of 2 MB each, as a client sends them; the policy still gets every request."""
    said: list[str] = []
    events: list[Any] = []
    threshold = serving._WarnWhereMissing(calibration(lift=1.0), said.append)
    make = guard_clients(
        alarmed(), threshold, MonitorSettings(), Wire(), lambda number, event: events.append(event)
    )
    guard = make(1)
    tracemalloc.start()
    try:
        for number in range(40):
            guard.on_request(request(prompt=f"{number} \x1b[2J" + "x" * 2_000_000))
            assert guard.on_answer(answer()) == answer()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 3_000_000
    assert said == []
    assert {event.kind for event in events} == {EventKind.FAULT}
    assert "expected at most 10000 characters under 'prompt', got 20000" in events[0].description


def test_an_episode_of_days_keeps_its_last_events() -> None:
    guard = guard_clients(Model(), 0.5, MonitorSettings(), Wire(), lambda number, event: None)(1)
    for shade in range(300):
        guard.on_request(request(prompt=INSTRUCTION, shade=shade % 200))
        guard.on_answer(answer())
    assert 100 <= len(guard._monitor.events) < 110
