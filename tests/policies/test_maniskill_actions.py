"""The action space of `pd_ee_delta_pose` means what ManiSkill's own controller does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from failsafe.policies.contract import MANISKILL_EE_DELTA_POSE, Frame
from failsafe.records import poses

pytestmark = pytest.mark.maniskill


@pytest.fixture(scope="module")
def controller() -> Any:
    """ManiSkill's controller of the Panda's arm, without a robot: it computes target poses alone."""
    torch = pytest.importorskip("torch")
    from mani_skill.agents.controllers.pd_ee_pose import PDEEPoseController
    from mani_skill.agents.robots import Panda

    made = object.__new__(PDEEPoseController)
    made.config = object.__new__(Panda)._controller_configs["pd_ee_delta_pose"]["arm"]
    made._initialize_action_space()
    made.action_space_low = torch.from_numpy(made.single_action_space.low)
    made.action_space_high = torch.from_numpy(made.single_action_space.high)
    return made


def theirs(controller: Any, row: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The target pose that ManiSkill computes from an action at a tool pose, robot base frame."""
    import torch
    from mani_skill.utils.structs import Pose

    pose = Pose.create(torch.from_numpy(at.astype(np.float32))[None])
    action = controller._clip_and_scale_action(torch.from_numpy(row[None, :6].astype(np.float32)))
    return controller.compute_target_pose(pose, action).raw_pose[0].numpy().astype(float)


@pytest.mark.parametrize(
    ("frame", "theirs_is"),
    [
        (Frame.BASE, "root_translation:root_aligned_body_rotation"),
        (Frame.TOOL, "body_translation:body_aligned_body_rotation"),
    ],
)
def test_it_is_what_the_controller_does_and_comes_back(
    controller: Any, frame: Frame, theirs_is: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert controller.config.use_delta
    assert not controller.config.use_target
    if frame is Frame.BASE:
        assert controller.config.frame == theirs_is
    monkeypatch.setattr(controller.config, "frame", theirs_is)
    space = replace(MANISKILL_EE_DELTA_POSE, frame=frame)
    rng = np.random.default_rng(0)
    for _ in range(50):
        at = poses.pose(rng.uniform(-0.5, 0.5, 3), rng.normal(size=4))
        elsewhere = poses.pose(rng.uniform(-0.5, 0.5, 3))
        row = np.array([*rng.uniform(-1, 1, 3), *rng.uniform(-0.57, 0.57, 3), rng.choice([-1.0, 1.0])])
        expected = theirs(controller, row, at)
        pose, gripper = space.to_pose(row, elsewhere, at)
        metres, radians = poses.distance(pose, expected)
        assert metres < 1e-6
        assert radians < 2e-3 * np.linalg.norm(row[3:6]) + 1e-5  # float32 of nearly equal quaternions
        assert gripper == row[6]
        back = space.from_pose(pose, gripper, elsewhere, at)
        np.testing.assert_allclose(back, row, atol=1e-9)
        again = theirs(controller, space.from_pose(expected, gripper, elsewhere, at), at)
        metres, radians = poses.distance(again, expected)
        assert metres < 1e-6
        assert radians < 1e-3


def test_yaw_has_the_other_sign(controller: Any) -> None:
    """The trap: +0.5 turns the tool by -0.05 rad about z."""
    row = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0])
    turn = poses.to_rotation_vector(theirs(controller, row, poses.IDENTITY)[3:])
    np.testing.assert_allclose(turn, [0.0, 0.0, -0.05], atol=1e-5)
    pose, _ = MANISKILL_EE_DELTA_POSE.to_pose(row, poses.IDENTITY, poses.IDENTITY)
    np.testing.assert_allclose(poses.to_rotation_vector(pose[3:]), [0.0, 0.0, -0.05], atol=1e-9)
