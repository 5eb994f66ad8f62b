"""The robot as data: contradictions are refused, durations become steps, and it survives being stored."""

import dataclasses

import numpy as np
import pytest

from failsafe.records import codec, poses
from failsafe.records.embodiment import EmbodimentSpec

ROBOT = EmbodimentSpec(
    robot="made up",
    control_hz=10.0,
    max_translation=0.05,
    max_rotation=0.2,
    gripper_travel=0.08,
    gripper_seconds=0.3,
    workspace_low=(0.1, -0.5, 0.0),
    workspace_high=(0.9, 0.5, 0.6),
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"control_hz": 0.0}, "expected control_hz to be positive, got 0.0"),
        ({"max_translation": -0.1}, "expected max_translation to be positive, got -0.1"),
        ({"max_rotation": float("nan")}, "expected max_rotation to be positive, got nan"),
        ({"gripper_travel": 0.0}, "expected a gripper with a travel and a closing time above 0, got 0.0 m"),
        ({"gripper_seconds": 0.0}, "above 0, got 0.08 m and 0.0 s"),
        ({"workspace_low": (0.1, 0.5, 0.0)}, "expected a workspace box with low < high"),
        ({"work_center": (0.0, 0.0, 0.1)}, "expected the work center inside the workspace box"),
        ({"action_dimensions": (True,) * 4}, "expected 7 action dimensions, got 4"),
    ],
)
def test_a_contradiction_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ROBOT, **change)


def test_a_robot_without_a_gripper_needs_no_travel():
    stick = dataclasses.replace(
        ROBOT, action_dimensions=(*(True,) * 6, False), gripper_travel=0.0, gripper_seconds=0.0
    )
    assert not stick.has_gripper
    assert stick.controls_rotation


def test_action_dimensions_say_what_can_be_commanded():
    assert ROBOT.has_gripper
    assert ROBOT.controls_rotation
    sliding = dataclasses.replace(ROBOT, action_dimensions=(True, True, True, False, False, False, True))
    assert sliding.has_gripper
    assert not sliding.controls_rotation
    one_turn = dataclasses.replace(ROBOT, action_dimensions=(True, True, True, False, False, True, True))
    assert one_turn.controls_rotation


@pytest.mark.parametrize(
    ("seconds", "steps"), [(0.0, 1), (0.04, 1), (0.1, 1), (0.16, 2), (0.3, 3), (0.6, 6), (2.04, 20)]
)
def test_a_duration_becomes_a_whole_number_of_steps(seconds, steps):
    assert ROBOT.steps(seconds) == steps


def test_a_pose_is_clipped_to_the_workspace():
    pose = poses.pose([1.0, 0.2, -0.1], [0.0, 1.0, 0.0, 0.0])
    clipped = ROBOT.clip_to_workspace(pose)
    np.testing.assert_array_equal(clipped, [0.9, 0.2, 0.0, 0.0, 1.0, 0.0, 0.0])
    assert pose[0] == 1.0


def test_it_is_the_same_after_being_stored():
    assert codec.loads(EmbodimentSpec, codec.dumps(ROBOT), "a record") == ROBOT
