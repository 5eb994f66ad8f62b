"""ManiSkill's control modes: what an action asks of the tool, and the action that asks for something else."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from failsafe.errors import UserError
from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.simulators.maniskill.arm import Arm


@runtime_checkable
class ControlMode(Protocol):
    """The arm's part of a ManiSkill action.

    Attributes:
        relative: Whether an action counts from where the robot is, so that a displacement stays.
    """

    relative: bool

    def to_pose(self, action: Float[np.ndarray, "A"]) -> Pose:
        """Return the tool pose, robot base frame, that the arm's part of an action asks for."""
        ...

    def to_action(self, pose: Pose) -> Float[np.ndarray, "A"]:
        """Return the arm's part of an action that asks for a tool pose, robot base frame."""
        ...


class JointPosition:
    """`pd_joint_pos`: targets of the arm's joints, radians.

    Args:
        arm: The robot.
        controller: ManiSkill's controller of the arm.
    """

    relative = False

    def __init__(self, arm: Arm, controller: Any) -> None:
        self._arm = arm
        names = [joint.name for joint in arm.articulation.active_joints]
        self._rows = np.array([names.index(joint._objs[0].name) for joint in controller.joints])

    def to_pose(self, action: Float[np.ndarray, "A"]) -> Pose:
        """Forward kinematics."""
        joints = self._joints()
        joints[self._rows] = action
        return self._arm.tool_pose_at(joints)

    def to_action(self, pose: Pose) -> Float[np.ndarray, "A"]:
        """Inverse kinematics, from where the joints are."""
        return self._arm.solve(pose, self._joints())[self._rows]

    def _joints(self) -> Float[np.ndarray, "J"]:
        return self._arm.articulation.qpos.astype(np.float64)


class EndEffectorDelta:
    """`pd_ee_delta_pose`, `pd_ee_target_delta_pose`: a displacement of the tool, scaled to [-1, 1].

    The displacement counts from the measured pose, or from the controller's own target with `use_target`. The
    rotation is intrinsic Euler "XYZ" about the axes of the robot's root, with ManiSkill's negative scale.

    Args:
        arm: The robot.
        controller: ManiSkill's controller of the arm.

    Raises:
        UserError: If the controller uses other frames, or unscaled actions.
    """

    relative = True

    def __init__(self, arm: Arm, controller: Any) -> None:
        config = controller.config
        if config.frame != "root_translation:root_aligned_body_rotation" or not config.normalize_action:
            raise UserError(
                "expected scaled actions in the frame 'root_translation:root_aligned_body_rotation', got "
                f"'{config.frame}': make the environment with ManiSkill's own control modes"
            )
        self._controller = controller
        low, high = (np.broadcast_to(bound, 3) for bound in (config.pos_lower, config.pos_upper))
        self._middle, self._scale = (low + high) / 2, (high - low) / 2
        self._turn = float(np.broadcast_to(config.rot_lower, 3)[0])

    def to_pose(self, action: Float[np.ndarray, "A"]) -> Pose:
        """The displaced pose."""
        start, action = self._start(), np.clip(action, -1.0, 1.0)
        turn = action[3:] / max(1.0, float(np.linalg.norm(action[3:])))
        rotation = Rotation.from_euler("XYZ", turn * self._turn).as_rotvec()
        return poses.apply_delta(start, [*(self._middle + action[:3] * self._scale), *rotation])

    def to_action(self, pose: Pose) -> Float[np.ndarray, "A"]:
        """The displacement, as far as one action reaches."""
        delta = poses.delta_between(self._start(), pose)
        turn = Rotation.from_rotvec(delta[3:]).as_euler("XYZ") / self._turn
        action = np.concatenate([(delta[:3] - self._middle) / self._scale, turn])
        return np.clip(action, -1.0, 1.0)

    def _start(self) -> Pose:
        target = self._controller._target_pose if self._controller.config.use_target else None
        found = self._controller.ee_pose_at_base if target is None else target
        return np.asarray(found.raw_pose, dtype=np.float64).reshape(-1, 7)[0]


_MODES: dict[str, type[JointPosition] | type[EndEffectorDelta]] = {
    "pd_joint_pos": JointPosition,
    "pd_ee_delta_pose": EndEffectorDelta,
    "pd_ee_target_delta_pose": EndEffectorDelta,
}


def make_control_mode(env: Any, arm: Arm) -> ControlMode:
    """Return the control mode of a ManiSkill environment.

    Args:
        env: The unwrapped environment.
        arm: Its robot.

    Raises:
        UserError: If the control mode is not supported.
    """
    if env.control_mode not in _MODES:
        raise UserError(
            f"expected an environment with the control mode {' or '.join(_MODES)}, got '{env.control_mode}': "
            "give control_mode to gymnasium.make"
        )
    return _MODES[env.control_mode](arm, env.agent.controller.controllers["arm"])
