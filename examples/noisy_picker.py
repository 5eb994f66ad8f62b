"""A scripted policy for `examples/cube_in_bin.py` that is wrong by 14 mm. The page is docs/your-own.md.

It finds the cube and the bin by their colours in one image, and moves through a list of waypoints without
looking again. Its error in the position of the cube is random, so it misses about one grasp in five and then
carries on with an empty gripper.

    failsafe evaluate --policy examples.noisy_picker:NoisyPicker --tasks examples.cube_in_bin:make ...
"""

from collections import deque
from collections.abc import Mapping

import numpy as np

from failsafe.policies.contract import ActionSpace
from failsafe.records import poses
from failsafe.records.observation import PolicyObservation
from failsafe.records.plan import CLOSED, OPEN
from failsafe.simulators.contract import Camera
from failsafe.simulators.maniskill.rendering import default_camera

NOISE = 0.014
"""Standard deviation of the error in the position of the cube, per axis, metres."""
STEP = 0.02
"""Length of a step, metres."""
IMAGE = 128
"""Height and width of the image, pixels."""
CHUNK = 8
"""Actions between two calls of the policy."""


class NoisyPicker:
    """Puts the red cube into the blue bin, if its error happens to be small."""

    name = "noisy picker"
    action_space = ActionSpace(chunk=CHUNK)
    views: Mapping[str, int] = {"front": IMAGE}

    def reset(self, instruction: str, seed: int | None = None) -> None:
        """Begin an episode.

        Args:
            instruction: What the robot is told to do; this policy can do one thing only.
            seed: Seed of the episode: with and without a monitor, the error is the same.
        """
        self._rng = np.random.default_rng(seed)
        self._waypoints: deque[tuple[float, float, float, float, int]] | None = None

    def act(self, observation: PolicyObservation) -> np.ndarray:
        """Return the next chunk of actions [H, 7].

        Args:
            observation: Images and proprioception.
        """
        if self._waypoints is None:
            self._waypoints = self._plan(observation)
        position, rows = observation.target_pose[:3].copy(), []
        while len(rows) < CHUNK and self._waypoints:
            x, y, z, gripper, steps = self._waypoints.popleft()
            way = np.array([x, y, z]) - position
            if (length := float(np.linalg.norm(way))) > STEP:  # not there yet
                way *= STEP / length
                self._waypoints.appendleft((x, y, z, gripper, steps))
            elif steps > 1:  # there, and waiting for the gripper
                self._waypoints.appendleft((x, y, z, gripper, steps - 1))
            position += way
            self._gripper = gripper
            rows.append([*way, 0.0, 0.0, 0.0, gripper])
        return np.array(rows or [[0.0] * 6 + [self._gripper]])

    def drop_queue(self) -> None:
        """Plan again in the next call, because a monitor has moved the robot."""
        self._waypoints = None

    def _plan(self, observation: PolicyObservation) -> deque[tuple[float, float, float, float, int]]:
        """Return the waypoints from here: x, y, z in the robot base frame (m), gripper, steps to stay."""
        image = observation.images["front"].astype(np.int64)
        red, green, blue = image[..., 0], image[..., 1], image[..., 2]
        over = find(blue > 1.3 * np.maximum(red, green), 0.01)
        lower, drop = (*over, 0.06), (*over, 0.14)
        place = [(*drop, CLOSED, 2), (*lower, CLOSED, 2), (*lower, OPEN, 6), (*drop, OPEN, 1)]
        if 0.03 < observation.gripper_width < 0.05:  # the cube is held: carry it to the bin
            x, y = observation.target_pose[:2].tolist()
            return deque([(x, y, 0.14, CLOSED, 1), *place])
        x, y = find(red > 2 * np.maximum(green, blue), 0.02) + self._rng.normal(0.0, NOISE, 2)
        pick = [
            (x, y, 0.12, OPEN, 1),
            (x, y, 0.02, OPEN, 2),
            (x, y, 0.02, CLOSED, 6),
            (x, y, 0.14, CLOSED, 1),
        ]
        return deque([*pick, *place])


def find(mask: np.ndarray, height: float) -> np.ndarray:
    """Return where the middle of a region of the front image is in the scene: x, y in the base frame, metres.

    Args:
        mask: Whether a pixel belongs to the region. [IMAGE, IMAGE]
        height: Height of the middle above the table, metres.
    """
    camera: Camera = default_camera("front")
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return np.array([0.6, 0.0])  # nothing of that colour in sight: the middle of the table
    focal = IMAGE / 2 / np.tan(camera.fov / 2)
    left, up = ((IMAGE - 1) / 2 - axis.mean() for axis in (columns, rows))
    pose = np.asarray(camera.pose)
    ray = poses.rotate(pose[3:], np.array([1.0, left / focal, up / focal]))
    return (pose[:3] + ray * (height - pose[2]) / ray[2])[:2]
