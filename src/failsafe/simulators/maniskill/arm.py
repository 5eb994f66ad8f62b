"""The robot of a ManiSkill task: inverse kinematics, joint targets, held objects."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32

from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.simulators.maniskill.frames import base_in_root, tool_in_link, tool_pose
from failsafe.simulators.maniskill.scene import SceneBody, to_array, to_sapien

_GRIP_FORCE = 0.5
"""Least force of each finger on a held object, newtons, as in ManiSkill's `is_grasping`."""
_REACH_TOLERANCE = (0.005, 0.05)
"""Largest distance (m, rad) between a target within reach and the pose that the arm reaches."""
_PULL, _LONGEST_PULL = 0.01, 0.15
"""Step and limit of moving a target out of reach towards the robot, metres."""
_LIMIT_MARGIN = 0.01
"""Distance kept from every joint limit, radians."""
_BENT = 0.3
"""Least angle of a joint that bends in one direction only, such as an elbow, radians. A straight arm is
singular, and the inverse kinematics does not recover from it. The limit costs a few millimetres of reach."""

_TWO_TURNS = 2 * np.pi - _LIMIT_MARGIN
_FASTEST = 6.0
"""Largest commanded speed of the joints of an arm with endless joints, rad/s."""


class Arm:
    """An articulated arm with or without a two-finger gripper, driven by joint targets.

    Args:
        agent: ManiSkill's agent in control mode `pd_joint_pos`.
    """

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self.articulation: Any = agent.robot._objs[0]
        self._joints: list[Any] = list(self.articulation.active_joints)
        self._tcp: Any = agent.tcp._objs[0]
        links = list(self.articulation.links)
        self._tcp_index = links.index(self._tcp)
        self._base, self._tool = base_in_root(agent), tool_in_link(agent)
        self._model: Any = self.articulation.create_pinocchio_model()
        controllers: Any = getattr(agent.controller, "controllers", {"arm": agent.controller})
        names = [joint.name for joint in self._joints]
        gripper: Any = controllers.get("gripper")
        fingers: list[int] = (
            [names.index(j._objs[0].name) for j in gripper.joints] if gripper is not None else []
        )
        self.has_gripper = bool(fingers)
        self._fingers = np.array(fingers, dtype=np.int64)
        if gripper is not None:
            self._closed = float(np.min(gripper.config.lower))
            self._open = float(np.max(gripper.config.upper))
        # Other joints (a mobile base, a head) keep their positions.
        self._mask = np.zeros(len(names), dtype=np.int32)
        self._mask[[names.index(j._objs[0].name) for j in controllers["arm"].joints]] = 1
        limits = np.concatenate([joint.limits for joint in self._joints])
        self._lower, self._upper = limits[:, 0] + _LIMIT_MARGIN, limits[:, 1] - _LIMIT_MARGIN
        for j in np.flatnonzero(self._mask):
            if self._upper[j] <= 0:
                self._upper[j] = min(self._upper[j], -_BENT)
            elif self._lower[j] >= 0:
                self._lower[j] = max(self._lower[j], _BENT)
        self._limited: list[tuple[int, float, float]] = [
            (j, float(self._lower[j]), float(self._upper[j])) for j in np.flatnonzero(self._mask).tolist()
        ]
        self._endless = np.flatnonzero(self._mask & np.isinf(self._upper))
        self.finger_links = [self._joints[i].child_link for i in fingers]
        self.finger_shapes: list[Any] = [s for link in self.finger_links for s in link.collision_shapes]
        self.begin()

    @property
    def command_size(self) -> int:
        """Number of joint targets: one for each active joint, fingers included."""
        return len(self._joints)

    @property
    def tcp_pose(self) -> Any:
        """The tool's `sapien.Pose` in the world."""
        return tool_pose(self._agent)

    @property
    def gripper_travel(self) -> float:
        """Opening of the fully open gripper, metres; 0 without a gripper."""
        if not self.has_gripper:
            return 0.0
        limits = [self._joints[i].limits[0] for i in self._fingers]
        return round(float(sum(min(self._open, high) - max(self._closed, low) for low, high in limits)), 6)

    @property
    def gripper_width(self) -> float:
        """Measured gripper opening, metres."""
        return float(self.articulation.qpos[self._fingers].sum()) if self.has_gripper else 0.0

    def velocity_at(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the velocity of a point that moves with the tool.

        Args:
            point: World frame, metres. [3]

        Returns:
            Linear velocity (m/s) and angular velocity (rad/s), world frame. [3], [3]
        """
        angular = np.asarray(self._tcp.angular_velocity, dtype=np.float64)
        return self._tcp.linear_velocity + np.cross(angular, point - self._tcp.entity_pose.p), angular

    def begin(self) -> None:
        """Begin an episode: set all joint targets to the current positions."""
        self._last = self.articulation.qpos.astype(np.float64)
        self.drive(self._last.astype(np.float32))

    def drive(self, command: Float32[np.ndarray, "D"]) -> None:
        """Set the targets of all joints. The next command continues from them."""
        for joint, target in zip(self._joints, command.tolist(), strict=True):
            joint.set_drive_target(target)
        self._last = command.astype(np.float64)

    def command(self, target: Pose, gripper: float) -> Float32[np.ndarray, "D"]:
        """Return the joint targets for a tool pose.

        If the pose is out of reach, the arm stretches towards it as far as possible.

        Args:
            target: Tool pose, robot base frame. [7]
            gripper: Gripper command, -1 closed to +1 open.
        """
        solution = self.solve(target, self._last)
        if self._endless.size:
            # The inverse kinematics returns angles within one turn. Two aligned endless joints can rotate
            # against each other without limit, so the speed of the joints is bounded.
            turns = np.round((self._last - solution)[self._endless] / (2 * np.pi))
            solution[self._endless] += 2 * np.pi * turns
            fastest = _FASTEST / self._agent._control_freq
            fastest = _FASTEST / self._agent._control_freq
            solution = np.clip(solution, self._last - fastest, self._last + fastest)
            # PhysX represents joint positions within two turns.
            solution[self._endless] = np.clip(solution[self._endless], -_TWO_TURNS, _TWO_TURNS)
        if self.has_gripper:
            opening = self._closed + (min(max(gripper, -1.0), 1.0) + 1) / 2 * (self._open - self._closed)
            solution[self._fingers] = opening
        return solution.astype(np.float32)

    def reachable(self, target: Pose, steps: int = 12) -> bool:
        """Return whether a straight path from the current joint targets reaches a tool pose.

        Args:
            target: Tool pose, robot base frame. [7]
            steps: Number of poses on the path for which the inverse kinematics is solved.
        """
        joints = self._last
        for pose in poses.interpolate(self.tool_pose_at(joints), target, steps):
            joints = self.solve(pose, joints)
        metres, radians = poses.distance(self.tool_pose_at(joints), target)
        return metres <= _REACH_TOLERANCE[0] and radians <= _REACH_TOLERANCE[1]

    def closest_reachable(self, target: Pose) -> Pose:
        """Return the target, moved towards the robot's axis until it is within reach, by at most 15 cm.

        If no such pose is within reach, return the target.
        """
        outwards = target[:2] / max(float(np.linalg.norm(target[:2])), 1e-9)
        for pull in np.arange(0.0, _LONGEST_PULL, _PULL):
            nearer = target.copy()
            nearer[:2] -= pull * outwards
            if self.reachable(nearer):
                return nearer
        return target

    def held(self, system: Any, bodies: list[SceneBody]) -> tuple[str, ...]:
        """Return the names of the bodies that both fingers press on from opposite sides.

        Args:
            system: The PhysX system.
            bodies: The objects of the task.
        """
        if len(self.finger_links) != 2:
            return ()
        pressed: dict[tuple[int, int], np.ndarray] = {}
        fingers = {link.entity: i for i, link in enumerate(self.finger_links)}
        rows = {body.entity: i for i, body in enumerate(bodies)}
        for contact in system.get_contacts():
            first, second = contact.bodies[0].entity, contact.bodies[1].entity
            sign = 1.0
            if second in fingers:
                first, second, sign = second, first, -1.0
            if first not in fingers or second not in rows:
                continue
            key = (fingers[first], rows[second])
            impulse = sign * np.sum([point.impulse for point in contact.points], axis=0)
            pressed[key] = pressed.get(key, np.zeros(3)) + impulse
        least = _GRIP_FORCE * system.timestep
        names: list[str] = []
        for i, body in enumerate(bodies):
            a, b = pressed.get((0, i)), pressed.get((1, i))
            if a is None or b is None:
                continue
            if min(np.linalg.norm(a), np.linalg.norm(b)) >= least and float(a @ b) < 0:
                names.append(body.spec.name)
        return tuple(names)

    def tool_pose_at(self, joints: np.ndarray) -> Pose:
        """Return the tool pose, robot base frame, at joint positions [J], by forward kinematics."""
        self._model.compute_forward_kinematics(joints)
        pose = self._model.get_link_pose(self._tcp_index)
        if self._base is not None:
            pose = self._base.inv() * pose
        return to_array(pose if self._tool is None else pose * self._tool)

    def solve(self, target: Pose, start: np.ndarray) -> np.ndarray:
        """Return the joint positions for a tool pose, by Pinocchio's closed-loop inverse kinematics.

        A full Gauss-Newton step (dt = 1) converges in a few iterations from a start one control step away,
        ten times faster than the default step. A joint beyond its limit is held at the limit, and the
        problem is solved for the other joints: a redundant arm such as the Panda can compensate. Where no
        exact solution exists, a damped solver returns an approximate one.

        Args:
            target: Tool pose, robot base frame. [7]
            start: Joint positions to start from, radians. [J]
        """
        pose = to_sapien(target)
        if self._base is not None:
            pose = self._base * pose
        if self._tool is not None:
            pose = pose * self._tool.inv()
        joints, converged = self._solve_within_limits(pose, start, damped=False)
        return joints if converged else self._solve_within_limits(pose, start, damped=True)[0]

    def _solve_within_limits(self, pose: Any, start: np.ndarray, damped: bool) -> tuple[np.ndarray, bool]:
        """Solve, hold joints beyond their limits at the limits, and solve again for the others."""
        joints, mask = start, self._mask
        settings = (1e-4, 100, 0.5, 1e-2) if damped else (1e-5, 30, 1.0, 1e-6)
        for _ in range(4):
            joints, converged, _ = self._model.compute_inverse_kinematics(
                self._tcp_index, pose, joints, mask, *settings
            )
            values, going = joints.tolist(), mask.tolist()
            over = [j for j, low, high in self._limited if going[j] and (values[j] < low or values[j] > high)]
            if not over:
                return joints, bool(converged)
            joints = np.where(self._mask > 0, np.clip(joints, self._lower, self._upper), joints)
            mask = mask.copy()
            mask[over] = 0
        return joints, False
