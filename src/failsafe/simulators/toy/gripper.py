"""The gripper: a tool that follows its command with a lag, and two fingers of finite speed.

The tool frame is that of most grippers: z points out of the hand, the fingers close along y. The origin is
between the pads, slightly above the fingertips.
"""

from __future__ import annotations

import math
from typing import no_type_check

from failsafe.records.poses import Pose
from failsafe.simulators.toy.geometry import Quaternion, Rectangle, axes, multiply, normalise

MAX_OPENING = 0.08
"""Distance of the open pads, metres."""
CLOSING_SPEED = 0.25
"""Speed at which that distance changes, m/s."""
LAG = 0.03
"""Time constant of the tool behind its command, seconds."""
MAX_SPEED, MAX_TURN = 1.0, 6.0
"""Largest speed of the tool, m/s and rad/s."""
PAD = 0.01
"""Half the width of a fingertip, along the tool's x, metres."""
THICKNESS = 0.014
"""Thickness of a finger, along the tool's y, metres."""
TIP = 0.012
"""Distance of the fingertips beyond the tool's origin, along its z, metres."""
PALM = 0.05
"""Distance of the palm above the tool's origin, metres."""
PALM_HALF = (0.025, 0.055)
"""Half the size of the palm along the tool's x and y, metres."""

SHOULDER, ARM = (0.0, 0.0, 0.33), 0.9
"""Shoulder position and reach of the arm, which is not simulated, metres."""

STATE_SIZE = 8
"""Position 3, quaternion 4, opening."""


def within_reach(target: Pose) -> list[float]:
    """Return a tool pose, moved towards the shoulder until it is within reach [7]."""
    numbers: list[float] = target.tolist()
    far = math.dist(numbers[:3], SHOULDER)
    if far > ARM:
        numbers[:3] = [s + (p - s) * ARM / far for p, s in zip(numbers, SHOULDER, strict=False)]
    return numbers


@no_type_check  # as `RigidBody`
class Gripper:
    """The tool and its two fingers."""

    __slots__ = ("axes", "descent", "q", "target_width", "turned", "vx", "vy", "vz", "width", "x", "y", "z")

    def __init__(self) -> None:
        self.load([0.0, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0, MAX_OPENING])

    def load(self, numbers: list[float]) -> None:
        """Set the state from the result of `numbers`."""
        self.x, self.y, self.z = numbers[0], numbers[1], numbers[2]
        self.q = (numbers[3], numbers[4], numbers[5], numbers[6])
        self.width = self.target_width = numbers[7]
        self.vx = self.vy = self.vz = self.descent = 0.0
        self.turned: Quaternion | None = None
        self.axes = axes(self.q)

    def numbers(self) -> list[float]:
        """Return the state as `STATE_SIZE` numbers."""
        return [self.x, self.y, self.z, *self.q, self.width]

    @property
    def tilt(self) -> float:
        """Angle between the hand and straight down, radians."""
        return math.acos(max(-1.0, min(1.0, -self.axes[8])))

    def tip(self, side: float) -> float:
        """Return the height of one fingertip (side +1 or -1 along the tool's y), metres."""
        r = self.axes
        return self.z + TIP * r[8] + side * 0.5 * self.width * r[5] - PAD * abs(r[2])

    def track(self, command: list[float], dt: float, gripping: bool) -> None:
        """Move towards a command for `dt` seconds.

        Args:
            command: Target tool pose (m, wxyz) and opening (m). [8]
            dt: Duration, seconds.
            gripping: Whether the pads press on a box.
        """
        share = 1.0 - math.exp(-dt / LAG)
        dx, dy, dz = command[0] - self.x, command[1] - self.y, command[2] - self.z
        far = math.sqrt(dx * dx + dy * dy + dz * dz)
        move = share if far * share <= MAX_SPEED * dt else MAX_SPEED * dt / far
        self.vx, self.vy, self.vz = dx * move / dt, dy * move / dt, dz * move / dt
        self.x += dx * move
        self.y += dy * move
        self.z += dz * move
        self._turn(command, share, dt)
        self.target_width = command[7]
        if not gripping:
            step = CLOSING_SPEED * dt
            self.width += max(-step, min(step, self.target_width - self.width))
        below = -min(self.tip(1.0), self.tip(-1.0))
        if below > 0.0:
            self.rise(below, dt)
        self.descent = -self.vz * dt

    def rise(self, by: float, dt: float) -> None:
        """Raise the tool by a distance (m), because the fingers stand on something.

        Args:
            by: Distance, metres.
            dt: Duration of the substep, seconds.
        """
        self.z += by
        self.vz += by / dt

    def axis_at(self, height: float) -> tuple[float, float]:
        """Return the x and y at which the hand's middle axis passes through a height, metres."""
        r = self.axes
        s = (height - self.z) / r[8]
        return self.x + r[6] * s, self.y + r[7] * s

    def closing_axis(self) -> tuple[float, float]:
        """Return the horizontal direction along which the fingers close, a unit vector."""
        r = self.axes
        length = math.sqrt(r[3] * r[3] + r[4] * r[4])
        return (r[3] / length, r[4] / length) if length > 1e-6 else (1.0, 0.0)

    def finger(self, side: float, at: tuple[float, float]) -> Rectangle:
        """Footprint of one finger where the middle axis passes through `at`.

        Args:
            side: 1 or -1, the side of the middle axis.
            at: Horizontal position x, y of the middle axis, metres.
        """
        u, v = self.closing_axis()
        offset = side * 0.5 * (self.width + THICKNESS)
        return (at[0] + u * offset, at[1] + v * offset, u, v, 0.5 * THICKNESS, PAD)

    def palm(self) -> tuple[Rectangle, float]:
        """Return the footprint of the palm and the height of its underside."""
        r = self.axes
        u, v = self.closing_axis()
        x, y = self.x - PALM * r[6], self.y - PALM * r[7]
        return (x, y, u, v, PALM_HALF[1], PALM_HALF[0]), self.z - PALM * r[8]

    def _turn(self, command: list[float], share: float, dt: float) -> None:
        self.turned = None
        before = self.q
        w, x, y, z = before
        cw, cx, cy, cz = command[3], command[4], command[5], command[6]
        dot = w * cw + x * cx + y * cy + z * cz
        if dot < 0.0:
            dot, cw, cx, cy, cz = -dot, -cw, -cx, -cy, -cz
        if dot > 1.0 - 1e-13:
            return
        angle = 2.0 * math.acos(min(dot, 1.0))
        share = min(share, MAX_TURN * dt / max(angle, 1e-9))
        q = normalise(
            (w + (cw - w) * share, x + (cx - x) * share, y + (cy - y) * share, z + (cz - z) * share)
        )
        self.q, self.axes = q, axes(q)
        self.turned = multiply(q, (w, -x, -y, -z))
