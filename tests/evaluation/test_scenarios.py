"""What is unlike training is so by just so much, and the same for the same seed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from failsafe.errors import UnknownNameError
from failsafe.evaluation.scenarios import SCENARIOS, scenario
from failsafe.records import poses
from failsafe.rollouts.hooks import Command, StepContext
from failsafe.rollouts.loop import NO_STAGE, ControlLoop
from failsafe.simulators.contract import Role
from failsafe.simulators.toy import ToyPick, ToyStack

MIDDLE = np.array([0.615, 0.0])
STILL = poses.pose([0.5, 0.1, 0.2], (0.0, 1.0, 0.0, 0.0))


@pytest.mark.parametrize(("name", "metres", "degrees"), [("camera-5", 0.05, 5.0), ("camera-15", 0.15, 15.0)])
@pytest.mark.parametrize(("view", "share"), [("front", 1.0), ("side", 1.0), ("hand", 0.2)])
def test_a_camera_is_moved_by_just_so_much(
    name: str, metres: float, degrees: float, view: str, share: float
) -> None:
    camera = ToyPick().camera(view)
    for seed in range(5):
        moved = scenario(name).camera(camera, seed)
        far, turned = poses.distance(np.array(camera.pose), np.array(moved.pose))
        assert far == pytest.approx(share * metres)
        assert math.degrees(turned) == pytest.approx(degrees)
        assert (moved.name, moved.fov, moved.mounted) == (camera.name, camera.fov, camera.mounted)


def test_cameras_are_moved_alike_for_a_seed_and_each_in_its_own_way() -> None:
    front, side = ToyPick().camera("front"), ToyPick().camera("side")
    where = scenario("camera-15")
    assert where.camera(front, 7) == where.camera(front, 7)
    assert where.camera(front, 7) != where.camera(front, 8)
    shift = np.array(where.camera(front, 7).pose[:3]) - front.pose[:3]
    other = np.array(where.camera(side, 7).pose[:3]) - side.pose[:3]
    assert np.linalg.norm(shift - other) > 0.01
    assert scenario("nominal").camera(front, 7) == front
    assert scenario("farther").camera(front, 7) == front


@pytest.mark.parametrize("make", [ToyPick, ToyStack])
def test_objects_are_farther_from_the_middle_by_just_so_much(make: type) -> None:
    simulator = make()
    movable = [i for i, spec in enumerate(simulator.episode.objects) if spec.role is Role.MOVABLE]
    for seed in range(5):
        scenario("nominal").start(simulator, seed)
        before, state = simulator.observe().objects, simulator.state()
        scenario("farther").start(simulator, seed)
        after = simulator.observe().objects
        for i in range(len(before)):
            away = np.linalg.norm(after[i, :2] - MIDDLE) - np.linalg.norm(before[i, :2] - MIDDLE)
            far = np.linalg.norm(after[i, :3] - before[i, :3])
            assert away == pytest.approx(0.05 if i in movable else 0.0, abs=1e-6)
            assert far == pytest.approx(0.05 if i in movable else 0.0, abs=1e-6)
            np.testing.assert_array_equal(after[i, 2:], before[i, 2:])
        scenario("nominal").start(simulator, seed)
        np.testing.assert_array_equal(simulator.state(), state)


def test_noise_is_the_same_draw_for_a_seed() -> None:
    context = StepContext(0, NO_STAGE, 0, 1, ControlLoop(ToyPick()))

    def sent(seed: int) -> np.ndarray:
        (arm,) = scenario("noise").hooks(seed)
        return arm.before_step(context, Command(STILL, 1.0)).target

    np.testing.assert_array_equal(sent(3), sent(3))
    assert not np.array_equal(sent(3), sent(4))
    assert scenario("nominal").hooks(3) == []


def test_every_scenario_has_a_name_an_axis_and_a_description() -> None:
    for name, where in SCENARIOS.items():
        assert where.name == name
        assert where.description
        assert where.axis in (
            "none",
            "spatial",
            "viewpoint",
            "object",
            "embodiment",
            "physics",
            "perturbation",
        )


def test_a_scenario_that_does_not_exist() -> None:
    with pytest.raises(UnknownNameError, match="unknown scenario 'farhter': did you mean 'farther'"):
        scenario("farhter")
