"""Cameras as a user writes them: by name, or by pose."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from failsafe.errors import UserError
from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.simulators.contract import Camera, Simulator

_FOV = 0.8
"""Vertical field of view of a camera that is given without one, radians."""
_FORMS = (
    "NAME@X:Y:Z@X:Y:Z (from, to) or NAME@X:Y:Z:QW:QX:QY:QZ in metres, with @FOV in radians behind it or not"
)


def parse_cameras(simulator: Simulator, text: str) -> list[Camera]:
    """The cameras of a list such as `front,hand,top@0.6:0:1.2@0.6:0:0`.

    Args:
        simulator: Whose cameras can be called by name.
        text: Separated by commas: names, or poses in the robot's base frame as
            `NAME@EYE@TARGET[@FOV]` or `NAME@POSE[@FOV]`, their numbers separated by colons.

    Raises:
        UnknownNameError: If there is no camera of a name.
        UserError: If a pose is none.
    """
    items = [item.strip() for item in text.split(",") if item.strip()]
    return [_by_pose(item) if "@" in item else simulator.camera(item) for item in items]


def look_at(eye: Sequence[float], target: Sequence[float]) -> Pose:
    """The pose [7] of a camera at `eye` [3] (m) that looks along its +x at `target` [3], upright.

    Args:
        eye: Position of the camera, metres. [3]
        target: A point on its optical axis, metres. [3]

    Raises:
        UserError: If the two are the same point.
    """
    x, y, z = np.subtract(target, eye).tolist()
    across = math.hypot(x, y)
    if across < 1e-9 and abs(z) < 1e-9:
        raise UserError("expected a camera that looks at another point than its own, got the same one twice")
    # Straight up or down there is no upright: +x of the base is then up in the image.
    yaw = math.atan2(y, x) if across > 1e-9 else 0.0
    pitch = -math.atan2(z, across)
    turn = poses.quaternion_multiply(
        poses.from_rotation_vector([0.0, 0.0, yaw]), poses.from_rotation_vector([0.0, pitch, 0.0])
    )
    return poses.pose(eye, turn)


def _by_pose(item: str) -> Camera:
    name, *groups = item.split("@")
    try:
        numbers = [[float(n) for n in group.split(":")] for group in groups]
    except ValueError as error:
        raise UserError(f"expected a camera as {_FORMS}; got '{item}'") from error
    lengths = [len(group) for group in numbers]
    finite = all(math.isfinite(n) for group in numbers for n in group)
    if not finite or lengths not in ([3, 3], [3, 3, 1], [7], [7, 1]):
        raise UserError(f"expected a camera as {_FORMS}; got '{item}'")
    fov = numbers[-1][0] if lengths[-1] == 1 else _FOV
    if not 0 < fov < math.pi:
        raise UserError(f"expected a field of view between 0 and 3.14 radians, got {fov} in '{item}'")
    if lengths[0] == 3:
        pose = look_at(numbers[0], numbers[1])
    elif np.linalg.norm(numbers[0][3:]) < 1e-6:
        raise UserError(f"expected a quaternion wxyz, got zeros in '{item}'")
    else:
        pose = poses.pose(numbers[0][:3], numbers[0][3:])
    return Camera(name, tuple(pose.tolist()), fov)


MOUNTED_SHIFT = 0.2
"""Share of the distance by which a camera on the hand is moved: it sits a tenth as far from what it looks at
as one beside the table, and the whole distance would put it inside the hand."""


def move_camera(camera: Camera, metres: float, radians: float, rng: np.random.Generator) -> Camera:
    """A camera shifted by a distance and turned by an angle, both in directions that are drawn.

    The turn is about the camera's own centre. A mounted camera goes `MOUNTED_SHIFT` of the distance.

    Args:
        camera: The camera.
        metres: Length of the displacement.
        radians: Angle of the rotation.
        rng: Draws both directions.
    """
    pose = np.array(camera.pose)
    shift, axis = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    if camera.mounted:
        metres *= MOUNTED_SHIFT
    turned = poses.quaternion_multiply(poses.from_rotation_vector(axis * radians), pose[3:])
    moved = poses.pose(pose[:3] + shift * metres, turned)
    return Camera(camera.name, tuple(moved.tolist()), camera.fov, camera.mounted)
