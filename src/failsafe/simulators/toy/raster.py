"""A software rasteriser: convex faces from a pinhole camera, with a depth buffer and drop shadows."""

from __future__ import annotations

import functools
import math

import numpy as np
from jaxtyping import Float

from failsafe.records import poses
from failsafe.records.poses import Pose

Colour = tuple[float, float, float]
"""Red, green, blue in [0, 1]."""

BACKGROUND: Colour = (0.86, 0.89, 0.93)
TABLE: tuple[Colour, Colour] = ((0.72, 0.66, 0.58), (0.67, 0.61, 0.53))
TABLE_EDGE = (-0.1, 1.1, -0.6, 0.6)
"""Least and greatest x, least and greatest y of the table, metres."""
TILE = 0.1
"""Size of the table's tiles, metres. The tiles make motion visible."""
SHADOW = 0.78
"""Brightness of the table directly below a body. The shadow makes the height of the body visible."""
NEAR = 0.01
"""Near plane of the camera, metres."""

_LIGHT = np.array([0.36, 0.26, 0.90])


class PinholeView:
    """A pinhole camera and the image that it draws.

    Args:
        pose: Pose of the camera, with the optical axis +x and +z upwards. [7]
        fov: Vertical field of view, radians.
        size: Height and width, pixels.
    """

    def __init__(self, pose: Pose, fov: float, size: int) -> None:
        self._eye = pose[:3]
        self._to_camera = np.array([poses.rotate(pose[3:], e) for e in np.eye(3)])
        self._size, self._focal = size, 0.5 * size / math.tan(0.5 * fov)
        self._centre = 0.5 * (size - 1)
        self._nearness = np.zeros((size, size))  # 1/depth of the drawn pixels, which is linear across a face
        self._image = np.empty((size, size, 3))
        self._image[:] = BACKGROUND
        self._draw_table(_rays(fov, size) @ self._to_camera)

    def image(self) -> np.ndarray:
        """Return the current image, uint8 [size, size, 3]."""
        return np.round(255.0 * np.clip(self._image, 0.0, 1.0)).astype(np.uint8)

    def shadows(self, faces: Float[np.ndarray, "faces corners 3"]) -> None:
        """Darken the table directly below faces. Call it before drawing anything else."""
        dark = np.zeros((self._size, self._size), dtype=bool)
        flat = faces * np.array([1.0, 1.0, 0.0])
        for face in flat:
            covered = self._cover(face)
            if covered is not None:
                window, mask = covered
                dark[window] |= mask
        self._image[dark & (self._nearness > 0.0)] *= SHADOW

    def face(self, corners: Float[np.ndarray, "corners 3"], colour: Colour, opacity: float = 1.0) -> None:
        """Draw the visible part of a convex face. Back faces are not drawn.

        Args:
            corners: Corners, anticlockwise as seen from outside, world frame, metres. [corners, 3]
            colour: Colour in full light.
            opacity: 1: opaque. Below 1 the face is blended with the background and hides nothing.
        """
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[1])
        normal /= max(float(np.linalg.norm(normal)), 1e-12)
        away = float(normal @ (corners[0] - self._eye))
        if away >= -1e-9:
            return
        covered = self._cover(corners)
        if covered is None:
            return
        window, mask = covered
        # On the plane normal·p = away, a ray r (depth 1) meets it at depth away / normal·r.
        across = self._to_camera @ normal / away
        columns = (self._centre - np.arange(self._size)[window[1]]) / self._focal
        rows = (self._centre - np.arange(self._size)[window[0]]) / self._focal
        nearness = across[0] + across[1] * columns[None, :] + across[2] * rows[:, None]
        visible = mask & (nearness > self._nearness[window])
        lit = np.array(colour) * (0.62 + 0.38 * abs(float(normal @ _LIGHT)))
        pixels = self._image[window]
        pixels[visible] = (1.0 - opacity) * pixels[visible] + opacity * lit
        if opacity == 1.0:
            self._nearness[window][visible] = nearness[visible]

    def _draw_table(self, rays: np.ndarray) -> None:
        down = rays[..., 2] < -1e-6
        depth = -self._eye[2] / np.where(down, rays[..., 2], -1.0)
        x, y = (self._eye[k] + depth * rays[..., k] for k in (0, 1))
        low_x, high_x, low_y, high_y = TABLE_EDGE
        inside = down & (x >= low_x) & (x <= high_x) & (y >= low_y) & (y <= high_y) & (depth > NEAR)
        odd = (np.floor(x / TILE) + np.floor(y / TILE)) % 2 > 0
        self._image[inside & odd], self._image[inside & ~odd] = TABLE
        self._nearness[inside] = 1.0 / depth[inside]

    def _cover(self, corners: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray] | None:
        """Return the pixels that a convex face covers: a window of the image and a mask of the window."""
        points = _clip((corners - self._eye) @ self._to_camera.T)
        if len(points) < 3:
            return None
        u = self._centre - self._focal * points[:, 1] / points[:, 0]
        v = self._centre - self._focal * points[:, 2] / points[:, 0]
        last = self._size - 1
        left, right = max(math.ceil(u.min()), 0), min(math.floor(u.max()), last)
        top, bottom = max(math.ceil(v.min()), 0), min(math.floor(v.max()), last)
        du, dv = np.roll(u, -1) - u, np.roll(v, -1) - v
        area = float(np.sum(u * dv - v * du))
        if left > right or top > bottom or abs(area) < 1e-9:
            return None
        x, y = np.arange(left, right + 1)[None, :], np.arange(top, bottom + 1)[:, None]
        mask = np.ones((bottom - top + 1, right - left + 1), dtype=bool)
        for i in range(len(points)):
            mask &= math.copysign(1.0, area) * (du[i] * (y - v[i]) - dv[i] * (x - u[i])) >= 0.0
        return (slice(top, bottom + 1), slice(left, right + 1)), mask


@functools.lru_cache(maxsize=8)
def _rays(fov: float, size: int) -> np.ndarray:
    """Return the direction of every pixel in the camera frame, at depth 1 [size, size, 3]."""
    offsets = (0.5 * (size - 1) - np.arange(size)) / (0.5 * size / math.tan(0.5 * fov))
    rays = np.ones((size, size, 3))
    rays[..., 1], rays[..., 2] = offsets[None, :], offsets[:, None]
    return rays


def _clip(points: np.ndarray) -> np.ndarray:
    """Clip a convex face (camera frame, x forward) at the near plane."""
    if (points[:, 0] >= NEAR).all():
        return points
    kept: list[np.ndarray] = []
    for a, b in zip(np.roll(points, 1, axis=0), points, strict=True):
        if (a[0] < NEAR) != (b[0] < NEAR):
            kept.append(a + (b - a) * (NEAR - a[0]) / (b[0] - a[0]))
        if b[0] >= NEAR:
            kept.append(b)
    return np.array(kept).reshape(-1, 3)
