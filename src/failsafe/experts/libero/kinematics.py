"""The kinematics of the arm: whether it reaches a tool pose, and what it would collide with there.

Everything is computed on data of its own. The simulation is read and never changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from failsafe.experts.libero.surfaces import contact_geoms, subtree
from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.simulators.mujoco.bindings import MjData, MjModel, mujoco

_ITERATIONS = 30
_PATIENCE = 12
"""Iterations after which a pose that is still far away counts as out of reach."""
_FAR = 0.15
"""Distance (m and rad) that is far away then."""
_DAMPING = 0.03
_LONGEST_STEP = 0.3
"""Largest change of a joint in one iteration, radians."""
_NEAR_METRES, _NEAR_RADIANS = 0.003, 0.02
"""Distance from a pose up to which it counts as reached."""
_MARGIN = 0.03
"""Distance that joints keep from their limits, radians."""
_DEPTH = 0.0015
"""Depth of a contact up to which it does not count as a collision, metres."""


@dataclass(frozen=True)
class Attachment:
    """An object that moves with the tool.

    Attributes:
        body: Id of its body, which has a free joint.
        offset: Pose of the body in the tool frame. [7]
    """

    body: int
    offset: Pose


class ArmKinematics:
    """Inverse kinematics and collisions of the arm.

    Args:
        model: The compiled model.
        data: Data of the simulation, which is read at every `begin`.
        tool: Id of the body that carries the tool.
        tool_offset: Pose of the tool in the frame of that body. [7]
        arm: Ids of the joints of the arm, from the base on.
        fingers: Ids of the joints of the two fingers.
    """

    def __init__(
        self,
        model: MjModel,
        data: MjData,
        tool: int,
        tool_offset: Pose,
        arm: Sequence[int],
        fingers: tuple[int, int],
    ) -> None:
        self._model, self._live = model, data
        self._data = mujoco.MjData(model)
        self._tool, self._offset = tool, tool_offset
        self._arm_qpos = np.array([int(model.jnt_qposadr[j]) for j in arm])
        self._arm_dofs = np.array([int(model.jnt_dofadr[j]) for j in arm])
        self._low = model.jnt_range[list(arm), 0] + _MARGIN
        self._high = model.jnt_range[list(arm), 1] - _MARGIN
        self._finger_qpos = [int(model.jnt_qposadr[j]) for j in fingers]
        self._finger_open = [
            float(model.jnt_range[j][np.argmax(np.abs(model.jnt_range[j]))]) for j in fingers
        ]
        # The first link stands on the base; it cannot collide with what is on a table.
        links = subtree(model, int(model.jnt_bodyid[arm[1]]), joints=True)
        self._mover = np.zeros(model.ngeom, dtype=bool)
        self._mover[list(contact_geoms(model, links))] = True
        self._robot = self._mover.copy()
        whole = subtree(model, int(model.body_rootid[links[0]]), joints=True)
        self._robot[list(contact_geoms(model, whole))] = True
        self._jacobian = np.zeros((6, model.nv))

    def begin(self) -> None:
        """Take over the state of the simulation."""
        self._data.qpos[:] = self._live.qpos

    def set_joint(self, address: int, value: float | np.ndarray) -> None:
        """Set a joint position for the poses to come.

        Args:
            address: Where the joint's position begins in `qpos`.
            value: Position; of a free joint a pose. [7]
        """
        size = np.size(value)
        self._data.qpos[address : address + size] = value

    def reach(self, pose: Pose) -> bool:
        """Move the arm to a tool pose, and return whether it gets there.

        Args:
            pose: Tool pose, world frame. [7]
        """
        model, data = self._model, self._data
        wanted = poses.compose(pose, poses.inverse(self._offset))
        start = data.qpos[self._arm_qpos].copy()
        for iteration in range(_ITERATIONS):
            mujoco.mj_kinematics(model, data)
            now = np.concatenate([data.xpos[self._tool], data.xquat[self._tool]])
            error = poses.delta_between(now, wanted)
            if np.abs(error[:3]).max() < _NEAR_METRES and np.abs(error[3:]).max() < _NEAR_RADIANS:
                return True
            if iteration == _PATIENCE and np.abs(error).max() > _FAR:
                break
            mujoco.mj_comPos(model, data)
            mujoco.mj_jacBody(model, data, self._jacobian[:3], self._jacobian[3:], self._tool)
            jacobian = self._jacobian[:, self._arm_dofs]
            square = jacobian @ jacobian.T + _DAMPING**2 * np.eye(6)
            step = jacobian.T @ np.linalg.solve(square, error)
            step *= min(1.0, _LONGEST_STEP / max(float(np.abs(step).max()), 1e-9))
            at = data.qpos[self._arm_qpos] + step
            data.qpos[self._arm_qpos] = np.clip(at, self._low, self._high)
        data.qpos[self._arm_qpos] = start
        return False

    def collides(
        self, opening: float = 1.0, attached: Attachment | None = None, ignore: Sequence[int] = ()
    ) -> bool:
        """Return whether the arm, or an object that moves with it, is inside anything else.

        Args:
            opening: Share of the full opening of the gripper.
            attached: An object that moves with the tool, and touches the fingers.
            ignore: Ids of shapes that may be touched.
        """
        model, data = self._model, self._data
        for at, wide in zip(self._finger_qpos, self._finger_open, strict=True):
            data.qpos[at] = wide * opening
        mover = self._mover
        if attached is not None:
            mujoco.mj_kinematics(model, data)
            hand = np.concatenate([data.xpos[self._tool], data.xquat[self._tool]])
            pose = poses.compose(poses.compose(hand, self._offset), attached.offset)
            joint = int(model.body_jntadr[attached.body])
            self.set_joint(int(model.jnt_qposadr[joint]), pose)
            mover = mover.copy()
            mover[list(contact_geoms(model, subtree(model, attached.body)))] = True
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        count = data.ncon
        if not count:
            return False
        pairs, depth = data.contact.geom[:count], data.contact.dist[:count]
        first, second = pairs[:, 0], pairs[:, 1]
        robot = self._robot | mover if attached is not None else self._robot
        moving = (mover[first] & ~robot[second]) | (mover[second] & ~robot[first])
        if ignore:
            moving &= ~(np.isin(first, ignore) | np.isin(second, ignore))
        return bool((moving & (depth < -_DEPTH)).any())

    def overlaps(self, geoms: set[int]) -> bool:
        """Return whether some shapes are inside anything else. The joints are as they were set.

        Args:
            geoms: Ids of the shapes.
        """
        model, data = self._model, self._data
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        count = data.ncon
        inside = np.isin(data.contact.geom[:count], list(geoms))
        return bool(((inside[:, 0] != inside[:, 1]) & (data.contact.dist[:count] < 0)).any())

    def body_pose(self, body: int) -> Pose:
        """Return the pose of a body, world frame, with the joints as they were set."""
        mujoco.mj_kinematics(self._model, self._data)
        return np.concatenate([self._data.xpos[body], self._data.xquat[body]])

    def free(
        self,
        pose: Pose,
        opening: float = 1.0,
        attached: Attachment | None = None,
        ignore: Sequence[int] = (),
    ) -> bool:
        """Return whether the arm reaches a tool pose without a collision.

        Args:
            pose: Tool pose, world frame. [7]
            opening: Share of the full opening of the gripper.
            attached: An object that moves with the tool.
            ignore: Ids of shapes that may be touched.
        """
        return self.reach(pose) and not self.collides(opening, attached, ignore)


class Distinct:
    """Poses of which no two are nearly the same.

    Args:
        metres: Distance up to which two positions count as the same.
        radians: Angle up to which two orientations count as the same.
    """

    def __init__(self, metres: float, radians: float) -> None:
        self._metres, self._radians = metres, radians
        self._poses = np.zeros((0, 7))

    def __len__(self) -> int:
        return len(self._poses)

    def add(self, pose: Pose) -> bool:
        """Add a pose, unless it is nearly the same as another; return whether it was added.

        Args:
            pose: The pose. [7]
        """
        near = np.linalg.norm(self._poses[:, :3] - pose[:3], axis=1) < self._metres
        others = self._poses[near]
        turned = poses.angles_between(others[:, 3:], np.broadcast_to(pose[3:], others[:, 3:].shape))
        if (turned < self._radians).any():
            return False
        self._poses = np.concatenate([self._poses, pose[None]])
        return True
