"""Arithmetic of poses: `[x, y, z, qw, qx, qy, qz]`, metres and unit quaternions, float64.

The functions compute on plain floats: a dataset takes hundreds of thousands of control steps, and calling a
NumPy function takes longer than multiplying three numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

Pose = Float[np.ndarray, "7"]
Quaternion = Float[np.ndarray, "4"]
Vector = Sequence[Any] | np.ndarray
"""A sequence of numbers. (Run-time type checks of NumPy's `ArrayLike` reject tuples.)"""

LARGEST = 1e6
"""Largest valid number of an action (m, rad): the sine of a much larger number overflows."""
IDENTITY: NDArray[np.float64] = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])


def pose(position: Vector, quaternion: Vector = (1.0, 0.0, 0.0, 0.0)) -> Pose:
    """Return a pose [7].

    Args:
        position: Metres. [3]
        quaternion: Orientation wxyz, which is normalised. [4]
    """
    q = np.asarray(quaternion, dtype=np.float64)
    return np.concatenate([np.asarray(position, dtype=np.float64), q / np.linalg.norm(q)])


def quaternion_multiply(a: Quaternion, b: Quaternion) -> Quaternion:
    """Return the Hamilton product ab: the rotation b followed by the rotation a.

    Args:
        a: Unit quaternion wxyz of the second rotation. [4]
        b: Unit quaternion wxyz of the first rotation. [4]
    """
    return np.array(_multiply(a.tolist(), b.tolist()))


def quaternion_inverse(q: Quaternion) -> Quaternion:
    """Return the inverse of a unit quaternion."""
    w, x, y, z = q.tolist()
    return np.array([w, -x, -y, -z])


def rotate(q: Quaternion, vector: Vector) -> Float[np.ndarray, "3"]:
    """Rotate a vector [3] by a unit quaternion.

    Args:
        q: Unit quaternion wxyz. [4]
        vector: The vector. [3]
    """
    return np.array(_rotate(q.tolist(), *np.asarray(vector, dtype=np.float64).tolist()))


def from_rotation_vector(vector: Vector) -> Quaternion:
    """Return the unit quaternion of a rotation vector [3] in radians."""
    return np.array(_from_vector(*np.asarray(vector, dtype=np.float64).tolist()))


def to_rotation_vector(q: Quaternion) -> Float[np.ndarray, "3"]:
    """Return the rotation vector [3] in radians, of length at most pi, of a unit quaternion."""
    return np.array(_to_vector(*q.tolist()))


def compose(a: Pose, b: Pose) -> Pose:
    """Transform the pose b from the frame a to the frame in which a is given.

    Args:
        a: Pose of a frame. [7]
        b: Pose in the frame a. [7]
    """
    x, y, z, *turn = a.tolist()
    bx, by, bz, *other = b.tolist()
    dx, dy, dz = _rotate(turn, bx, by, bz)
    return np.array([x + dx, y + dy, z + dz, *_multiply(turn, other)])


def inverse(a: Pose) -> Pose:
    """Return the inverse transform of a pose."""
    q = quaternion_inverse(a[3:])
    return np.concatenate([-rotate(q, a[:3]), q])


def relative(a: Pose, b: Pose) -> Pose:
    """Transform the pose b to the frame a. Both are given in the same frame.

    Args:
        a: Pose of the new frame. [7]
        b: Pose to transform, in the same frame as a. [7]
    """
    return compose(inverse(a), b)


def apply_delta(start: Pose, delta: Vector) -> Pose:
    """Move a pose by a 6-DoF delta.

    The rotation vector rotates the tool about its own origin, with the axes of the outer frame.

    Args:
        start: The pose.
        delta: `[dx, dy, dz, rx, ry, rz]` (m, rad) in the frame in which the pose is given. [6]
    """
    x, y, z, *before = start.tolist()
    dx, dy, dz, rx, ry, rz = np.asarray(delta, dtype=np.float64).tolist()
    q = np.array(_multiply(_from_vector(rx, ry, rz), before))
    w, i, j, k = (q / math.sqrt(q.dot(q))).tolist()
    return np.array([x + dx, y + dy, z + dz, w, i, j, k])


def delta_between(start: Pose, end: Pose) -> Float[np.ndarray, "6"]:
    """Return the delta [6] (m, rad) for which `apply_delta(start, delta)` is `end`.

    Args:
        start: Pose before the delta. [7]
        end: Pose after the delta. [7]
    """
    x, y, z, w, i, j, k = start.tolist()
    to_x, to_y, to_z, *q = end.tolist()
    turn = _to_vector(*_multiply(q, (w, -i, -j, -k)))
    return np.array([to_x - x, to_y - y, to_z - z, *turn])


def distance(a: Pose, b: Pose) -> tuple[float, float]:
    """Return the distance of two poses in metres and radians.

    Args:
        a: Pose. [7]
        b: Pose in the same frame. [7]
    """
    delta = delta_between(a, b)
    return math.sqrt(delta[:3].dot(delta[:3])), math.sqrt(delta[3:].dot(delta[3:]))


def angles_between(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n"]:
    """Return the rotation angles in radians between the rows of two arrays of unit quaternions.

    Args:
        a: Unit quaternions wxyz. [n, 4]
        b: Unit quaternions wxyz. [n, 4]
    """
    dot = np.clip(np.abs(np.sum(a * b, axis=-1)), 0.0, 1.0)
    return 2.0 * np.arccos(dot)


def steps_between(start: Pose, end: Pose, max_translation: float, max_rotation: float) -> int:
    """Return the least number of equal steps from start to end within the step limits.

    Args:
        start: First pose.
        end: Last pose.
        max_translation: Limit of one step, metres.
        max_rotation: Limit of one step, radians.
    """
    metres, radians = distance(start, end)
    return max(math.ceil(metres / max_translation - 1e-9), math.ceil(radians / max_rotation - 1e-9))


def interpolate(start: Pose, end: Pose, steps: int) -> Float[np.ndarray, "steps 7"]:
    """Return equally spaced poses on the straight line from start to end (slerp).

    Args:
        start: First pose, which is not returned.
        end: Last pose, which is returned.
        steps: Number of poses.
    """
    delta = delta_between(start, end)
    path = np.empty((steps, 7))
    for i in range(steps):
        path[i] = apply_delta(start, delta * ((i + 1) / steps))
    if steps:
        path[-1, :3] = end[:3]
    return path


def limit_step(start: Pose, end: Pose, max_translation: float, max_rotation: float) -> Pose:
    """Return the farthest pose towards `end` within the limits of one step; `end` if it is within.

    Args:
        start: Pose before the step.
        end: Desired pose after the step.
        max_translation: Limit of one step, metres.
        max_rotation: Limit of one step, radians.
    """
    delta = delta_between(start, end)
    metres = math.sqrt(float(delta[:3] @ delta[:3]))
    radians = math.sqrt(float(delta[3:] @ delta[3:]))
    if metres <= max_translation + 1e-9 and radians <= max_rotation + 1e-9:
        return end
    delta[:3] *= min(1.0, max_translation / max(metres, 1e-12))
    delta[3:] *= min(1.0, max_rotation / max(radians, 1e-12))
    return apply_delta(start, delta)


def _rotate(q: Sequence[float], vx: float, vy: float, vz: float) -> tuple[float, float, float]:
    w, x, y, z = q
    # With u = (x, y, z): v + w t + u x t, where t = 2 u x v.
    tx, ty, tz = 2.0 * (y * vz - z * vy), 2.0 * (z * vx - x * vz), 2.0 * (x * vy - y * vx)
    return (
        vx + w * tx + (y * tz - z * ty),
        vy + w * ty + (z * tx - x * tz),
        vz + w * tz + (x * ty - y * tx),
    )


def _multiply(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float, float]:
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )


def _from_vector(x: float, y: float, z: float) -> tuple[float, float, float, float]:
    angle = math.sqrt(x * x + y * y + z * z)
    if angle < 1e-12:
        return 1.0, 0.5 * x, 0.5 * y, 0.5 * z
    s = math.sin(angle / 2) / angle
    return math.cos(angle / 2), x * s, y * s, z * s


def _to_vector(w: float, x: float, y: float, z: float) -> tuple[float, float, float]:
    if w < 0:
        w, x, y, z = -w, -x, -y, -z
    s = math.sqrt(x * x + y * y + z * z)
    if s < 1e-12:
        return 2 * x, 2 * y, 2 * z
    k = 2.0 * math.atan2(s, w) / s
    return x * k, y * k, z * k
