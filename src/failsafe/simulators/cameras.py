"""Poses of cameras."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from failsafe.records import poses
from failsafe.records.poses import Pose


def look_at(eye: Sequence[float], target: Sequence[float], up: Sequence[float] = (0.0, 0.0, 1.0)) -> Pose:
    """Return the pose of a camera at one point that looks at another [7].

    Args:
        eye: Position of the camera, metres. [3]
        target: Point on the optical axis, metres. [3]
        up: Upward direction. [3]
    """
    forward = np.subtract(target, eye).astype(np.float64)
    forward /= np.linalg.norm(forward)
    left = np.cross(np.asarray(up, dtype=np.float64), forward)
    left /= np.linalg.norm(left)
    axes = np.stack([forward, left, np.cross(forward, left)], axis=1)
    x, y, z, w = Rotation.from_matrix(axes).as_quat().tolist()
    return poses.pose(np.array(eye), np.array([w, x, y, z]))
