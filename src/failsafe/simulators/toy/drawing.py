"""Pictures of the toy from a pinhole camera: convex faces with a depth buffer, flat shading, drop shadows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.simulators.contract import Camera, ObjectSpec, Role
from failsafe.simulators.toy import gripper as hand
from failsafe.simulators.toy.physics import World

Colour = tuple[float, float, float]

BACKGROUND: Colour = (0.86, 0.89, 0.93)
TABLE: tuple[Colour, Colour] = ((0.72, 0.66, 0.58), (0.67, 0.61, 0.53))
BOXES: tuple[Colour, ...] = ((0.80, 0.20, 0.18), (0.20, 0.42, 0.78), (0.85, 0.65, 0.15))
GOAL: Colour = (0.15, 0.62, 0.30)
STEEL: Colour = (0.32, 0.34, 0.38)
PALM: Colour = (0.88, 0.88, 0.90)
TILE = 0.1
"""Size of the table's tiles, metres: they show how far things move."""
TABLE_EDGE = (-0.1, 1.1, -0.6, 0.6)
"""Least and greatest x, least and greatest y of the table, metres."""
LIGHT = np.array([0.35, 0.25, 0.90])
NEAR = 0.01
"""What is nearer than this to the camera is not drawn, metres."""

_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
_FACES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))


def look_at(name: str, eye: tuple[float, float, float], at: tuple[float, float, float], fov: float) -> Camera:
    """A camera at `eye` that looks at `at`, upright."""
    forward = np.subtract(at, eye)
    forward /= np.linalg.norm(forward)
    yaw, pitch = math.atan2(forward[1], forward[0]), -math.asin(float(forward[2]))
    turn = poses.quaternion_multiply(
        poses.from_rotation_vector([0.0, 0.0, yaw]), poses.from_rotation_vector([0.0, pitch, 0.0])
    )
    return Camera(name, tuple(poses.pose(eye, turn).tolist()), fov)


CAMERAS: Mapping[str, Camera] = {
    "front": look_at("front", (1.15, 0.0, 0.55), (0.46, 0.0, 0.08), 0.75),
    "side": look_at("side", (0.46, -0.75, 0.30), (0.46, 0.0, 0.10), 0.75),
    # Beside the hand, looking past the fingers along the tool's z, the tool's x up.
    "hand": Camera(
        "hand",
        tuple(
            poses.pose(
                [-0.085, 0.0, -0.11],
                poses.quaternion_multiply(
                    poses.from_rotation_vector([0.0, -math.pi / 2, 0.0]),
                    poses.from_rotation_vector([0.0, 0.45, 0.0]),
                ),
            ).tolist()
        ),
        1.2,
        mounted=True,
    ),
}


def draw(
    world: World,
    goals: Mapping[str, Sequence[float]],
    objects: Sequence[ObjectSpec],
    cameras: Sequence[Camera],
    size: int,
) -> UInt8[np.ndarray, "V H W 3"]:
    """The world from every camera, `size` pixels square."""
    shapes = list(_shapes(world, goals, objects))
    tool = np.array([world.gripper.x, world.gripper.y, world.gripper.z, *world.gripper.q])
    pictures = np.empty((len(cameras), size, size, 3), dtype=np.uint8)
    for i, camera in enumerate(cameras):
        pose = np.array(camera.pose)
        view = _View(poses.compose(tool, pose) if camera.mounted else pose, camera.fov, size)
        view.table()
        for corners, _, solid in shapes:
            if solid:
                for face in _FACES:
                    view.shadow(corners[list(face)])
        for corners, colour, solid in shapes:
            for face in _FACES:
                view.face(corners[list(face)], colour, solid)
        pictures[i] = np.round(255.0 * np.clip(view.picture, 0.0, 1.0)).astype(np.uint8)
    return pictures


def _shapes(
    world: World, goals: Mapping[str, Sequence[float]], objects: Sequence[ObjectSpec]
) -> Iterator[tuple[np.ndarray, Colour, bool]]:
    """Corners [8, 3], colour, and whether it is a body rather than a mark; the marks last."""
    for i, body in enumerate(world.bodies):
        at = np.array([body.x, body.y, body.z, *body.q])
        yield _box(at, (0.0, 0.0, 0.0), body.half), BOXES[i % len(BOXES)], True
    g = world.gripper
    tool = np.array([g.x, g.y, g.z, *g.q])
    length = 0.5 * (hand.TIP + hand.PALM)
    for side in (1.0, -1.0):
        middle = (0.0, side * 0.5 * (g.width + hand.THICKNESS), 0.5 * (hand.TIP - hand.PALM))
        yield _box(tool, middle, (hand.PAD, 0.5 * hand.THICKNESS, length)), STEEL, True
    yield _box(tool, (0.0, 0.0, -hand.PALM - 0.02), (*hand.PALM_HALF, 0.02)), PALM, True
    yield _box(tool, (0.0, 0.0, -hand.PALM - 0.10), (0.02, 0.02, 0.06)), PALM, True
    for spec in objects:
        if spec.role is Role.GOAL:
            yield _box(np.array(goals[spec.name]), (0.0, 0.0, 0.0), spec.half_extents), GOAL, False


def _box(at: Pose, middle: Sequence[float], half: Sequence[float]) -> Float[np.ndarray, "8 3"]:
    local = _CORNERS * np.array(half) + np.array(middle)
    return np.array([at[:3] + poses.rotate(at[3:], corner) for corner in local])


class _View:
    """One picture in the making, with the depth of every pixel."""

    def __init__(self, pose: Pose, fov: float, size: int) -> None:
        self._eye = pose[:3]
        self._to_camera = np.array([poses.rotate(pose[3:], e) for e in np.eye(3)])
        self._focal, self._size = 0.5 * size / math.tan(0.5 * fov), size
        self.picture = np.empty((size, size, 3))
        self.picture[:] = BACKGROUND
        self._nearness = np.zeros((size, size))

    def table(self) -> None:
        """Fill in the table, tile by tile."""
        centre = 0.5 * (self._size - 1)
        columns, rows = np.meshgrid(np.arange(self._size), np.arange(self._size))
        rays = np.stack(
            [np.ones(columns.shape), (centre - columns) / self._focal, (centre - rows) / self._focal], axis=-1
        )
        towards = rays @ self._to_camera
        down = np.where(towards[..., 2] < -1e-6, towards[..., 2], -1e-6)
        depth = -self._eye[2] / down
        x, y = (self._eye[k] + depth * towards[..., k] for k in (0, 1))
        low_x, high_x, low_y, high_y = TABLE_EDGE
        inside = (towards[..., 2] < -1e-6) & (x >= low_x) & (x <= high_x) & (y >= low_y) & (y <= high_y)
        odd = (np.floor(x / TILE) + np.floor(y / TILE)) % 2 > 0
        self.picture[inside & odd], self.picture[inside & ~odd] = TABLE
        self._nearness[inside] = 1.0 / depth[inside]

    def shadow(self, corners: Float[np.ndarray, "n 3"]) -> None:
        """Darken the table straight below a face, so that a height can be seen."""
        flat = corners * np.array([1.0, 1.0, 0.0]) + np.array([0.0, 0.0, 1e-4])
        covered = self._cover(flat)
        if covered is None:
            return
        window, mask, _ = covered
        # Darkened pixels come nearer by a hair, so that faces above each other do not darken twice.
        nearness = self._nearness[window]
        fresh = mask & (nearness > 0.0) & (self._shaded(window) == 0)
        self.picture[window][fresh] *= 0.78
        self._shaded(window)[fresh] = 1

    def face(self, corners: Float[np.ndarray, "n 3"], colour: Colour, solid: bool) -> None:
        """Draw a convex face where nothing nearer hides it; a mark without a body is translucent."""
        covered = self._cover(corners)
        if covered is None:
            return
        window, mask, nearness = covered
        visible = mask & (nearness > self._nearness[window])
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
        normal /= max(float(np.linalg.norm(normal)), 1e-12)
        bright = 0.62 + 0.38 * abs(float(normal @ LIGHT)) / float(np.linalg.norm(LIGHT))
        shaded = np.array(colour) * bright
        if solid:
            self.picture[window][visible] = shaded
            self._nearness[window][visible] = nearness[visible]
        else:
            self.picture[window][visible] = 0.7 * self.picture[window][visible] + 0.3 * shaded

    def _shaded(self, window: tuple[slice, slice]) -> np.ndarray:
        if not hasattr(self, "_shade"):
            self._shade = np.zeros((self._size, self._size), dtype=np.uint8)
        return self._shade[window]

    def _cover(self, corners: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray] | None:
        """Pixels that a convex face covers: a window of the picture, a mask in it, and 1/depth there."""
        points = _clip((corners - self._eye) @ self._to_camera.T)
        if len(points) < 3:
            return None
        centre = 0.5 * (self._size - 1)
        near = 1.0 / points[:, 0]
        u = centre - self._focal * points[:, 1] * near
        v = centre - self._focal * points[:, 2] * near
        left, right = max(int(np.ceil(u.min())), 0), min(int(np.floor(u.max())), self._size - 1)
        top, bottom = max(int(np.ceil(v.min())), 0), min(int(np.floor(v.max())), self._size - 1)
        area = float(np.sum(u * np.roll(v, -1) - v * np.roll(u, -1)))
        if left > right or top > bottom or abs(area) < 1e-9:
            return None
        x, y = np.arange(left, right + 1)[None, :], np.arange(top, bottom + 1)[:, None]
        mask = np.ones((bottom - top + 1, right - left + 1), dtype=bool)
        sign = math.copysign(1.0, area)
        for i in range(len(points)):
            j = (i + 1) % len(points)
            mask &= sign * ((u[j] - u[i]) * (y - v[i]) - (v[j] - v[i]) * (x - u[i])) >= 0.0
        # 1/depth is linear in the picture; fitted to all corners, since some three may lie on a line.
        plane = np.linalg.lstsq(np.stack([u, v, np.ones_like(u)], axis=1), near, rcond=None)[0]
        return (slice(top, bottom + 1), slice(left, right + 1)), mask, plane[0] * x + plane[1] * y + plane[2]


def _clip(points: np.ndarray) -> np.ndarray:
    """The part of a convex face (camera frame, x ahead) that lies in front of the camera."""
    kept: list[np.ndarray] = []
    for a, b in zip(np.roll(points, 1, axis=0), points, strict=True):
        if (a[0] < NEAR) != (b[0] < NEAR):
            kept.append(a + (b - a) * (NEAR - a[0]) / (b[0] - a[0]))
        if b[0] >= NEAR:
            kept.append(b)
    return np.array(kept).reshape(-1, 3)
