"""Points on the surfaces of bodies, from the shapes with which MuJoCo computes contacts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from failsafe.records import poses
from failsafe.simulators.mujoco.bindings import MjModel, mujoco

_SPACING = 0.008
"""Distance of neighbouring points, metres."""
_MOST = 12
"""Most points along one edge of a shape: a table needs no more."""


@dataclass(frozen=True)
class Surface:
    """Points on the surface of a body.

    Attributes:
        points: Positions in the frame of the body, metres. [N, 3]
        normals: Outward unit normals in the frame of the body. [N, 3]
    """

    points: np.ndarray
    normals: np.ndarray

    def placed(self, position: np.ndarray, rotation: np.ndarray) -> Surface:
        """Return the surface in the frame in which a pose of the body is given.

        Args:
            position: Position of the body, metres. [3]
            rotation: Rotation matrix of the body. [3, 3]
        """
        return Surface(self.points @ rotation.T + position, self.normals @ rotation.T)


def subtree(model: MjModel, body: int, joints: bool = False) -> tuple[int, ...]:
    """Return a body and the bodies that are attached to it.

    Args:
        model: The compiled model.
        body: Id of the body.
        joints: Include bodies that are attached by a joint.
    """
    found = [body]
    for other in range(body + 1, model.nbody):
        if int(model.body_parentid[other]) in found and (joints or not model.body_jntnum[other]):
            found.append(other)
    return tuple(found)


def contact_geoms(model: MjModel, bodies: Collection[int]) -> tuple[int, ...]:
    """Return the ids of the shapes of some bodies that can touch others.

    Args:
        model: The compiled model.
        bodies: Ids of the bodies.
    """
    solid = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    return tuple(g for g in range(model.ngeom) if solid[g] and int(model.geom_bodyid[g]) in bodies)


def surface_of(model: MjModel, body: int) -> Surface:
    """Return points on the surface of a body, with what is attached to it without a joint.

    A shape that is no box counts as its bounding box. The points come from the model alone: those of a state
    would be rounded in another way in each state, and nearly equal grasps would change places.

    Args:
        model: The compiled model.
        body: Id of the body.
    """
    points, normals = [np.zeros((0, 3))], [np.zeros((0, 3))]
    plane = int(mujoco.mjtGeom.mjGEOM_PLANE)
    for geom in contact_geoms(model, subtree(model, body)):
        if int(model.geom_type[geom]) == plane:
            continue
        middle, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
        local, outward = _box(half)
        at = poses.pose(model.geom_pos[geom], model.geom_quat[geom])
        part = int(model.geom_bodyid[geom])
        while part != body:
            at = poses.compose(poses.pose(model.body_pos[part], model.body_quat[part]), at)
            part = int(model.body_parentid[part])
        matrix = np.empty(9)
        mujoco.mju_quat2Mat(matrix, at[3:])
        turn, shift = matrix.reshape(3, 3), at[:3]
        points.append((local + middle) @ turn.T + shift)
        normals.append(outward @ turn.T)
    return Surface(np.concatenate(points), np.concatenate(normals))


def _box(half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points on the six faces of a box, and their normals."""
    counts = np.clip(np.ceil(2 * half / _SPACING).astype(int) + 1, 2, _MOST)
    points: list[np.ndarray] = []
    normals: list[np.ndarray] = []
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        u = np.linspace(-half[first], half[first], counts[first])
        v = np.linspace(-half[second], half[second], counts[second])
        grid = np.stack(np.meshgrid(u, v, indexing="ij"), axis=-1).reshape(-1, 2)
        for sign in (-1.0, 1.0):
            face = np.empty((len(grid), 3))
            face[:, first], face[:, second], face[:, axis] = grid[:, 0], grid[:, 1], sign * half[axis]
            outward = np.zeros_like(face)
            outward[:, axis] = sign
            points.append(face)
            normals.append(outward)
    return np.concatenate(points), np.concatenate(normals)
