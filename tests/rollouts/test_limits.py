"""The limits of commanded tool poses."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from failsafe.records import poses
from failsafe.rollouts.limits import TRACKING_LIMIT_METRES, TRACKING_LIMIT_RADIANS, clip_target
from failsafe.simulators.toy import ToyPick

ROBOT = ToyPick().spec.embodiment
COORDINATES = st.tuples(*[st.floats(-0.3, 0.3)] * 3)
ROTATIONS = st.tuples(*[st.floats(-1.5, 1.5)] * 3)
POSES = st.builds(
    lambda place, turn: np.concatenate([place, poses.from_rotation_vector(turn)]), COORDINATES, ROTATIONS
)
NEAR = st.builds(lambda d, r: np.concatenate([d, r]) * 0.08, COORDINATES, ROTATIONS)


def within(a: np.ndarray, b: np.ndarray, metres: float, radians: float) -> bool:
    far, turned = poses.distance(a, b)
    return far <= metres + 1e-6 and turned <= radians + 1e-6


def check_clipped(wanted: np.ndarray, before: np.ndarray, measured: np.ndarray) -> None:
    limits = ROBOT.step_limits
    target = clip_target(wanted, before, measured, ROBOT)
    assert within(measured, target, TRACKING_LIMIT_METRES, TRACKING_LIMIT_RADIANS)
    far, turned = poses.distance(measured, target)
    at_the_limit = far > TRACKING_LIMIT_METRES - 1e-6 or turned > TRACKING_LIMIT_RADIANS - 1e-6
    assert at_the_limit or within(before, target, *limits) or within(measured, target, *limits)
    if within(measured, wanted, *(0.99 * limit for limit in limits)):
        np.testing.assert_array_equal(target, wanted)
    # What is asked for once more is given as it is: the arm does not creep.
    again = clip_target(target, target, measured, ROBOT)
    assert max(poses.distance(again, target)) < 1e-6


@settings(deadline=None)
@given(wanted=POSES, before=POSES, measured=POSES)
def test_a_target_is_within_a_step_of_the_last_or_of_the_tool_and_of_the_tracking_limit(
    wanted: np.ndarray, before: np.ndarray, measured: np.ndarray
) -> None:
    check_clipped(wanted, before, measured)


@settings(deadline=None)
@given(measured=POSES, lag=NEAR, step=NEAR)
def test_so_it_is_in_the_small(measured: np.ndarray, lag: np.ndarray, step: np.ndarray) -> None:
    before = poses.apply_delta(measured, lag)
    check_clipped(poses.apply_delta(before, step), before, measured)


def test_steps_add_up_only_up_to_the_tracking_limit() -> None:
    measured = target = poses.pose([0.4, 0.0, 0.3])
    reached = []
    for _ in range(6):  # the tool is held fast
        target = clip_target(poses.apply_delta(target, [1.0, 0, 0, 0, 0, 0]), target, measured, ROBOT)
        reached.append(round(float(target[0]) - 0.4, 6))
    assert reached == [0.025, 0.05, 0.075, 0.1, 0.1, 0.1]
