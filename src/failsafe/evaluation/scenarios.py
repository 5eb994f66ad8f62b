"""Axes of generalisation: what an evaluation makes unlike training, each under a name of its own."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from failsafe import registry
from failsafe.datasets.cameras import move_camera
from failsafe.errors import UserError
from failsafe.evaluation.accidents import DROPPED, PUSHED, Accident
from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.registry import Registry
from failsafe.simulators.contract import Camera, Role, Simulator

_NOISE = np.array([0.002] * 3 + [math.radians(1.0)] * 3)
"""Standard deviations of an arm that goes a little off: metres and radians."""


@dataclass(frozen=True)
class Scenario:
    """One way in which an evaluation is unlike training.

    Attributes:
        name: Its name.
        axis: What it varies: "none", "spatial", "viewpoint", "object", "embodiment", "physics", "accident".
        description: What is unlike training, in words.
        farther: Metres by which every movable object is moved away from the middle of the table.
        metres: Metres by which every camera is moved.
        degrees: Degrees by which it is turned.
        noisy: Whether the arm goes a little off, as in the proofs of corrections.
        delay: Control steps by which everything that is sensed is late.
        accident: Kind of the accident that happens in an episode, where it can.
        tasks: Tasks to run in place of others; where there are any, only those are run.
    """

    name: str
    axis: str
    description: str
    farther: float = 0.0
    metres: float = 0.0
    degrees: float = 0.0
    noisy: bool = False
    delay: int = 0
    accident: str = ""
    tasks: Mapping[str, str] = field(default_factory=dict[str, str])

    def start(self, simulator: Simulator, seed: int) -> None:
        """Begin an episode."""
        simulator.reset(seed)
        if self.farther:
            simulator.reset(seed, self._moved(simulator))

    def camera(self, camera: Camera, seed: int) -> Camera:
        """The camera, moved as the scenario says, by a draw of its own for each seed."""
        if not (self.metres or self.degrees):
            return camera
        rng = np.random.default_rng([seed, *camera.name.encode()])
        return move_camera(camera, self.metres, math.radians(self.degrees), rng)

    def actuation(self, seed: int) -> Callable[[Pose, float], tuple[Pose, float]]:
        """What becomes of a command on its way to the robot."""
        return _NoisyArm(np.random.default_rng([seed, 7])) if self.noisy else _exactly

    def accident_of(self, simulator: Simulator, seed: int) -> Accident | None:
        """What the world does to an episode that has just begun, None where it does nothing."""
        return Accident(self.accident, seed, simulator) if self.accident else None

    def _moved(self, simulator: Simulator) -> dict[str, Pose]:
        """Every movable object with a goal of its own beside it, moved outwards together."""
        episode, seen = simulator.episode, simulator.observe()
        movable = [i for i, o in enumerate(episode.objects) if o.role is Role.MOVABLE]
        middle = np.array([0.615, 0.0])  # of the region in which ManiSkill's tabletop tasks place objects
        out: dict[str, Pose] = {}
        for i in movable:
            pose = seen.objects[i].copy()
            away = pose[:2] - middle
            length = float(np.linalg.norm(away))
            pose[:2] += self.farther * (away / length if length > 1e-6 else np.array([0.0, 1.0]))
            out[episode.objects[i].name] = pose
        return out


def _exactly(pose: Pose, gripper: float) -> tuple[Pose, float]:
    return pose, gripper


class _NoisyArm:
    """Every pose a little off, every command a step late; what is told to stay stays where it is."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._late: deque[tuple[Pose, float]] = deque()
        self._last: Pose | None = None
        self._error = np.zeros(6)

    def __call__(self, pose: Pose, gripper: float) -> tuple[Pose, float]:
        self._late.append((pose, gripper))
        late, fingers = self._late.popleft() if len(self._late) > 1 else self._late[0]
        if self._last is None or not np.array_equal(late, self._last):
            self._last, self._error = late, self._rng.normal(size=6) * _NOISE
        return poses.apply_delta(late, self._error), fingers


def _checked(name: str, entry: object) -> Scenario:
    if not isinstance(entry, Scenario):
        raise UserError(
            f"expected a failsafe.evaluation.scenarios.Scenario as scenario '{name}', got {entry!r:.80}"
        )
    return replace(entry, name=name)


SCENARIOS: Registry[Scenario] = registry.scenarios
"""Every scenario by name."""
SCENARIOS.prepare = _checked
for _built_in in (
    Scenario("nominal", "none", "as in training"),
    Scenario("farther", "spatial", "objects 5 cm farther from the middle of the table", farther=0.05),
    Scenario("camera-5", "viewpoint", "cameras moved by 5 cm and 5 degrees", metres=0.05, degrees=5.0),
    Scenario("camera-15", "viewpoint", "cameras moved by 15 cm and 15 degrees", metres=0.15, degrees=15.0),
    Scenario("noise", "physics", "actuation noise of 2 mm and 1 degree, commands a step late", noisy=True),
    Scenario("delay-1", "physics", "sensors one step late", delay=1),
    Scenario("delay-2", "physics", "sensors two steps late", delay=2),
    Scenario("delay-3", "physics", "sensors three steps late", delay=3),
    Scenario("pushed", "accident", "an object pushed by 5 cm within the first second", accident=PUSHED),
    Scenario("dropped", "accident", "what has been raised by 3 cm torn out of the grip", accident=DROPPED),
    *(
        Scenario(name, axis, description, tasks={"PickCube-v1": task})
        for name, axis, description, task in (
            ("small-cube", "object", "a cube of 3 cm in place of 4 cm", "PickSmallCube-v1"),
            ("large-cube", "object", "a cube of 5 cm in place of 4 cm", "PickLargeCube-v1"),
            ("tall-cube", "object", "a block of 4 x 4 x 6 cm in place of a cube", "PickTallCube-v1"),
            ("blue-cube", "object", "a blue cube in place of a red one", "PickBlueCube-v1"),
            ("sphere", "object", "a sphere in place of a cube", "PickSphere-v1"),
            ("heavy", "physics", "a cube ten times as heavy", "PickHeavyCube-v1"),
            ("slippery", "physics", "a friction of 0.25 between fingers and cube", "PickSlipperyCube-v1"),
            ("fetch", "embodiment", "the arm of a Fetch in place of a Panda", "PickCubeFetch-v1"),
        )
    ),
):
    SCENARIOS.add(_built_in.name, _built_in)


def scenario(name: str) -> Scenario:
    """A scenario by its name.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    return SCENARIOS[name]
