"""One box: its pose and velocities, and how it falls, slides and tips over.

The weight of a tilted box turns it about its lowest corner: back onto the face on which it stood, or, past
the balance point, onto the next face. Toppling needs no separate rule.
"""

from __future__ import annotations

import math
from typing import no_type_check

from failsafe.simulators.toy.geometry import Axes, Rectangle, axes, turn

GRAVITY = 9.81
"""m/s²"""
TABLE_FRICTION = 0.5
FLAT = 0.05
"""Tilt below which a box that falls back onto a face comes to rest on it, radians."""
EDGE = 0.02
"""Sine of the tilt below which a box rests on a whole edge or face instead of a corner."""

STATE_SIZE = 15
"""Position 3, quaternion 4, velocity 3, angular velocity 3, held, slip speed."""


@no_type_check  # no shapes to check at run time, and its methods are called ten times a substep
class RigidBody:
    """A box.

    Args:
        name: Name of the box.
        half: Half the size along the box's own axes, metres. [3]
        mass: Mass, kg.
    """

    __slots__ = (
        "_flat_axis",
        "_u",
        "_v",
        "a",
        "axes",
        "b",
        "half",
        "height",
        "held",
        "mass",
        "name",
        "q",
        "radius",
        "slip",
        "tilt",
        "vx",
        "vy",
        "vz",
        "wx",
        "wy",
        "wz",
        "x",
        "y",
        "z",
    )

    def __init__(self, name: str, half: tuple[float, float, float], mass: float) -> None:
        self.name, self.half, self.mass = name, half, mass
        self.radius = math.sqrt(half[0] ** 2 + half[1] ** 2 + half[2] ** 2)
        self.load([0.0, 0.0, half[2], 1.0, *([0.0] * (STATE_SIZE - 4))])

    def load(self, numbers: list[float]) -> None:
        """Set the state from the result of `numbers`."""
        self.x, self.y, self.z = numbers[0], numbers[1], numbers[2]
        self.q = (numbers[3], numbers[4], numbers[5], numbers[6])
        self.vx, self.vy, self.vz, self.wx, self.wy, self.wz = numbers[7:13]
        self.held, self.slip = numbers[13] > 0.5, numbers[14]
        self.refresh()

    def numbers(self) -> list[float]:
        """Return the state as `STATE_SIZE` numbers."""
        velocity = [self.vx, self.vy, self.vz, self.wx, self.wy, self.wz]
        return [self.x, self.y, self.z, *self.q, *velocity, float(self.held), self.slip]

    def refresh(self) -> None:
        """Update everything that depends on the orientation. Call it after every change of that."""
        r: Axes = axes(self.q)
        self.axes = r
        ups = (abs(r[2]), abs(r[5]), abs(r[8]))
        half = self.half
        self.height = ups[0] * half[0] + ups[1] * half[1] + ups[2] * half[2]
        k = 2 if ups[2] >= ups[0] and ups[2] >= ups[1] else (0 if ups[0] >= ups[1] else 1)
        i, j = ((1, 2), (0, 2), (0, 1))[k]
        u, v = r[3 * i], r[3 * i + 1]
        length = math.sqrt(u * u + v * v)
        self._flat_axis, self._u, self._v, self.a, self.b = k, u / length, v / length, half[i], half[j]
        self.tilt = math.acos(min(1.0, ups[k]))

    @property
    def rectangle(self) -> Rectangle:
        """Footprint of the box as if it lay flat on its lowest face."""
        return (self.x, self.y, self._u, self._v, self.a, self.b)

    @property
    def speed(self) -> float:
        """Linear speed plus the speed of the corners from rotation, m/s."""
        linear = self.vx**2 + self.vy**2 + self.vz**2
        angular = self.wx**2 + self.wy**2 + self.wz**2
        return math.sqrt(linear) + math.sqrt(angular) * self.radius + abs(self.slip)

    def reach(self, x: float, y: float, z: float) -> float:
        """Return the extent of the box from its middle along a unit vector, metres.

        Args:
            x: First component of the unit vector.
            y: Second component.
            z: Third component.
        """
        r, half = self.axes, self.half
        return (
            half[0] * abs(r[0] * x + r[1] * y + r[2] * z)
            + half[1] * abs(r[3] * x + r[4] * y + r[5] * z)
            + half[2] * abs(r[6] * x + r[7] * y + r[8] * z)
        )

    def turn(self, rx: float, ry: float, rz: float) -> None:
        """Rotate in place by a rotation vector (rad, world axes).

        Args:
            rx: Rotation about the x axis, rad.
            ry: Rotation about the y axis, rad.
            rz: Rotation about the z axis, rad.
        """
        self.q = turn(self.q, rx, ry, rz)
        self.refresh()

    def coast(self, dt: float) -> None:
        """Move with the current velocities for `dt` seconds."""
        self.x += self.vx * dt
        self.y += self.vy * dt
        self.z += self.vz * dt
        if self.wx or self.wy or self.wz:
            self.turn(self.wx * dt, self.wy * dt, self.wz * dt)

    def fall(self, dt: float, floor: float, floor_vx: float, floor_vy: float) -> None:
        """Move freely above a floor.

        Args:
            dt: Duration, seconds.
            floor: Height of the floor, metres.
            floor_vx: Velocity of the floor along x, m/s.
            floor_vy: Velocity of the floor along y, m/s.
        """
        bottom = self.z - self.height
        still = not (self.vx or self.vy or self.vz or self.wx or self.wy or self.wz or self.tilt > 1e-3)
        if still and abs(bottom - floor) < 1e-6 and not (floor_vx or floor_vy):
            return
        self.vz -= GRAVITY * dt
        self.coast(dt)
        if self.z - self.height > floor:
            return
        self.z = floor + self.height
        self.vz = max(self.vz, 0.0)
        self._pivot(dt)
        self._slide(dt, floor_vx, floor_vy)

    def _slide(self, dt: float, floor_vx: float, floor_vy: float) -> None:
        vx, vy = self.vx - floor_vx, self.vy - floor_vy
        speed, loss = math.sqrt(vx * vx + vy * vy), TABLE_FRICTION * GRAVITY * dt
        keep = 0.0 if speed <= loss else 1.0 - loss / speed
        self.vx, self.vy = floor_vx + vx * keep, floor_vy + vy * keep
        spin_loss = loss / (0.6 * self.radius)
        self.wz = math.copysign(max(0.0, abs(self.wz) - spin_loss), self.wz)

    def _pivot(self, dt: float) -> None:
        """Tip about the lowest corner, or come to rest on a face."""
        if self.tilt < 1e-3:
            self._lie_flat()
            return
        r, half = self.axes, self.half
        cx = cy = 0.0
        for k in range(3):
            weight = max(-1.0, min(1.0, r[3 * k + 2] / EDGE)) * half[k]
            cx -= weight * r[3 * k]
            cy -= weight * r[3 * k + 1]
        inertia = 4.0 / 3.0 * (cx * cx + cy * cy + self.height * self.height)
        pull = GRAVITY / inertia
        ax, ay = pull * cy, -pull * cx
        if self.tilt < FLAT and (ax * self.wx + ay * self.wy >= 0.0 or math.hypot(self.wx, self.wy) < 1.0):
            self._lie_flat()
            return
        damping = 1.0 - 6.0 * dt
        self.wx, self.wy = (self.wx + ax * dt) * damping, (self.wy + ay * dt) * damping
        # The centre moves on a circle around the resting corner.
        self.vx, self.vy = self.wy * self.height, -self.wx * self.height
        self.vz = self.wy * cx - self.wx * cy

    def _lie_flat(self) -> None:
        r, k = self.axes, self._flat_axis
        up = 1.0 if r[3 * k + 2] > 0.0 else -1.0
        ux, uy, uz = up * r[3 * k], up * r[3 * k + 1], up * r[3 * k + 2]
        sine = math.hypot(ux, uy)
        if sine > 1e-9:
            angle = math.atan2(sine, uz)
            # The shortest rotation that brings the axis upright is about (axis x up).
            before = self.height
            self.turn(uy / sine * angle, -ux / sine * angle, 0.0)
            self.z += self.height - before
        self.wx = self.wy = 0.0
