"""Accidents happen once, when and as they are said to, and are seen in the record."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.evaluation.bench import Wanderer, play

from failsafe.evaluation.accidents import DROPPED, PUSH, PUSHED, Accident
from failsafe.experts.toy import EXPERTS
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.toy import ToyPick

SEEDS = range(6)


def stand_still(seed: int, kind: str = PUSHED, steps: int = 60) -> tuple[Accident, np.ndarray]:
    """The accident, and the object's place before every step and after the last."""
    simulator = ToyPick()
    simulator.reset(seed)
    accident, pose = Accident(kind, seed, simulator), simulator.observe().tcp_pose
    places = [simulator.observe().objects[0, :3]]
    for step in range(steps):
        simulator.step(simulator.command(pose, 1.0), accident.at(step))
        places.append(simulator.observe().objects[0, :3])
    return accident, np.array(places)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_free_object_is_pushed_by_just_so_much_from_the_step_that_is_noted(seed: int) -> None:
    accident, places = stand_still(seed)
    assert accident.onset is not None
    assert 0.25 <= accident.onset / 20 <= 1.0
    moved = np.linalg.norm(places - places[0], axis=1)
    assert moved[: accident.onset + 1].max() < 1e-6
    assert moved[accident.onset + 1] > 0.005
    assert moved[-1] == pytest.approx(PUSH, abs=0.005)


def test_moment_and_direction_differ_from_seed_to_seed_and_not_from_run_to_run() -> None:
    found: list[tuple[int | None, float]] = []
    for seed in (0, 1, 2, 3, 0):
        accident, places = stand_still(seed)
        x, y = (places[-1] - places[0])[:2].tolist()
        found.append((accident.onset, round(math.atan2(y, x), 3)))
    assert len(set(found[:4])) == 4
    assert found[0] == found[4]


def test_nothing_is_dropped_before_it_is_held() -> None:
    accident, places = stand_still(3, DROPPED)
    assert accident.onset is None
    assert np.ptp(places, axis=0).max() < 1e-6


@pytest.mark.parametrize("seed", SEEDS)
def test_what_has_been_raised_is_lost(seed: int) -> None:
    simulator = ToyPick()
    simulator.reset(seed)
    runner = RolloutRunner(simulator)
    EXPERTS["ToyPick-v0"]().solve(runner)
    trace = runner.trace()
    assert simulator.held()

    simulator.reset(seed)
    accident = Accident(DROPPED, seed, simulator)
    heights: list[float] = []
    for step, command in enumerate(trace.commands):
        heights.append(float(simulator.observe().objects[0, 2]))
        simulator.step(command, accident.at(step))
    assert accident.onset is not None
    assert heights[accident.onset] >= heights[0] + 0.03
    assert not simulator.held()
    assert simulator.observe().objects[0, 2] == pytest.approx(heights[0], abs=0.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_episode_records_its_accident_and_is_as_without_it_until_then(seed: int) -> None:
    usual, without = play(Wanderer(), seed=seed, steps=40)
    pushed, states = play(Wanderer(), seed=seed, scenario="pushed", steps=40)
    assert usual.onset is None
    assert pushed.onset is not None
    np.testing.assert_array_equal(states[: pushed.onset + 1], without[: pushed.onset + 1])
    assert not np.array_equal(states[pushed.onset + 1], without[pushed.onset + 1])
