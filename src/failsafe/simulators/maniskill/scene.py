"""The SAPIEN objects of a ManiSkill task, and their transfer to a new physics scene.

A PhysX scene has internal state that can be neither read nor set. A replay in a scene that has already been
stepped therefore deviates from the recorded rollout at the first contact. A new scene has no such state:
moving all entities to a new scene, always in the same order, costs less than a millisecond, and rollouts from
there replay bit for bit.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import sapien
from jaxtyping import Float, Float32
from sapien import physx

from failsafe.errors import UserError
from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.simulators.contract import ObjectSpec, Role

_SCENERY_SIZE = 0.3
"""A static body with a larger half extent (m) is furniture, not an object of the task."""
_SCENERY_COUNT = 8
"""Markers of this number and more (the dots of a drawing) are not objects either."""


@dataclass(frozen=True)
class SceneBody:
    """An object of the task.

    Attributes:
        spec: Its description.
        entity: SAPIEN's entity.
        component: SAPIEN's rigid body.
    """

    spec: ObjectSpec
    entity: Any
    component: Any


def task_bodies(env: Any) -> list[SceneBody]:
    """Return the objects of a ManiSkill environment without furniture, in ManiSkill's order."""
    bodies: list[SceneBody] = []
    for name, actor in env.scene.actors.items():
        entity = actor._objs[0]
        component = entity.find_component_by_type(physx.PhysxRigidDynamicComponent)
        if component is None:
            continue
        half = _half_extents(component.collision_shapes)
        if not component.kinematic:
            role = Role.MOVABLE
        elif not component.collision_shapes:
            role = Role.GOAL
        elif max(half) > _SCENERY_SIZE:
            continue
        else:
            role = Role.FIXED
        bodies.append(SceneBody(ObjectSpec(re.sub(r"_0$", "", name), role, half), entity, component))
    families = Counter(_family(b) for b in bodies)
    return [b for b in bodies if families[_family(b)] < _SCENERY_COUNT]


def kinematic_entities(env: Any) -> list[Any]:
    """Return the entities of kinematic bodies that the task's code may move, furniture included.

    Markers of large number (the dots of a drawing) are left out, as in `task_bodies`.
    """
    found: list[tuple[str, Any]] = []
    for name, actor in env.scene.actors.items():
        entity = actor._objs[0]
        component = entity.find_component_by_type(physx.PhysxRigidDynamicComponent)
        if component is not None and component.kinematic:
            found.append((re.sub(r"[\d_]+$", "", name), entity))
    families = Counter(name for name, _ in found)
    return [entity for name, entity in found if families[name] < _SCENERY_COUNT]


def move_to_fresh_scene(env: Any, entities: list[Any]) -> Any:
    """Move entities to a new physics scene.

    Args:
        env: The ManiSkill environment. Its contact queries use the new scene afterwards.
        entities: Every entity with a physics component, always in the same order.

    Returns:
        The new physics system, ready to be stepped.
    """
    system = physx.PhysxCpuSystem()
    system.timestep = 1.0 / env.sim_freq
    scene = sapien.Scene([system])
    for entity in entities:
        entity.remove_from_scene()
    for entity in entities:
        scene.add_entity(entity)
        body = entity.find_component_by_type(physx.PhysxRigidDynamicComponent)
        if body is not None and not body.kinematic:
            body.wake_up()  # resets the sleep timer, which the body brings along
    env.scene.px = system
    env.scene._fresh_scene = scene  # keeps it alive for as long as its entities are used
    return system


def to_array(pose: Any) -> Float[np.ndarray, "7"]:
    """Convert a `sapien.Pose` to a pose array, float64."""
    array = np.empty(7)
    array[:3], array[3:] = pose.p, pose.q
    return array


def to_sapien(pose: Pose) -> Any:
    """Convert a pose array [7] to a `sapien.Pose`."""
    return sapien.Pose(pose[:3].tolist(), pose[3:].tolist())


class StateLayout:
    """The layout of articulations and movable bodies in one float32 vector.

    For each articulation: joint positions, joint velocities. For each movable body: position, quaternion,
    linear and angular velocity, world frame. The task's own code may move more than the physics does: with
    `everything`, the positions and quaternions of kinematic bodies, and of the roots of articulations other
    than the robot, follow.

    Args:
        env: The ManiSkill environment.
        everything: Whether kinematic bodies and roots are part of the state.
    """

    def __init__(self, env: Any, everything: bool = False) -> None:
        self.articulations = [a._objs[0] for a in env.scene.articulations.values()]
        self.bodies = [b for b in task_bodies(env) if b.spec.role is Role.MOVABLE]
        robot = env.agent.robot._objs[0] if everything else None
        roots = [a for a in self.articulations if a is not robot]
        self.placed: list[Any] = [*kinematic_entities(env), *roots] if everything else []

    def read(self) -> Float32[np.ndarray, "S"]:
        """Return the current state."""
        parts: list[np.ndarray] = []
        for articulation in self.articulations:
            parts += [articulation.qpos, articulation.qvel]
        for body in self.bodies:
            pose = body.entity.pose
            parts += [pose.p, pose.q, body.component.linear_velocity, body.component.angular_velocity]
        for placed in self.placed:
            pose = placed.pose
            parts += [pose.p, pose.q]
        return np.concatenate(parts)

    def write(self, state: Float32[np.ndarray, "S"]) -> None:
        """Set the state.

        Raises:
            UserError: If it has another layout.
        """
        size = 2 * sum(a.dof for a in self.articulations) + 13 * len(self.bodies) + 7 * len(self.placed)
        if len(state) != size:
            raise UserError(
                f"expected a state of {size} numbers, got {len(state)}: it was recorded by another version "
                "of the task or of FailSafe; record it again with the same command"
            )
        at = 0
        for articulation in self.articulations:
            dof = articulation.dof
            articulation.qpos = state[at : at + dof]
            articulation.qvel = state[at + dof : at + 2 * dof]
            at += 2 * dof
        for body in self.bodies:
            body.entity.pose = sapien.Pose(state[at : at + 3].tolist(), state[at + 3 : at + 7].tolist())
            body.component.linear_velocity = state[at + 7 : at + 10].tolist()
            body.component.angular_velocity = state[at + 10 : at + 13].tolist()
            at += 13
        for placed in self.placed:
            placed.pose = sapien.Pose(state[at : at + 3].tolist(), state[at + 3 : at + 7].tolist())
            at += 7


def _family(body: SceneBody) -> tuple[Role, str]:
    return body.spec.role, re.sub(r"[\d_]+$", "", body.spec.name)


def _half_extents(shapes: Any) -> tuple[float, float, float]:
    """Return the half size of the smallest box, centred on the body's origin, around its collision shapes."""
    reach = np.zeros(3)
    for shape in shapes:
        local = to_array(shape.local_pose)
        corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * _half_size(shape)
        for corner in corners:
            reach = np.maximum(reach, np.abs(local[:3] + poses.rotate(local[3:], corner)))
    return (float(reach[0]), float(reach[1]), float(reach[2]))


def _half_size(shape: Any) -> np.ndarray:
    if isinstance(shape, physx.PhysxCollisionShapeBox):
        return np.asarray(shape.half_size, dtype=np.float64)
    if isinstance(shape, physx.PhysxCollisionShapeSphere):
        return np.full(3, shape.radius)
    if isinstance(shape, physx.PhysxCollisionShapeCapsule):
        return np.array([shape.half_length + shape.radius, shape.radius, shape.radius])
    if isinstance(shape, physx.PhysxCollisionShapeCylinder):
        return np.array([shape.half_length, shape.radius, shape.radius])
    if hasattr(shape, "vertices"):
        return np.abs(np.asarray(shape.vertices) * np.asarray(shape.scale)).max(axis=0)
    return np.zeros(3)
