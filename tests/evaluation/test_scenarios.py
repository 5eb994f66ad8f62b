"""What is unlike training is so by just so much, and the same for the same seed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from failsafe.errors import UnknownNameError
from failsafe.evaluation.scenarios import SCENARIOS, scenario
from failsafe.records import poses
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


def test_an_exact_arm_does_what_it_is_told() -> None:
    condition = scenario("nominal").actuation(0)
    pose, gripper = condition(STILL, -0.5)
    np.testing.assert_array_equal(pose, STILL)
    assert gripper == -0.5


def test_a_noisy_arm_is_a_step_late_and_a_little_off() -> None:
    condition = scenario("noise").actuation(0)
    told = [poses.apply_delta(STILL, [0.02 * i, 0, 0, 0, 0, 0]) for i in range(400)]
    done = [condition(pose, float(i)) for i, pose in enumerate(told)]
    assert [gripper for _, gripper in done[:4]] == [0.0, 0.0, 1.0, 2.0]
    errors = np.array([poses.delta_between(told[i], done[i + 1][0]) for i in range(399)])
    np.testing.assert_allclose(errors[:, :3].std(0), 0.002, rtol=0.2)
    np.testing.assert_allclose(np.degrees(errors[:, 3:]).std(0), 1.0, rtol=0.2)
    assert np.abs(errors.mean(0)).max() < 0.003


def test_a_noisy_arm_that_is_told_to_stay_does_not_tremble() -> None:
    condition = scenario("noise").actuation(0)
    done = [condition(STILL, 1.0)[0] for _ in range(5)]
    assert all(np.array_equal(pose, done[0]) for pose in done)
    assert not np.array_equal(done[0], STILL)


def test_noise_is_the_same_draw_for_a_seed() -> None:
    first, again, other = (scenario("noise").actuation(seed)(STILL, 1.0)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_every_scenario_has_a_name_an_axis_and_words() -> None:
    for name, where in SCENARIOS.items():
        assert where.name == name
        assert where.description
        assert where.axis in ("none", "spatial", "viewpoint", "object", "embodiment", "physics", "accident")


def test_a_scenario_that_does_not_exist() -> None:
    with pytest.raises(UnknownNameError, match="unknown scenario 'farhter': did you mean 'farther'"):
        scenario("farhter")
