"""What the expert knows of a LIBERO scene: bodies, regions, joints, and whether a goal holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from failsafe.experts.libero.grasps import HandPose
from failsafe.experts.libero.kinematics import ArmKinematics
from failsafe.experts.libero.surfaces import Surface, contact_geoms, subtree, surface_of
from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.simulators.contract import GoalPredicate
from failsafe.simulators.libero.scene import GRIP_SITE
from failsafe.simulators.libero.simulator import LiberoSimulator
from failsafe.simulators.mujoco.bindings import MjData, MjModel, mujoco

_SAMPLES = 200
"""Joint positions at which a predicate is asked for the interval in which it holds."""
_INSIDE = 0.3
"""Share of that interval by which a joint is moved into it."""
_SHORT = 0.03
"""Intervals up to this length (m, rad) are entered as far as the joint goes."""


class LiberoScene:
    """Geometry and goals of the present state.

    Args:
        simulator: The simulator. It is read and never changed.
    """

    def __init__(self, simulator: LiberoSimulator) -> None:
        self.simulator = simulator
        self._environment = simulator.environment
        env: Any = self._environment.env
        self._bodies: Mapping[str, int] = env.obj_body_id
        self._sites: Mapping[str, Any] = env.object_sites_dict
        self.model: MjModel = simulator.model
        self.data: MjData = simulator.data
        # Measured in the model's own state, so that the numbers do not depend on the present one.
        model, data = self.model, mujoco.MjData(self.model)
        grip = [int(model.joint(f"gripper0_finger_joint{i}").id) for i in (1, 2)]
        for joint in grip:  # open: closed fingers are in the same place
            reach = model.jnt_range[joint]
            data.qpos[int(model.jnt_qposadr[joint])] = reach[np.argmax(np.abs(reach))]
        mujoco.mj_kinematics(model, data)
        base = int(model.body("robot0_base").id)
        self.base: Pose = np.concatenate([data.xpos[base], data.xquat[base]])
        hand = int(model.body("gripper0_right_gripper").id)
        tool = np.concatenate(
            [data.site_xpos[int(model.site(GRIP_SITE).id)], data.xquat[simulator.tool_body]]
        )
        offset = poses.relative(np.concatenate([data.xpos[hand], data.xquat[hand]]), tool)
        fingers = [int(model.body(f"gripper0_{side}finger").id) for side in ("left", "right")]
        across = poses.rotate(
            poses.quaternion_inverse(tool[3:]), data.xpos[fingers[0]] - data.xpos[fingers[1]]
        )
        across /= np.linalg.norm(across)
        forward = np.asarray(simulator.spec.embodiment.tool_axis)
        self._hand_axes = np.stack([np.cross(across, forward), across, forward], axis=1)
        arm = [int(model.joint(f"robot0_joint{i}").id) for i in range(1, 8)]
        self.arm = ArmKinematics(model, self.data, hand, offset, arm, (grip[0], grip[1]))
        self._robot = set(subtree(model, base, joints=True))
        self._surfaces: dict[int, Surface] = {}

    # Frames

    def world(self, pose: Pose) -> Pose:
        """Transform a pose from the robot base frame to the world frame."""
        return poses.compose(self.base, pose)

    def robot(self, pose: Pose) -> Pose:
        """Transform a pose from the world frame to the robot base frame."""
        return poses.relative(self.base, pose)

    def tool_of(self, hand: HandPose) -> Pose:
        """Return the tool pose of a candidate grasp, world frame."""
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, (hand.rotation @ self._hand_axes.T).ravel())
        return poses.pose(hand.position, quaternion)

    def forward(self, tool: Pose) -> np.ndarray:
        """Return the direction in which the fingers point, world frame, of a tool pose in it."""
        return poses.rotate(tool[3:], self.simulator.spec.embodiment.tool_axis)

    # Bodies

    def body(self, name: str) -> int:
        """Return the id of the body of an object or fixture."""
        return int(self._bodies[name])

    def is_loose(self, name: str) -> bool:
        """Whether a name is that of an object that moves freely, and not of an articulated part."""
        return name in self._bodies and self.free_address(self.body(name)) >= 0

    def pose(self, body: int) -> Pose:
        """Return the pose of a body, world frame."""
        return np.concatenate([self.data.xpos[body], self.data.xquat[body]])

    def surface(self, body: int) -> Surface:
        """Return points on the surface of a body, world frame."""
        if body not in self._surfaces:
            self._surfaces[body] = surface_of(self.model, body)
        return self._surfaces[body].placed(self.data.xpos[body], self.data.xmat[body].reshape(3, 3))

    def geoms(self, body: int) -> tuple[int, ...]:
        """Return the ids of the shapes of a body, and of what is attached to it without a joint."""
        return contact_geoms(self.model, subtree(self.model, body))

    def free_address(self, body: int) -> int:
        """Return where the pose of a free body begins in `qpos`; -1 if the body is not free."""
        joint = int(self.model.body_jntadr[body])
        if joint < 0 or int(self.model.jnt_type[joint]) != int(mujoco.mjtJoint.mjJNT_FREE):
            return -1
        return int(self.model.jnt_qposadr[joint])

    def obstacles(self, without: tuple[int, ...] = ()) -> np.ndarray:
        """Return points on everything but the robot and some bodies, world frame, metres, [N, 3]."""
        found: list[np.ndarray] = []
        for body in range(1, self.model.nbody):
            if body in self._robot or body in without:
                continue
            if self.model.body_jntnum[body] or not self.model.body_parentid[body]:
                found.append(self.surface(body).points)
        return np.concatenate(found) if found else np.zeros((0, 3))

    # Regions and joints

    def is_region(self, name: str) -> bool:
        """Whether a name is that of a region."""
        return name in self._sites

    def region(self, name: str) -> tuple[Pose, np.ndarray]:
        """Return the pose of a region, world frame, and half its size in the directions of the world.

        Args:
            name: Name of the region.
        """
        site = int(self.model.site(name).id)
        rotation = self.data.site_xmat[site].reshape(3, 3)
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, self.data.site_xmat[site])
        half = np.abs(rotation @ np.asarray(self._sites[name].size, dtype=np.float64))
        return poses.pose(self.data.site_xpos[site], quaternion), half

    def reference(self, name: str) -> Pose:
        """Return the pose of a region or of an object, world frame."""
        return self.region(name)[0] if self.is_region(name) else self.pose(self.body(name))

    def part(self, name: str) -> tuple[int, int] | None:
        """Return the joint of an articulated object or region, and the body that it moves; None without."""
        for joint_name in self._environment.joints_of(name):
            joint = int(self.model.joint(joint_name).id)
            if int(self.model.jnt_type[joint]) != int(mujoco.mjtJoint.mjJNT_FREE):
                return joint, int(self.model.jnt_bodyid[joint])
        return None

    def container(self, region: str) -> str:
        """Return what opens a region: the region itself (a drawer), its fixture (a microwave), or nothing."""
        if self.part(region) is not None:
            return region
        parent = self._sites[region].parent_name if region in self._sites else None
        return parent if parent and self.part(parent) is not None else ""

    # Goals

    def holds(self, goal: GoalPredicate) -> bool:
        """Whether a goal is satisfied in the present state."""
        return self._environment.judge(self.model, self.data, [goal])[goal]

    def other_joint_position(self, goal: GoalPredicate, joint: int) -> float | None:
        """Return a joint position that does not satisfy a goal, far from those that do; None if all do.

        Args:
            goal: The goal.
            joint: Id of the joint.
        """
        low, high = self.model.jnt_range[joint].tolist()
        ends = (low + 0.05 * (high - low), high - 0.05 * (high - low))
        found = [value for value in ends if not self._holds_at(goal, joint, value)]
        before = self._joint_position(joint)
        return max(found, key=lambda value: abs(value - before)) if found else None

    def joint_target(self, goal: GoalPredicate, joint: int) -> float | None:
        """Return a joint position that satisfies a goal about a joint; None if none does.

        Args:
            goal: The goal.
            joint: Id of the joint.
        """
        low, high = self.model.jnt_range[joint].tolist()
        values = np.linspace(low, high, _SAMPLES + 1).tolist()
        satisfied = [value for value in values if self._holds_at(goal, joint, value)]
        if not satisfied:
            return None
        before = self._joint_position(joint)
        near, far = sorted((satisfied[0], satisfied[-1]), key=lambda value: abs(value - before))
        return far if abs(far - near) < _SHORT else near + _INSIDE * (far - near)

    def _joint_position(self, joint: int) -> float:
        return float(self.data.qpos[int(self.model.jnt_qposadr[joint])])

    def _holds_at(self, goal: GoalPredicate, joint: int, position: float) -> bool:
        """Whether a goal would be satisfied with a joint in another position."""
        at, before = int(self.model.jnt_qposadr[joint]), self._joint_position(joint)
        self.data.qpos[at] = position
        holds = self.holds(goal)
        self.data.qpos[at] = before
        return holds
