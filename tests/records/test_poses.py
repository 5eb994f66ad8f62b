import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failsafe.records import poses

HALF = math.sqrt(0.5)
QUARTER_Z = np.array([HALF, 0.0, 0.0, HALF])
QUARTER_X = np.array([HALF, HALF, 0.0, 0.0])

components = st.floats(-2.0, 2.0, allow_nan=False)
any_pose = st.builds(
    lambda p, r: poses.pose(p, poses.from_rotation_vector(r)),
    st.lists(components, min_size=3, max_size=3),
    st.lists(st.floats(-1.7, 1.7), min_size=3, max_size=3),
)


def test_a_pose_has_a_unit_quaternion():
    np.testing.assert_allclose(poses.pose([1, 2, 3], [0, 0, 0, 5]), [1, 2, 3, 0, 0, 0, 1])
    np.testing.assert_array_equal(poses.pose([0.0, 0.0, 0.0]), poses.IDENTITY)


def test_a_quarter_turn_about_z_leads_x_to_y():
    np.testing.assert_allclose(poses.rotate(QUARTER_Z, [1.0, 0.0, 0.0]), [0.0, 1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(poses.rotate(QUARTER_Z, [0.0, 1.0, 2.0]), [-1.0, 0.0, 2.0], atol=1e-12)


def test_a_product_applies_its_right_side_first():
    both = poses.quaternion_multiply(QUARTER_X, QUARTER_Z)
    # x -> y (about z), then y -> z (about x)
    np.testing.assert_allclose(poses.rotate(both, [1.0, 0.0, 0.0]), [0.0, 0.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(both, [0.5, 0.5, -0.5, 0.5])


def test_rotation_vectors_of_known_turns():
    np.testing.assert_allclose(poses.from_rotation_vector([0.0, 0.0, math.pi / 2]), QUARTER_Z)
    np.testing.assert_allclose(poses.to_rotation_vector(QUARTER_Z), [0.0, 0.0, math.pi / 2])
    # -q is the same turn, and the short way round is given
    np.testing.assert_allclose(poses.to_rotation_vector(-QUARTER_Z), [0.0, 0.0, math.pi / 2])
    np.testing.assert_allclose(
        poses.to_rotation_vector(poses.from_rotation_vector([1e-14, 0, 0])), [1e-14, 0, 0]
    )
    np.testing.assert_array_equal(poses.to_rotation_vector(np.array([1.0, 0.0, 0.0, 0.0])), [0.0, 0.0, 0.0])


def test_composing_moves_in_the_turned_frame():
    a = poses.pose([1.0, 0.0, 0.0], QUARTER_Z)
    b = poses.pose([2.0, 0.0, 0.5], QUARTER_Z)
    np.testing.assert_allclose(poses.compose(a, b), [1.0, 2.0, 0.5, 0.0, 0.0, 0.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(poses.inverse(a), [0.0, 1.0, 0.0, HALF, 0.0, 0.0, -HALF], atol=1e-12)
    np.testing.assert_allclose(poses.relative(a, poses.compose(a, b)), b, atol=1e-12)


def test_a_delta_turns_about_outer_axes_and_does_not_swing_the_tool():
    start = poses.pose([0.4, 0.0, 0.2], [0.0, 1.0, 0.0, 0.0])
    end = poses.apply_delta(start, [0.01, 0.02, -0.03, 0.0, 0.0, math.pi / 2])
    np.testing.assert_allclose(end[:3], [0.41, 0.02, 0.17])
    # the tool's x pointed along x, and now along y, its z still down
    np.testing.assert_allclose(poses.rotate(end[3:], [1.0, 0.0, 0.0]), [0.0, 1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(poses.rotate(end[3:], [0.0, 0.0, 1.0]), [0.0, 0.0, -1.0], atol=1e-12)


@given(any_pose, any_pose)
@settings(deadline=None, max_examples=50)
def test_the_delta_between_two_poses_leads_from_one_to_the_other(a, b):
    reached = poses.apply_delta(a, poses.delta_between(a, b))
    metres, radians = poses.distance(reached, b)
    assert metres < 1e-9
    assert radians < 1e-7


@given(any_pose, any_pose)
@settings(deadline=None, max_examples=50)
def test_relative_undoes_compose(a, b):
    metres, radians = poses.distance(poses.relative(a, poses.compose(a, b)), b)
    assert metres < 1e-9
    assert radians < 1e-7


def test_distance_is_metres_and_radians():
    turned = poses.pose([0.3, 0.4, 0.0], poses.from_rotation_vector([0.0, 0.2, 0.0]))
    assert poses.distance(poses.IDENTITY, turned) == pytest.approx((0.5, 0.2))


def test_angles_between_rows():
    a = np.array([[1.0, 0.0, 0.0, 0.0], QUARTER_Z, QUARTER_Z])
    b = np.array([QUARTER_Z, QUARTER_Z, -QUARTER_Z])
    np.testing.assert_allclose(poses.angles_between(a, b), [math.pi / 2, 0.0, 0.0], atol=1e-7)


@pytest.mark.parametrize(
    ("delta", "steps"),
    [
        ([0.1, 0.0, 0.0, 0.0, 0.0, 0.0], 4),  # 0.1 m at 0.025 m a step
        ([0.101, 0.0, 0.0, 0.0, 0.0, 0.0], 5),
        ([0.025, 0.0, 0.0, 0.0, 0.0, 0.5], 4),  # the turn takes longer: 0.5 rad at 0.125 rad a step
        ([0.0] * 6, 0),
    ],
)
def test_steps_between_keeps_both_limits(delta, steps):
    end = poses.apply_delta(poses.IDENTITY, delta)
    assert poses.steps_between(poses.IDENTITY, end, 0.025, 0.125) == steps


def test_interpolation_leaves_out_the_start_and_ends_at_the_end():
    end = poses.apply_delta(poses.IDENTITY, [0.3, 0.0, 0.0, 0.0, 0.0, 0.3])
    path = poses.interpolate(poses.IDENTITY, end, 3)
    np.testing.assert_allclose(path[:, 0], [0.1, 0.2, 0.3])
    angles = [poses.to_rotation_vector(p[3:])[2] for p in path]
    np.testing.assert_allclose(angles, [0.1, 0.2, 0.3])
    assert poses.interpolate(poses.IDENTITY, end, 0).shape == (0, 7)


def test_a_limited_step_goes_straight_as_far_as_it_may():
    far = poses.apply_delta(poses.IDENTITY, [0.3, 0.4, 0.0, 0.0, 0.0, 0.5])
    step = poses.limit_step(poses.IDENTITY, far, 0.05, 0.1)
    np.testing.assert_allclose(step[:3], [0.03, 0.04, 0.0])
    np.testing.assert_allclose(poses.to_rotation_vector(step[3:]), [0.0, 0.0, 0.1])


def test_a_step_within_the_limits_is_not_touched():
    near = poses.apply_delta(poses.IDENTITY, [0.03, 0.04, 0.0, 0.0, 0.0, 0.05])
    assert poses.limit_step(poses.IDENTITY, near, 0.05, 0.1) is near
