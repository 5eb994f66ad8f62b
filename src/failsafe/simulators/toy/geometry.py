"""Rotations on plain tuples, and overlaps of rectangles.

A substep handles few numbers, for which Python floats are ten times as fast as NumPy.
"""

from __future__ import annotations

import math

Quaternion = tuple[float, float, float, float]
"""Unit quaternion wxyz."""
Axes = tuple[float, float, float, float, float, float, float, float, float]
"""The columns of a rotation matrix in order: x axis, y axis, z axis, in world coordinates."""
Rectangle = tuple[float, float, float, float, float, float]
"""On the ground: centre x and y, first axis x and y (unit), half the size along it and across it (metres)."""


def multiply(a: Quaternion, b: Quaternion) -> Quaternion:
    """Return the rotation b followed by the rotation a.

    Args:
        a: Unit quaternion wxyz of the second rotation.
        b: Unit quaternion wxyz of the first rotation.
    """
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )


def normalise(q: Quaternion) -> Quaternion:
    """Normalise a quaternion."""
    w, x, y, z = q
    k = 1.0 / math.sqrt(w * w + x * x + y * y + z * z)
    return (w * k, x * k, y * k, z * k)


def turn(q: Quaternion, rx: float, ry: float, rz: float) -> Quaternion:
    """Return a rotation followed by a rotation vector.

    Args:
        q: The rotation.
        rx: Rotation vector, x, world axes, radians.
        ry: Its y.
        rz: Its z.
    """
    angle = math.sqrt(rx * rx + ry * ry + rz * rz)
    if angle < 1e-12:
        return q
    s = math.sin(0.5 * angle) / angle
    return normalise(multiply((math.cos(0.5 * angle), rx * s, ry * s, rz * s), q))


def axes(q: Quaternion) -> Axes:
    """The columns of the rotation matrix."""
    w, x, y, z = q
    return (
        1.0 - 2.0 * (y * y + z * z),
        2.0 * (x * y + w * z),
        2.0 * (x * z - w * y),
        2.0 * (x * y - w * z),
        1.0 - 2.0 * (x * x + z * z),
        2.0 * (y * z + w * x),
        2.0 * (x * z + w * y),
        2.0 * (y * z - w * x),
        1.0 - 2.0 * (x * x + y * y),
    )


def rotate(q: Quaternion, x: float, y: float, z: float) -> tuple[float, float, float]:
    """Rotate a vector.

    Args:
        q: Unit quaternion wxyz.
        x: First component of the vector.
        y: Second component.
        z: Third component.
    """
    a = axes(q)
    return (
        a[0] * x + a[3] * y + a[6] * z,
        a[1] * x + a[4] * y + a[7] * z,
        a[2] * x + a[5] * y + a[8] * z,
    )


def overlap(fixed: Rectangle, moved: Rectangle) -> tuple[float, float, float] | None:
    """Return the shortest translation that separates two rectangles (separating axes).

    Args:
        fixed: The rectangle that stays.
        moved: The rectangle that the translation moves.

    Returns:
        Distance (m) and direction (unit x, y) for the second rectangle; None if they do not overlap.
    """
    x1, y1, u1, v1, a1, b1 = fixed
    x2, y2, u2, v2, a2, b2 = moved
    dx, dy = x2 - x1, y2 - y1
    c, s = abs(u1 * u2 + v1 * v2), abs(u1 * v2 - v1 * u2)
    best, nx, ny = math.inf, 0.0, 0.0
    for ex, ey, reach in (
        (u1, v1, a1 + a2 * c + b2 * s),
        (-v1, u1, b1 + a2 * s + b2 * c),
        (u2, v2, a2 + a1 * c + b1 * s),
        (-v2, u2, b2 + a1 * s + b1 * c),
    ):
        along = dx * ex + dy * ey
        depth = reach - abs(along)
        if depth <= 0.0:
            return None
        if depth < best - 1e-9:
            sign = 1.0 if along >= 0.0 else -1.0
            best, nx, ny = depth, ex * sign, ey * sign
    return best, nx, ny


def covers(rectangle: Rectangle, x: float, y: float) -> bool:
    """Return whether a point lies inside a rectangle.

    Args:
        rectangle: The rectangle.
        x: First coordinate of the point, metres.
        y: Second coordinate, metres.
    """
    cx, cy, u, v, a, b = rectangle
    dx, dy = x - cx, y - cy
    return abs(dx * u + dy * v) <= a and abs(dy * u - dx * v) <= b


def span_in_strip(
    rectangle: Rectangle, x: float, y: float, u: float, v: float, half_width: float
) -> tuple[float, float] | None:
    """Return the extent of a rectangle along a strip, which two pads closing along the strip meet.

    Args:
        rectangle: The rectangle.
        x: x of the origin, a point on the middle line of the strip, metres.
        y: y of the origin, metres.
        u: x of the strip's direction, a unit vector.
        v: y of the strip's direction.
        half_width: Half the width of the strip, metres.

    Returns:
        Least and greatest coordinate along the strip of the part inside; None if there is none.
    """
    cx, cy, ru, rv, a, b = rectangle
    dx, dy = cx - x, cy - y
    along, across = dx * u + dy * v, dy * u - dx * v
    c, s = ru * u + rv * v, rv * u - ru * v
    ac, as_, bc, bs = a * c, a * s, b * c, b * s
    corners = (
        (along + ac - bs, across + as_ + bc),
        (along - ac - bs, across - as_ + bc),
        (along - ac + bs, across - as_ - bc),
        (along + ac + bs, across + as_ - bc),
    )
    low, high = math.inf, -math.inf
    p, q = corners[3]
    for p2, q2 in corners:
        if abs(q2) <= half_width:
            low, high = min(low, p2), max(high, p2)
        for edge in (-half_width, half_width):
            if (q < edge) != (q2 < edge):
                at = p + (p2 - p) * (edge - q) / (q2 - q)
                low, high = min(low, at), max(high, at)
        p, q = p2, q2
    return (low, high) if low <= high else None
