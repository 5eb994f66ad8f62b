"""The objects of a MuJoCo model: bodies that move freely or by a joint, and fixtures.

An object is found by generic facts: a body with joints of its own that is no part of the robot, or a body
without joints that is attached to the world. Names, sizes, joints and limits come from the model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.simulators.contract import JointSpec, JointType, ObjectSpec, Role
from failsafe.simulators.mujoco.bindings import MjData, MjModel, mujoco

_FREE, _SLIDE, _HINGE = (
    int(mujoco.mjtJoint.mjJNT_FREE),
    int(mujoco.mjtJoint.mjJNT_SLIDE),
    int(mujoco.mjtJoint.mjJNT_HINGE),
)
_TYPES = {_SLIDE: JointType.PRISMATIC, _HINGE: JointType.REVOLUTE}
_SCENERY_SIZE = 0.3
"""A fixture with a larger half extent (m) is furniture, not an object of the task."""
_UNLIMITED = {_SLIDE: 10.0, _HINGE: 2 * np.pi}
"""Limit of a joint without limits, metres or radians."""


@dataclass(frozen=True)
class SceneObject:
    """An object of a model.

    Attributes:
        spec: Its description.
        body: Id of the body.
        root: Id of the body, attached to the world, that carries it.
        joint_ids: Ids of its own joints; empty for a fixture.
        geoms: Ids of its shapes.
        is_free: Whether it moves freely.
        parts: Ids of the bodies that move as one: its own, and those attached to it without a joint.
        middle: Middle of the shapes of an articulated part in the frame of its body, metres; None: its center
            of mass stands for it. [3]
    """

    spec: ObjectSpec
    body: int
    root: int
    joint_ids: tuple[int, ...]
    geoms: tuple[int, ...]
    is_free: bool
    parts: tuple[int, ...]
    middle: tuple[float, float, float] | None = None

    def position(self, data: MjData) -> np.ndarray:
        """Return the position of the object in the world, metres [3].

        For an articulated part it is the center of mass, or the middle of its shapes: the origin of a hinged
        body stays in its place.
        """
        if self.middle is not None:
            return data.xpos[self.body] + data.xmat[self.body].reshape(3, 3) @ self.middle
        return data.xipos[self.body] if self.joint_ids and not self.is_free else data.xpos[self.body]


def find_objects(
    model: MjModel,
    data: MjData,
    not_objects: Collection[str],
    names: Mapping[str, str] | None = None,
    fixtures: Collection[str] = (),
    by_shape: bool = False,
) -> list[SceneObject]:
    """Return the objects of a model, movable ones first, each group in the order of the model.

    Args:
        model: The compiled model.
        data: Its data, with positions computed.
        not_objects: Names of bodies, attached to the world, that are the robot or furniture.
        names: Names of objects by the names of their bodies, where the model's own are not readable.
        fixtures: Names of bodies, attached to the world, that are fixtures of the task even if they carry
            moving parts or are large.
        by_shape: Let the middle of its shapes stand for an articulated part, not its center of mass, where
            the masses of the model are not those of the shapes.
    """
    movable: list[SceneObject] = []
    fixed: list[SceneObject] = []
    carriers: set[int] = set()
    for body in range(1, model.nbody):
        root = int(model.body_rootid[body])
        if model.body(root).name in not_objects:
            continue
        first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
        if count:
            carriers.add(root)
            joints = range(first, first + count)
            movable.append(_movable(model, data, body, joints, names or {}, by_shape))
    for root in range(1, model.nbody):
        name = model.body(root).name
        if model.body_parentid[root] or not name or name in not_objects:
            continue
        if root in carriers and name not in fixtures:
            continue
        half, geoms = _extents(model, data, root, data.xpos[root])
        if geoms and (max(half) <= _SCENERY_SIZE or name in fixtures):
            spec = ObjectSpec(_name(model, root, names or {}), Role.FIXED, half)
            fixed.append(SceneObject(spec, root, root, (), geoms, False, (root,)))
    return [*movable, *fixed]


def _movable(
    model: MjModel, data: MjData, body: int, joints: range, names: Mapping[str, str], by_shape: bool
) -> SceneObject:
    kinds = [int(model.jnt_type[j]) for j in joints]
    free = kinds == [_FREE]
    reference = data.xpos[body] if free else data.xipos[body]
    middle = None
    if by_shape and not free:
        middle = _middle(model, data, body)
        reference = data.xpos[body] + data.xmat[body].reshape(3, 3) @ middle
    half, geoms = _extents(model, data, body, reference)
    joint = None
    if not free and kinds[0] in _TYPES:
        low, high = model.jnt_range[joints[0]].tolist()
        if not model.jnt_limited[joints[0]]:
            low, high = -_UNLIMITED[kinds[0]], _UNLIMITED[kinds[0]]
        joint = JointSpec(JointType.PLANAR if len(kinds) > 1 else _TYPES[kinds[0]], low, high)
    return SceneObject(
        ObjectSpec(_name(model, body, names), Role.MOVABLE, half, joint),
        body,
        int(model.body_rootid[body]),
        tuple(joints),
        geoms,
        free,
        tuple(sorted(_parts(model, body))),
        middle,
    )


def observe_objects(objects: list[SceneObject], data: MjData) -> np.ndarray:
    """Return the poses of objects in the world, metres and quaternions wxyz, [N, 7].

    Args:
        objects: The objects.
        data: Data of their model, with positions computed.
    """
    rows = np.empty((len(objects), 7))
    for row, found in zip(rows, objects, strict=True):
        row[:3], row[3:] = found.position(data), data.xquat[found.body]
    return rows


def place_object(model: MjModel, data: MjData, found: SceneObject, pose: Pose) -> None:
    """Place an object. Call `mj_forward` afterwards.

    An object that is articulated, or is a fixture, moves with all that it is attached to, and keeps its
    orientation.

    Args:
        model: The compiled model, whose layout changes where the object does not move freely.
        data: Its data, with positions computed.
        found: The object.
        pose: Pose in the world. [7]
    """
    if found.is_free:
        at = int(model.jnt_qposadr[found.joint_ids[0]])
        data.qpos[at : at + 7] = pose
    else:
        model.body_pos[found.root] += pose[:3] - found.position(data)


def _name(model: MjModel, body: int, names: Mapping[str, str]) -> str:
    """Return the name of a body or of the nearest one above it that has a name."""
    while not (name := model.body(body).name):
        body = int(model.body_parentid[body])
    return names.get(name, re.sub(r"_link\d*$", "", name))


def _extents(
    model: MjModel, data: MjData, body: int, center: np.ndarray
) -> tuple[tuple[float, float, float], tuple[int, ...]]:
    """Return half the size of the bounding box of a body around a point, in the body's frame, and its shapes.

    Bodies attached to it without a joint count as parts of it.
    """
    geoms = _shapes(model, body)
    back = poses.quaternion_inverse(data.xquat[body].copy())
    reach = np.zeros(3)
    for corner in _corners(model, data, geoms):
        reach = np.maximum(reach, np.abs(poses.rotate(back, corner - center)))
    return (float(reach[0]), float(reach[1]), float(reach[2])), geoms


def _middle(model: MjModel, data: MjData, body: int) -> tuple[float, float, float]:
    """Return the middle of the bounding box of a body, in its frame."""
    back = poses.quaternion_inverse(data.xquat[body].copy())
    corners = _corners(model, data, _shapes(model, body))
    inside = np.array([poses.rotate(back, corner - data.xpos[body]) for corner in corners])
    x, y, z = ((inside.min(axis=0) + inside.max(axis=0)) / 2).tolist()
    return x, y, z


def _shapes(model: MjModel, body: int) -> tuple[int, ...]:
    """Return the shapes of a body that collide, or all of them if none does."""
    parts = _parts(model, body)
    geoms = [g for g in range(model.ngeom) if int(model.geom_bodyid[g]) in parts]
    return tuple([g for g in geoms if model.geom_contype[g] or model.geom_conaffinity[g]] or geoms)


def _corners(model: MjModel, data: MjData, geoms: Sequence[int]) -> list[np.ndarray]:
    """Return the corners of the bounding boxes of shapes, in the world."""
    corners: list[np.ndarray] = []
    for geom in geoms:
        middle, size = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
        axes = data.geom_xmat[geom].reshape(3, 3)
        corners += [
            data.geom_xpos[geom] + axes @ (middle + size * (2 * np.array(sign) - 1))
            for sign in np.ndindex(2, 2, 2)
        ]
    return corners


def _parts(model: MjModel, body: int) -> set[int]:
    """Return a body and those that are attached to it without a joint."""
    parts = {body}
    for other in range(body + 1, model.nbody):
        if int(model.body_parentid[other]) in parts and not model.body_jntnum[other]:
            parts.add(other)
    return parts
