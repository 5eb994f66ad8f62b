"""Accidents happen once, when and as they are said to, and are seen in the record."""

from __future__ import annotations

import math

import numpy as np
import pytest

from failsafe.evaluation.accidents import DROPPED, PUSH, PUSHED, Accident
from failsafe.experts.driver import Driver
from failsafe.experts.toy import EXPERTS
from failsafe.simulators.toy import ToyPick


def stand_still(simulator: ToyPick, accident: Accident, steps: int) -> list[np.ndarray]:
    pose = simulator.observe().tcp_pose
    places: list[np.ndarray] = []
    for step in range(steps):
        simulator.step(simulator.command(pose, 1.0), accident.at(simulator, step))
        places.append(simulator.observe().objects[0, :3])
    return places


@pytest.mark.parametrize("seed", range(5))
def test_a_free_object_is_pushed_by_just_so_much_from_the_step_that_is_noted(seed: int) -> None:
    simulator = ToyPick()
    simulator.reset(seed)
    at = simulator.observe().objects[0, :3]
    accident = Accident(PUSHED, seed)
    places = stand_still(simulator, accident, 80)
    assert accident.onset is not None
    assert 10 <= accident.onset <= 40
    moved = [float(np.linalg.norm(place - at)) for place in places]
    assert max(moved[: accident.onset]) < 1e-6
    assert moved[accident.onset] > 0.005
    assert moved[-1] == pytest.approx(PUSH, abs=0.005)


def test_moment_and_direction_differ_from_seed_to_seed_and_not_from_run_to_run() -> None:
    found: list[tuple[int | None, float]] = []
    for seed in (0, 1, 2, 3, 0):
        simulator = ToyPick()
        simulator.reset(seed)
        before = simulator.observe().objects[0, :2]
        accident = Accident(PUSHED, seed)
        x, y = (stand_still(simulator, accident, 60)[-1][:2] - before).tolist()
        found.append((accident.onset, round(math.atan2(y, x), 3)))
    assert len(set(found[:4])) == 4
    assert found[0] == found[4]


def test_what_is_held_is_dropped_and_nothing_before_it_is_held() -> None:
    simulator = ToyPick()
    simulator.reset(3)
    accident = Accident(DROPPED, 3)
    assert np.ptp(stand_still(simulator, accident, 50), axis=0).max() < 1e-6
    assert accident.onset is None

    simulator.reset(3)
    plan = Driver(simulator)
    EXPERTS["ToyPick-v0"]().solve(plan)
    assert simulator.held()
    pose, at = simulator.observe().tcp_pose, simulator.observe().objects[0, 2]
    for step in range(40):
        simulator.step(simulator.command(pose, -1.0), accident.at(simulator, step))
    assert accident.onset is not None
    assert 2 <= accident.onset <= 10
    assert not simulator.held()
    assert simulator.observe().objects[0, 2] < at - 0.02
