"""Images of the toy: its cameras and visible shapes."""

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
from failsafe.simulators.toy.raster import Colour, PinholeView

BOXES: tuple[Colour, ...] = ((0.80, 0.20, 0.18), (0.20, 0.42, 0.78), (0.85, 0.65, 0.15))
GOAL: Colour = (0.15, 0.62, 0.30)
GOAL_OPACITY = 0.4
FINGERS: Colour = (0.32, 0.34, 0.38)
PALM: Colour = (0.88, 0.88, 0.90)

_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
_FACES = np.array(
    [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
)  # anticlockwise as seen from outside


def _look_at(name: str, eye: tuple[float, float, float], at: tuple[float, float, float]) -> Camera:
    forward = np.subtract(at, eye)
    yaw = math.atan2(forward[1], forward[0])
    pitch = -math.atan2(forward[2], math.hypot(forward[0], forward[1]))
    turn = poses.quaternion_multiply(
        poses.from_rotation_vector([0.0, 0.0, yaw]), poses.from_rotation_vector([0.0, pitch, 0.0])
    )
    return Camera(name, tuple(poses.pose(eye, turn).tolist()), fov=0.7)


def _beside_the_hand() -> Camera:
    # Above the palm's edge, leaning towards the fingertips; the tool's x is up in the image.
    turn = poses.from_rotation_vector([0.0, -math.pi / 2 + 0.5, 0.0])
    return Camera("hand", tuple(poses.pose([-0.075, 0.0, -0.06], turn).tolist()), fov=1.3, mounted=True)


CAMERAS: Mapping[str, Camera] = {
    camera.name: camera
    for camera in (
        _look_at("front", (1.02, 0.0, 0.50), (0.47, 0.0, 0.11)),
        _look_at("side", (0.47, -0.68, 0.32), (0.47, 0.0, 0.12)),
        _beside_the_hand(),
    )
}


def draw(
    world: World,
    goals: Mapping[str, Sequence[float]],
    objects: Sequence[ObjectSpec],
    cameras: Sequence[Camera],
    size: int,
) -> UInt8[np.ndarray, "V H W 3"]:
    """Draw the world from every camera.

    Args:
        world: The world.
        goals: Poses of the goal markers, by name. [7]
        objects: The objects of the task.
        cameras: The V cameras.
        size: Height and width, pixels.
    """
    g = world.gripper
    tool = np.array([g.x, g.y, g.z, *g.q])
    bodies = list(_bodies(world, tool))
    marks = [
        _box(np.array(goals[o.name]), (0.0, 0.0, 0.0), o.half_extents) for o in objects if o.role is Role.GOAL
    ]
    shadows = np.concatenate([faces for faces, _ in bodies])
    images = np.empty((len(cameras), size, size, 3), dtype=np.uint8)
    for i, camera in enumerate(cameras):
        pose = np.array(camera.pose)
        view = PinholeView(poses.compose(tool, pose) if camera.mounted else pose, camera.fov, size)
        view.shadows(shadows)
        for faces, colour in bodies:
            for face in faces:
                view.face(face, colour)
        for faces in marks:
            for face in faces:
                view.face(face, GOAL, GOAL_OPACITY)
        images[i] = view.image()
    return images


def _bodies(world: World, tool: Pose) -> Iterator[tuple[np.ndarray, Colour]]:
    """Yield the faces [6, 4, 3] and colour of every solid shape."""
    for i, body in enumerate(world.bodies):
        at = np.array([body.x, body.y, body.z, *body.q])
        yield _box(at, (0.0, 0.0, 0.0), body.half), BOXES[i % len(BOXES)]
    finger_half = (hand.PAD, 0.5 * hand.THICKNESS, 0.5 * (hand.TIP + hand.PALM))
    for side in (1.0, -1.0):
        offset = side * 0.5 * (world.gripper.width + hand.THICKNESS)
        yield _box(tool, (0.0, offset, 0.5 * (hand.TIP - hand.PALM)), finger_half), FINGERS
    yield _box(tool, (0.0, 0.0, -hand.PALM - 0.02), (*hand.PALM_HALF, 0.02)), PALM
    yield _box(tool, (0.0, 0.0, -hand.PALM - 0.10), (0.02, 0.02, 0.06)), PALM


def _box(at: Pose, middle: Sequence[float], half: Sequence[float]) -> Float[np.ndarray, "6 4 3"]:
    turned = np.array([poses.rotate(at[3:], e) for e in np.eye(3)])
    corners = at[:3] + (_CORNERS * np.array(half) + np.array(middle)) @ turned
    return corners[_FACES]
