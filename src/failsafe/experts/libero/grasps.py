"""Candidate grasps from the points of a surface: where two fingers fit around a part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_OPENING = 0.076
"""Widest part that goes between the fingers, metres."""
_FINGER = 0.024
"""Room that a finger needs beside the part, metres."""
_HALF_WIDTH = 0.011
"""Half the width of a finger, metres."""
_TIP = 0.013
"""How far the fingers reach beyond the tool, metres."""
_PALM = 0.1
"""Distance of the tool from the palm, along the fingers, metres."""
_CELL = 0.004
"""Size of the cells across the opening, metres."""
_DEPTHS = (0.012, 0.022, 0.035, 0.05)
"""How far the fingertips reach beyond the first point of the part, metres."""
_PAD = 0.016
"""Length of the part of a finger that presses, metres."""


@dataclass(frozen=True)
class HandPose:
    """A pose of the hand, whose z axis points along the fingers and whose y axis across them.

    Attributes:
        position: Midway between the fingertips, metres. [3]
        rotation: Rotation matrix. [3, 3]
        width: Size of the part between the fingers, metres.
        score: The larger, the better.
    """

    position: np.ndarray
    rotation: np.ndarray
    width: float
    score: float


def orientations(tilts: Sequence[float], azimuths: int, rolls: int) -> list[np.ndarray]:
    """Return rotation matrices of the hand: every tilt from straight down in every direction.

    Args:
        tilts: Angles between the fingers and straight down, radians.
        azimuths: Number of directions, evenly spaced, into which the fingers are tilted.
        rolls: Number of rotations about the fingers, evenly spaced over half a turn.
    """
    found: list[np.ndarray] = []
    for tilt in tilts:
        for azimuth in np.arange(azimuths if tilt else 1) * (2 * np.pi / azimuths):
            side = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
            forward = np.sin(tilt) * side - np.cos(tilt) * np.array([0.0, 0.0, 1.0])
            across = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
            third = np.cross(across, forward)
            for roll in np.arange(rolls) * (np.pi / rolls):
                y = np.cos(roll) * across + np.sin(roll) * third
                found.append(np.stack([np.cross(y, forward), y, forward], axis=1))
    return found


def find_grasps(
    points: np.ndarray, center: np.ndarray, rotations: Sequence[np.ndarray], most: int = 400
) -> list[HandPose]:
    """Return candidate grasps, best first.

    A candidate has a part of the surface between the open fingers, and no point where the fingers and the
    palm are. What else is in the way is not known here.

    Args:
        points: Points on the surface, world frame, metres. [N, 3]
        center: Center of mass, metres. [3]
        rotations: Rotation matrices of the hand, each [3, 3].
        most: Most candidates to return.
    """
    found: list[HandPose] = []
    for rotation in rotations:
        local = (points - center) @ rotation
        low, high = local[:, 0].min(), local[:, 0].max()
        count = max(1, int(np.ceil((high - low - 0.006) / 0.012)))
        for x in np.linspace(low, high, count + 2)[1:-1] if count > 1 else [0.5 * (low + high)]:
            found += _in_slab(local, float(x), rotation, center)
    found.sort(key=lambda grasp: -grasp.score)
    return found[:most]


def _in_slab(local: np.ndarray, x: float, rotation: np.ndarray, center: np.ndarray) -> list[HandPose]:
    """Return the grasps whose fingers move in the plane of one x, in the frame of the hand."""
    slab = local[np.abs(local[:, 0] - x) < _HALF_WIDTH]
    palm = local[np.abs(local[:, 0] - x) < 0.034]
    if len(slab) < 4:
        return []
    found: list[HandPose] = []
    top = slab[:, 2].min()
    for depth in _DEPTHS:
        tips = top + depth
        reached = slab[slab[:, 2] < tips]
        for low, high in _runs(reached[:, 1]):
            width = high - low
            if width > _OPENING:
                continue
            y = 0.5 * (low + high)
            # A finger may come nearer to the middle than the full opening only where nothing is.
            away = np.abs(reached[:, 1] - y)
            if ((away > 0.5 * width + 1e-6) & (away < 0.04 + _FINGER)).any():
                continue
            if (np.abs(palm[:, 1] - y)[palm[:, 2] < tips - _TIP - _PALM] < 0.11).any():
                continue
            pressed = reached[(away <= 0.5 * width + 1e-6) & (reached[:, 2] > tips - _TIP - _PAD)]
            left = int((pressed[:, 1] < low + 0.004).sum())
            right = int((pressed[:, 1] > high - 0.004).sum())
            if not left or not right:
                continue
            position = rotation @ np.array([x, y, tips - _TIP]) + center
            arm = float(
                np.linalg.norm((position - center) - rotation[:, 2] * ((position - center) @ rotation[:, 2]))
            )
            tilt = float(np.arccos(np.clip(-rotation[2, 2], -1.0, 1.0)))
            score = min(left, right, 8) / 8 - 6 * arm - 0.5 * tilt - 4 * max(width - 0.06, 0.0)
            found.append(HandPose(position, rotation, float(width), score))
    return found


def _runs(values: np.ndarray) -> list[tuple[float, float]]:
    """Return the intervals that are covered by values, where gaps are at least as wide as a finger."""
    if not len(values):
        return []
    ordered = np.sort(values)
    cuts = np.flatnonzero(np.diff(ordered) > _FINGER)
    starts = np.concatenate([[0], cuts + 1])
    stops = np.concatenate([cuts, [len(ordered) - 1]])
    return [(float(ordered[a]), float(ordered[b])) for a, b in zip(starts, stops, strict=True)]
