import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from failsafe.errors import PolicyError
from failsafe.policies.contract import ActionSpace, Anchor, Frame, RotationFormat, check_chunk
from failsafe.records import poses

DOWN = (0.0, 1.0, 0.0, 0.0)
EULER_LIMIT = math.pi / 2 - 0.05
"""Pitch beyond which roll and yaw cannot be told apart."""


def numbers(limit):
    return st.floats(-limit, limit, allow_nan=False)


@st.composite
def spaces(draw):
    scale = st.floats(0.01, 10.0)
    opened = draw(st.sampled_from([1.0, -1.0, 0.0]))
    return ActionSpace(
        frame=draw(st.sampled_from(Frame)),
        rotation=draw(st.sampled_from(RotationFormat)),
        anchor=draw(st.sampled_from(Anchor)),
        translation_scale=draw(scale),
        rotation_scale=draw(scale) * draw(st.sampled_from([1, -1])),
        gripper_open=opened,
        gripper_closed=draw(st.sampled_from([1.0, -1.0, 0.0]).filter(lambda closed: closed != opened)),
    )


@st.composite
def tool_poses(draw):
    position = [draw(numbers(1.0)) for _ in range(3)]
    axis = np.array([draw(numbers(1.0)) for _ in range(3)])
    assume(np.linalg.norm(axis) > 0.1)
    turn = axis / np.linalg.norm(axis) * draw(st.floats(0.0, 3.1))
    return poses.pose(position, poses.from_rotation_vector(turn))


@st.composite
def turns(draw):
    """Roll, pitch and yaw, such that there are no other three for the same rotation."""
    return [draw(numbers(3.0)), draw(numbers(EULER_LIMIT)), draw(numbers(3.0))]


@given(
    spaces(),
    tool_poses(),
    tool_poses(),
    st.lists(numbers(0.2), min_size=3, max_size=3),
    turns(),
    numbers(1.0),
)
def test_a_pose_comes_back_as_it_went(space, target, measured, step, angles, gripper):
    anchor = target if space.anchor is Anchor.TARGET else measured
    turn = Rotation.from_euler("xyz", angles).as_rotvec()
    if space.frame is Frame.TOOL:
        step, turn = poses.rotate(anchor[3:], step), poses.rotate(anchor[3:], turn)
    wanted = poses.apply_delta(anchor, [*step, *turn])
    row = space.from_pose(wanted, gripper, target, measured)
    pose, opening = space.to_pose(row, target, measured)
    metres, radians = poses.distance(wanted, pose)
    assert metres < 1e-9
    assert radians < 1e-6
    assert opening == pytest.approx(gripper, abs=1e-9)


@given(
    spaces(),
    tool_poses(),
    tool_poses(),
    st.lists(numbers(0.2), min_size=3, max_size=3),
    turns(),
    numbers(1.0),
)
def test_an_action_comes_back_as_it_went(space, target, measured, step, angles, gripper):
    numbers_of_turn = np.array(angles)  # three angles of which no other three are the same rotation
    if space.rotation is RotationFormat.VECTOR:
        numbers_of_turn = Rotation.from_euler("xyz", angles).as_rotvec()
        assume(np.linalg.norm(numbers_of_turn) < 3.1)
    fingers = space.gripper_closed + (gripper + 1) / 2 * (space.gripper_open - space.gripper_closed)
    row = np.array(
        [*(np.array(step) / space.translation_scale), *(numbers_of_turn / space.rotation_scale), fingers]
    )
    pose, opening = space.to_pose(row, target, measured)
    back = space.from_pose(pose, opening, target, measured)
    np.testing.assert_allclose(back, row, rtol=1e-6, atol=1e-6 * max(1.0, 1 / abs(space.rotation_scale)))


def test_ours_is_the_default():
    start = poses.pose([0.1, 0.2, 0.3], DOWN)
    row = np.array([0.01, -0.02, 0.03, 0.0, 0.0, 0.5, -1.0])
    pose, gripper = ActionSpace().to_pose(row, start, poses.IDENTITY)
    np.testing.assert_allclose(pose[:3], [0.11, 0.18, 0.33])
    np.testing.assert_allclose(poses.delta_between(start, pose)[3:], [0.0, 0.0, 0.5], atol=1e-12)
    assert gripper == -1.0


def test_the_frame_of_the_tool():
    # The tool points down, half a turn about x: its y and z are the base's, with the other sign.
    start = poses.pose([0.0, 0.0, 0.5], DOWN)
    row = np.array([0.01, 0.02, 0.03, 0.0, 0.0, 0.5, 1.0])
    pose, _ = ActionSpace(frame=Frame.TOOL).to_pose(row, start, start)
    np.testing.assert_allclose(pose[:3], [0.01, -0.02, 0.47], atol=1e-12)
    np.testing.assert_allclose(poses.delta_between(start, pose)[3:], [0.0, 0.0, -0.5], atol=1e-12)


def test_roll_pitch_and_yaw_are_about_fixed_axes():
    # First a quarter about x, then one about the base's z: the tool's z goes to -y, and then to x.
    row = np.array([0.0, 0.0, 0.0, math.pi / 2, 0.0, math.pi / 2, 1.0])
    pose, _ = ActionSpace(rotation=RotationFormat.EULER).to_pose(row, poses.IDENTITY, poses.IDENTITY)
    np.testing.assert_allclose(poses.rotate(pose[3:], [0.0, 0.0, 1.0]), [1.0, 0.0, 0.0], atol=1e-12)


def test_intrinsic_angles_are_about_axes_that_turn_along():
    # A quarter about x, then one about the tool's new y, which is the base's z: its z goes to -y, then to x.
    row = np.array([0.0, 0.0, 0.0, math.pi / 2, math.pi / 2, 0.0, 1.0])
    space = ActionSpace(rotation=RotationFormat.EULER_INTRINSIC)
    pose, _ = space.to_pose(row, poses.IDENTITY, poses.IDENTITY)
    np.testing.assert_allclose(poses.rotate(pose[3:], [0.0, 0.0, 1.0]), [1.0, 0.0, 0.0], atol=1e-12)


def test_a_negative_scale_turns_the_other_way():
    row = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0])
    pose, _ = ActionSpace(rotation_scale=-0.1).to_pose(row, poses.IDENTITY, poses.IDENTITY)
    np.testing.assert_allclose(poses.to_rotation_vector(pose[3:]), [0.0, 0.0, -0.05], atol=1e-12)


def test_the_anchor():
    target, measured = poses.pose([0.5, 0.0, 0.0]), poses.pose([0.4, 0.0, 0.0])
    row = np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    for anchor, x in ((Anchor.TARGET, 0.6), (Anchor.MEASURED, 0.5)):
        pose, _ = ActionSpace(anchor=anchor).to_pose(row, target, measured)
        assert pose[0] == pytest.approx(x)


def test_scales():
    row = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    pose, _ = ActionSpace(translation_scale=0.05, rotation_scale=0.5).to_pose(
        row, poses.IDENTITY, poses.IDENTITY
    )
    np.testing.assert_allclose(pose[:3], [0.05, 0.0, 0.0])
    np.testing.assert_allclose(poses.to_rotation_vector(pose[3:]), [0.0, 0.0, 0.5])


@pytest.mark.parametrize(
    ("opened", "closed", "number", "expected"),
    [
        (1.0, 0.0, 1.0, 1.0),
        (1.0, 0.0, 0.0, -1.0),
        (1.0, 0.0, 0.75, 0.5),
        (-1.0, 1.0, -1.0, 1.0),
        (-1.0, 1.0, 0.5, -0.5),
        (1.0, -1.0, 3.0, 1.0),
        (1.0, 0.0, -0.2, -1.0),
    ],
)
def test_the_gripper(opened, closed, number, expected):
    space = ActionSpace(gripper_open=opened, gripper_closed=closed)
    _, gripper = space.to_pose(np.array([0.0] * 6 + [number]), poses.IDENTITY, poses.IDENTITY)
    assert gripper == pytest.approx(expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"translation_scale": 0.0},
        {"rotation_scale": 0.0},
        {"rate_hz": math.inf},
        {"rate_hz": math.nan},
        {"gripper_open": -1.0},
        {"chunk": 0},
        {"chunk": 65},
    ],
)
def test_spaces_that_make_no_sense(settings):
    with pytest.raises(PolicyError, match="expected"):
        ActionSpace(**settings)


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        ("error", "got str"),
        ([[1.0]], r"got \(1, 1\)"),
        (np.zeros((0, 7)), r"got \(0, 7\)"),
        (np.zeros((3, 7)), r"expected 1 to 2 actions of 7 numbers, got \(3, 7\)"),
        (np.full((1, 7), np.nan), "NaN or infinity"),
        ({}, "got dict"),
        ([[1.0] * 7, [1.0]], "got list"),
    ],
)
def test_chunks_that_are_none(chunk, words):
    with pytest.raises(PolicyError, match=words):
        check_chunk("it", chunk, 2)


def test_a_chunk():
    found = check_chunk("it", [[1, 2, 3, 4, 5, 6, 7]], 2)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [[1, 2, 3, 4, 5, 6, 7]])
