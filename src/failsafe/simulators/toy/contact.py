"""Contacts of the gripper with boxes and among boxes: grasping, pushing, stacking."""

from __future__ import annotations

import math

from failsafe.simulators.toy.body import GRAVITY, RigidBody
from failsafe.simulators.toy.geometry import Rectangle, covers, overlap, span_in_strip
from failsafe.simulators.toy.gripper import MAX_OPENING, PAD, TIP, Gripper

FRICTION = 0.8
"""Friction coefficient between pads and boxes."""
GRIP_FORCE = 3.0
"""Force of each finger, newtons."""
MAX_TILT = 0.35
"""Tilt of the hand beyond which the pads do not grip the faces of a box, radians."""
MIN_OVERLAP = 0.005
"""Least overlap of the pads with the side of a held box, metres."""
ALIGN_SPEED = 4.0
"""Speed at which closing pads align the faces of a box with themselves, rad/s."""
REACH = 0.012
"""Largest distance by which a box may extend beyond the pads and still be pushed between them, metres."""
CHAMFER = 0.0005
"""Rounding of the edges, metres: with a smaller overlap, a finger slides off instead of standing on a box."""
MAX_SHOVE = 0.004
"""Largest separation of two boxes in one substep, metres."""


def meet(gripper: Gripper, body: RigidBody, dt: float) -> None:
    """Apply the gripper to a box that is not held.

    Args:
        gripper: The gripper.
        body: The box.
        dt: Duration, seconds.
    """
    r, top = gripper.axes, body.z + body.height
    tips = (gripper.tip(1.0), gripper.tip(-1.0))
    if r[8] > -0.3 or min(tips) >= top:
        return
    dx, dy = body.x - gripper.x, body.y - gripper.y
    if dx * dx + dy * dy > (body.radius + 0.15) ** 2:
        return
    at = gripper.axis_at(0.5 * (top + max(body.z - body.height, min(min(tips), top))))
    if not _squeeze(gripper, body, dt, at, top - max(tips)):
        for side in (1.0, -1.0):
            _run_into(gripper, body, dt, gripper.finger(side, at), top - gripper.tip(side))
    block_with_palm(gripper, body, dt)


def block_with_palm(gripper: Gripper, body: RigidBody, dt: float) -> None:
    """Let the palm stand on a box or push it.

    Args:
        gripper: The gripper.
        body: The box.
        dt: Duration, seconds.
    """
    rectangle, underside = gripper.palm()
    depth = body.z + body.height - underside
    if depth > 0.0:
        _run_into(gripper, body, dt, rectangle, depth)


def carry(gripper: Gripper, body: RigidBody, old: tuple[float, float, float], dt: float) -> None:
    """Move a held box with the tool.

    Args:
        gripper: The gripper.
        body: The box.
        old: Position of the tool before the substep, metres.
        dt: Duration, seconds.
    """
    if gripper.turned is None:
        body.x += gripper.x - old[0]
        body.y += gripper.y - old[1]
        body.z += gripper.z - old[2]
    else:
        w, x, y, z = gripper.turned
        angle = 2.0 * math.atan2(math.sqrt(x * x + y * y + z * z), w)
        k = angle / max(math.sin(0.5 * angle), 1e-12)
        body.turn(x * k, y * k, z * k)
        # The same rotation, about the tool instead of the centre of the box.
        dx, dy, dz = body.x - old[0], body.y - old[1], body.z - old[2]
        cx, cy, cz = y * dz - z * dy, z * dx - x * dz, x * dy - y * dx
        body.x = gripper.x + dx + 2.0 * (w * cx + y * cz - z * cy)
        body.y = gripper.y + dy + 2.0 * (w * cy + z * cx - x * cz)
        body.z = gripper.z + dz + 2.0 * (w * cz + x * cy - y * cx)
    body.vx, body.vy, body.vz = gripper.vx, gripper.vy, gripper.vz
    body.wx = body.wy = body.wz = 0.0


def slip(gripper: Gripper, body: RigidBody, friction: float, dt: float) -> None:
    """Let a held box slide down between the pads if friction does not carry its weight.

    Args:
        gripper: The gripper.
        body: The box.
        friction: Friction coefficient between pads and box.
        dt: Duration, seconds.
    """
    body.slip = max(0.0, body.slip + (GRAVITY - 2.0 * friction * GRIP_FORCE / body.mass) * dt)
    body.z -= body.slip * dt


def keeps_hold(gripper: Gripper, body: RigidBody) -> bool:
    """Return whether the pads still press on a held box.

    Args:
        gripper: The gripper.
        body: The box that it holds.
    """
    if gripper.target_width > gripper.width + 1e-4:
        return False
    dx, dy, dz = body.x - gripper.x, body.y - gripper.y, body.z - gripper.z
    r = gripper.axes
    aside = abs(dx * r[0] + dy * r[1] + dz * r[2])
    below = dx * r[6] + dy * r[7] + dz * r[8]
    top = below - body.reach(r[6], r[7], r[8])
    return top < TIP - 0.5 * MIN_OVERLAP and aside < body.reach(r[0], r[1], r[2]) + PAD


def separate(first: RigidBody, second: RigidBody, fixed: tuple[bool, bool]) -> None:
    """Separate two boxes that overlap at their sides.

    Args:
        first: A box.
        second: Another box.
        fixed: Which of the two boxes must not move.
    """
    low, high = (first, second) if first.z <= second.z else (second, first)
    depth = low.z + low.height - (high.z - high.height)
    if depth <= 0.003 or all(fixed):
        return
    if (first.x - second.x) ** 2 + (first.y - second.y) ** 2 > (first.radius + second.radius) ** 2:
        return
    if depth < 0.012 and covers(low.rectangle, high.x, high.y):
        return  # one stands on the other, which `World._floor` handles
    hit = overlap(first.rectangle, second.rectangle)
    if hit is None:
        return
    by, nx, ny = min(hit[0], MAX_SHOVE), hit[1], hit[2]
    share = 1.0 if fixed[0] else (0.0 if fixed[1] else 0.5)
    second.x += nx * by * share
    second.y += ny * by * share
    first.x -= nx * by * (1.0 - share)
    first.y -= ny * by * (1.0 - share)
    closing = (first.vx - second.vx) * nx + (first.vy - second.vy) * ny
    if closing > 0.0:
        second.vx += nx * closing * share
        second.vy += ny * closing * share
        if not fixed[0]:
            first.vx -= nx * closing * (1.0 - share)
            first.vy -= ny * closing * (1.0 - share)


def _squeeze(g: Gripper, body: RigidBody, dt: float, at: tuple[float, float], reach: float) -> bool:
    """Apply the inner faces of the pads to a box; return whether the box is between the pads."""
    u, v = g.closing_axis()
    span = span_in_strip(body.rectangle, at[0], at[1], u, v, PAD)
    if span is None or reach < 2 * CHAMFER:
        return False
    low, high = span
    half = 0.5 * g.width
    if low < -half - REACH or high > half + REACH or min(high, -low) < -half:
        return False
    if low >= -half and high <= half:
        return True
    if reach <= max(g.descent, 0.0) + CHAMFER and max(high - half, -half - low) > 0.001:
        return False  # the fingers stand on the edge of the box
    if high - low < g.width:
        shift = half - high if high > half else -half - low
        _move(body, u, v, shift, g.vx * u + g.vy * v)
        return True
    if high - low > MAX_OPENING:
        return False
    middle = 0.5 * (low + high)
    body.x, body.y = body.x - u * middle, body.y - v * middle
    body.vx, body.vy = g.vx, g.vy
    g.width = high - low
    if g.target_width < g.width - 1e-4:
        _press(g, body, dt, reach)
    return True


def _press(g: Gripper, body: RigidBody, dt: float, reach: float) -> None:
    """Let both pads press on a box: align its faces with the pads, then hold it."""
    u, v = g.closing_axis()
    c = body.rectangle[2] * u + body.rectangle[3] * v
    s = u * body.rectangle[3] - v * body.rectangle[2]
    skew = (math.atan2(s, c) + 0.25 * math.pi) % (0.5 * math.pi) - 0.25 * math.pi
    if abs(skew) > 1e-6:
        body.turn(0.0, 0.0, -max(-ALIGN_SPEED * dt, min(ALIGN_SPEED * dt, skew)))
    if abs(skew) < 0.01 and reach >= MIN_OVERLAP and g.tilt <= MAX_TILT:
        body.held, body.slip = True, 0.0


def _run_into(g: Gripper, body: RigidBody, dt: float, rectangle: Rectangle, depth: float) -> None:
    """Let a part of the gripper, `depth` metres below the top of a box, stand on the box or push it."""
    if depth <= 0.0:
        return
    hit = overlap(rectangle, body.rectangle)
    if hit is None:
        return
    if depth <= max(g.descent, 0.0) + CHAMFER and hit[0] > 4 * CHAMFER:
        g.rise(depth, dt)
        return
    if body.held:
        return
    by, nx, ny = hit
    # A push off the middle also turns the box: quasi-static, friction spread over the footprint. Where the
    # pusher's face lies flat on the box, it takes up a lever shorter than half that face.
    rx, ry = rectangle[0] - body.x, rectangle[1] - body.y
    lever = rx * ny - ry * nx
    along, across = abs(rectangle[2] * nx + rectangle[3] * ny), abs(rectangle[2] * ny - rectangle[3] * nx)
    half_face = rectangle[4] * across + rectangle[5] * along
    lever = math.copysign(max(0.0, abs(lever) - half_face), lever)
    gyration = (body.a * body.a + body.b * body.b) / 3.0
    share = 1.0 / (1.0 + lever * lever / gyration)
    speed = (g.vx * nx + g.vy * ny) * share
    _move(body, nx, ny, by * share, speed)
    if lever:
        spin = lever / gyration
        body.turn(0.0, 0.0, by * share * spin)
        if speed > 0.0 and abs(body.wz) < abs(speed * spin):
            body.wz = speed * spin


def _move(body: RigidBody, nx: float, ny: float, by: float, speed: float) -> None:
    """Shift a box along a direction; it then moves at least as fast as what pushes it."""
    body.x += nx * by
    body.y += ny * by
    if by < 0.0:
        nx, ny, speed = -nx, -ny, -speed
    lacking = speed - (body.vx * nx + body.vy * ny)
    if lacking > 0.0:
        body.vx += nx * lacking
        body.vy += ny * lacking
