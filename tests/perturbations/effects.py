"""What each mode does to the world: one function a mode, which lets it act and looks at the physics.

Every one takes a `Bench`, so that it is tried in more than one engine. `SHOWN` says in which tasks.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from tests.perturbations.bench import Bench

from failsafe.records import poses

PICKING = ("ToyPick-v0", "PickCube-v1", "StackCube-v1")
MOVING = ("ToyPick-v0", "ToyPush-v0", "PickCube-v1", "StackCube-v1", "PushCube-v1")
STACKING = ("ToyStack-v0", "StackCube-v1")

Effect = Callable[[Bench], None]
SHOWN: dict[str, tuple[Effect, tuple[str, ...]]] = {}
"""By mode: what shows that it does what its name says, and the tasks to show it in."""


def shows(mode: str, tasks: tuple[str, ...]) -> Callable[[Effect], Effect]:
    def add(effect: Effect) -> Effect:
        SHOWN[mode] = (effect, tasks)
        return effect

    return add


def along(direction: float) -> np.ndarray:
    return np.array([math.cos(direction), math.sin(direction), 0.0])


def full_travel(bench: Bench) -> float:
    """How far the command goes from open to closed: the Panda's goes 2 x 1 cm further than its pads can."""
    return 0.08 if bench.name.startswith("Toy") else 0.10


# ---------------------------------------------------------------- plan


def offset(
    axis: int, magnitudes: tuple[float, float], metres: float, radians: float
) -> Callable[[str], Effect]:
    def make(mode: str) -> Effect:
        def effect(bench: Bench) -> None:
            for magnitude in magnitudes:
                seen = bench.run(mode, magnitude)
                expected = np.zeros(6)
                expected[axis] = magnitude
                moved = seen.tool_moved()
                np.testing.assert_allclose(moved[:3], expected[:3], atol=metres)
                np.testing.assert_allclose(moved[3:], expected[3:], atol=radians)
                assert seen.injected == seen.span.start

        return effect

    return make


# On the table and behind a cube there is no room for the other direction.
for _name, _axis, _magnitudes in (("x", 0, (-0.05, -0.03)), ("y", 1, (0.05, -0.03)), ("z", 2, (0.05, 0.03))):
    _mode = f"translation_{_name}"
    shows(_mode, MOVING)(offset(_axis, _magnitudes, 0.002, 0.005)(_mode))
for _name, _axis in (("x", 3), ("y", 4), ("z", 5)):
    _mode = f"rotation_{_name}"
    shows(_mode, MOVING)(offset(_axis, (0.5, -0.3), 0.004, 0.015)(_mode))


@shows("step_omitted", MOVING)
def step_omitted(bench: Bench) -> None:
    for stage in bench.stages("step_omitted"):
        seen = bench.run("step_omitted", 1.0, stage=stage)
        before, after = seen.tool_path[[seen.span.start, seen.span.stop]]
        assert seen.span.steps <= 1
        assert np.linalg.norm(after[:3] - before[:3]) < 0.001
        assert len(seen.rollout.spans) == len(seen.nominal.record.spans)
        for mine, theirs in zip(
            seen.rollout.spans[stage + 1 :], seen.nominal.record.spans[stage + 1 :], strict=True
        ):
            # the others are carried out all the same
            commanded = seen.rollout.trace.targets[mine.stop - 1]
            np.testing.assert_allclose(commanded, seen.nominal.trace.targets[theirs.stop - 1], atol=1e-6)
            assert mine.gripper == theirs.gripper


# ---------------------------------------------------------------- belief


@shows("misperceived_position", MOVING)
def misperceived_position(bench: Bench) -> None:
    for magnitude, direction in ((0.03, 1.0), (0.06, -2.0)):
        seen = bench.run("misperceived_position", magnitude, direction=direction)
        np.testing.assert_allclose(seen.tool_moved()[:3], magnitude * along(direction), atol=0.002)
        np.testing.assert_array_equal(seen.path()[0], seen.nominal_path()[0])  # the world itself is as it was
        assert seen.injected == seen.span.start


@shows("wrong_object", STACKING)
def wrong_object(bench: Bench) -> None:
    seen = bench.run("wrong_object", 1.0)
    wanted = seen.drawn.object
    (other,) = (name for name in bench.movable if name != wanted)
    grasped, _ = seen.ends(after=1)
    tool = seen.tool_path[grasped, :2]
    assert np.linalg.norm(tool - seen.path(other)[grasped, :2]) < 0.005
    assert np.linalg.norm(tool - seen.path(wanted)[grasped, :2]) > 0.05
    for name, lifted in ((wanted, False), (other, True)):
        assert (np.ptp(seen.path(name)[:, 2]) > 0.05) == lifted
        assert (np.ptp(seen.nominal_path(name)[:, 2]) > 0.05) != lifted


@shows("wrong_goal", MOVING)
def wrong_goal(bench: Bench) -> None:
    tolerance = 0.02 if "Push" in bench.name else 0.002  # what is pushed slides on
    for magnitude, direction in ((0.06, 1.0), (0.1, -0.4)):
        seen = bench.run("wrong_goal", magnitude, direction=direction)
        moved = (seen.path(bench.movable[0]) - seen.nominal_path(bench.movable[0])[-1])[-1, :2]
        np.testing.assert_allclose(moved, magnitude * along(direction)[:2], atol=tolerance)
        np.testing.assert_allclose(seen.path()[-1, :3], seen.nominal_path()[-1, :3], atol=1e-3)


# ---------------------------------------------------------------- actuation


@shows("no_op", MOVING)
def no_op(bench: Bench) -> None:
    for steps, stage, moment in ((8, 0, 0.0), (13, 1, 0.5), (10, 2, 0.0)):
        seen = bench.run("no_op", steps / 20, stage=stage, moment=moment)
        first, targets = seen.injected, seen.rollout.trace.targets
        last = targets[first - 1] if first else seen.tool_path[0]
        np.testing.assert_allclose(targets[first : first + steps], np.tile(last, (steps, 1)), atol=1e-6)
        grippers = seen.rollout.trace.gripper_commands[max(first - 1, 0) : first + steps]
        assert set(grippers) == {grippers[0]}
        assert np.linalg.norm(targets[first + steps] - last) > 1e-3 or seen.span.closes
        np.testing.assert_allclose(
            seen.tool_path[first + steps], seen.tool_path[first + steps - 1], atol=1e-3
        )
        if first:
            np.testing.assert_array_equal(seen.tool_path[:first], seen.nominal.trace.tcp_poses[:first])


@shows("gripper_stays_open", PICKING)
def gripper_stays_open(bench: Bench) -> None:
    for magnitude in (0.0, 0.2, 0.4):
        seen = bench.run("gripper_stays_open", magnitude)
        width = seen.widths[seen.span.stop]
        assert width == pytest.approx(0.08 - magnitude * full_travel(bench), abs=0.0025)
        assert width > seen.nominal_widths[seen.nominal_span.stop] + 0.004
        assert bench.held_at_end() == ()
        assert np.ptp(seen.path(bench.movable[0])[:, 2]) < 0.005  # nothing was lifted


@shows("late_close", PICKING)
def late_close(bench: Bench) -> None:
    def first_below(widths: np.ndarray) -> int:
        return int(np.argmax(widths < 0.075))

    for steps in (4, 7, 12):
        seen = bench.run("late_close", steps / 20)
        assert first_below(seen.widths) == first_below(seen.nominal_widths) + steps
        assert seen.injected == seen.nominal_span.start


@shows("early_release", PICKING)
def early_release(bench: Bench) -> None:
    for magnitude, moment in ((1.0, 0.0), (0.7, 0.4)):
        seen = bench.run("early_release", magnitude, moment=moment)
        opened = 0.08 - (1.0 - magnitude) * full_travel(bench)
        assert seen.widths[seen.injected] < 0.042
        assert seen.widths[seen.injected + 6] == pytest.approx(opened, abs=0.004)
        fallen = seen.path(bench.movable[0])
        assert fallen[-1, 2] == pytest.approx(fallen[0, 2], abs=1e-3)
        assert bench.held_at_end() == ()


@shows("drift", PICKING)
def drift(bench: Bench) -> None:
    for magnitude, direction in ((0.001, -2.0), (0.002, 1.0)):
        seen = bench.run("drift", 20 * magnitude, direction=direction)
        steps = seen.nominal_span.stop - seen.injected
        apart = seen.tool_path[: steps + 1, :3] - seen.nominal.trace.tcp_poses[: steps + 1, :3]
        bias = apart @ along(direction)
        # a straight line once the tool's lag is constant, and nothing across it
        np.testing.assert_allclose(np.diff(bias[4:]), magnitude, rtol=0.5)
        assert (bias[-1] - bias[4]) / (steps - 4) == pytest.approx(magnitude, rel=0.03)
        np.testing.assert_allclose(apart - np.outer(bias, along(direction)), 0.0, atol=0.002)
    # ... which ends at 10 cm: the tool is led to its last target plus that, and stays there
    seen = bench.run("drift", 0.1, direction=direction)
    end = seen.tool_path[-1, :3] - np.array(seen.rollout.plan.stages[-1].target[:3])
    np.testing.assert_allclose(end, 0.1 * along(direction), atol=0.002)


# ---------------------------------------------------------------- world


@shows("slip", PICKING)
def slip(bench: Bench) -> None:
    for magnitude, moment in ((0.01, 0.0), (0.02, 0.3)):
        seen = bench.run("slip", magnitude, moment=moment)
        first = seen.injected
        below = seen.path()[:, 2] - seen.tool_path[:, 2]
        assert below[first] - below[first + 4] == pytest.approx(magnitude, abs=0.0015)
        aside = np.linalg.norm((seen.path() - seen.tool_path)[:, :2], axis=1)
        assert abs(aside[first + 4] - aside[first]) < 0.0015
        # still in the grip, where it then is: ten steps on it has slid no further
        assert below[first + 8] == pytest.approx(below[first + 4], abs=0.001)
        assert seen.widths[first + 8] > 0.03
        assert seen.path()[first + 8, 2] > seen.path()[0, 2] + 0.01


@shows("object_dropped", PICKING)
def object_dropped(bench: Bench) -> None:
    for magnitude, moment in ((0.0, 0.0), (0.3, 0.5)):
        seen = bench.run("object_dropped", magnitude, moment=moment, direction=2.0)
        first, height = seen.injected, seen.path()[0, 2]
        assert seen.nominal_path()[first, 2] > height - 1e-4
        np.testing.assert_array_equal(seen.path()[: first + 1], seen.nominal_path()[: first + 1])
        fallen = seen.path()[first:, 2]
        assert fallen[10:].max() < height + 0.03  # on the table, or on what lies there
        assert fallen.min() > height - 0.002  # and not in it
        if bench.name.startswith("Toy"):  # the Panda's fingers are in the way
            moved = (seen.path()[first + 2] - seen.path()[first])[:2]
            np.testing.assert_allclose(moved, 0.1 * magnitude * along(2.0)[:2], atol=1e-4)
        before_release = first + 15
        assert seen.rollout.trace.gripper_commands[before_release] < 0  # though the grip is closed
        assert seen.widths[before_release] < 0.01
        assert bench.held_at_end() == ()


@shows("object_pushed", MOVING)
def object_pushed(bench: Bench) -> None:
    for name in bench.movable:
        for magnitude, direction in ((0.03, 0.0), (0.1, 2.0)):
            stage = next(
                i for i in bench.stages("object_pushed") if name in bench.nominal.scene.free_objects(i)
            )
            seen = bench.run("object_pushed", magnitude, stage=stage, direction=direction, name=name)
            path, first = seen.path()[:, :3], seen.injected
            np.testing.assert_allclose(path[first + 4] - path[first], magnitude * along(direction), atol=5e-4)
            # it stays there until the robot comes
            np.testing.assert_allclose(path[first + 7], path[first + 4], atol=1e-3)


@shows("object_knocked_over", MOVING)
def object_knocked_over(bench: Bench) -> None:
    for name in bench.movable:
        for magnitude, direction in ((1.2, 0.0), (1.7, 2.0)):
            seen = bench.run("object_knocked_over", magnitude, direction=direction, name=name)
            path, first = seen.path(), seen.injected
            tilt = [_tilt(path[first], pose) for pose in path]
            assert tilt[first + 4] == pytest.approx(magnitude / 2, abs=0.02)
            assert max(tilt[first : first + 9]) > min(magnitude - 0.1, 1.5)
            rolled = (path[first + 6] - path[first])[:2]
            np.testing.assert_allclose(rolled / np.linalg.norm(rolled), along(direction)[:2], atol=0.05)
            assert tilt[first + 20] > 1.4  # over its edge, it goes on by itself, onto another face


def _tilt(before: np.ndarray, now: np.ndarray) -> float:
    """By how much what pointed up before does not point up now, radians."""
    up = poses.rotate(poses.quaternion_inverse(before[3:]), (0.0, 0.0, 1.0))
    return math.acos(min(1.0, float(poses.rotate(now[3:], up)[2])))
