"""The contract of a simulator: one task in one physics engine, with what it can do declared.

Poses are in the robot's base frame, metres and quaternions wxyz. One call of `step` is one control step.
`failsafe check-adapter MODULE:CLASS` runs the conformance suite on an implementation.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, UInt8

from failsafe.records.poses import Pose
from failsafe.records.trace import Disturbance


class Exactness(str, enum.Enum):
    """How a rollout is branched without leaving it: the proof of a correction rests on this."""

    RESTORE = "restore"
    """`restore(state)` puts back a state of a rollout, and the same commands then give the same states."""
    REPLAY = "replay"
    """Only the same commands from the same `reset` do."""


class Role(str, enum.Enum):
    """What an object is to the task."""

    MOVABLE = "movable"
    GOAL = "goal"
    """A mark without a body: a place, not a thing."""
    FIXED = "fixed"


@dataclass(frozen=True)
class ObjectSpec:
    """An object of the scene.

    Attributes:
        name: Its name, unique in the scene.
        role: What it is to the task.
        half_extents: Half the size of its bounding box in its own frame, metres. [3]
    """

    name: str
    role: Role
    half_extents: tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """A camera to render from.

    Attributes:
        name: Name of the view.
        pose: Pose in the robot's base frame, or in the tool's if `mounted`; looks along +x, z up. [7]
        fov: Vertical field of view, radians.
        mounted: Whether it moves with the tool.
    """

    name: str
    pose: tuple[float, ...]
    fov: float = 1.0
    mounted: bool = False

    @property
    def numbers(self) -> tuple[float, ...]:
        """Pose (7), field of view, and 1 if it is mounted: what networks and arrays know a camera by."""
        return (*self.pose, self.fov, float(self.mounted))


@dataclass(frozen=True)
class SimulatorSpec:
    """What one task in one simulator is and can do.

    Attributes:
        task: Name of the task.
        instruction: The task in words.
        exactness: How rollouts are branched exactly.
        control_hz: Control steps per second.
        command_size: Length D of the native command.
        max_translation: The most that the tool may be told to move in one control step, metres.
        max_rotation: The most that it may be told to turn in one control step, radians.
        controls_rotation: Whether the tool's orientation can be commanded at all.
        has_gripper: Whether there is a gripper to command.
        objects: The objects, in the order of `Observation.objects`.
        cameras: Names of the cameras that can be asked for, empty where nothing can be rendered.
        asset_licence: Licence of what the images show.
    """

    task: str
    instruction: str
    exactness: Exactness
    control_hz: float
    command_size: int
    max_translation: float
    max_rotation: float
    controls_rotation: bool
    has_gripper: bool
    objects: tuple[ObjectSpec, ...]
    cameras: tuple[str, ...] = ()
    asset_licence: str = ""

    def object_index(self, name: str) -> int:
        """Row of an object in `Observation.objects`."""
        return [o.name for o in self.objects].index(name)

    def names(self, role: Role) -> tuple[str, ...]:
        """Names of the objects of one role."""
        return tuple(o.name for o in self.objects if o.role is role)


@dataclass(frozen=True)
class Observation:
    """Ground truth of one moment, in terms that any manipulation task has.

    Attributes:
        tcp_pose: Tool pose, robot base frame. [7]
        gripper_width: Opening of the gripper, metres.
        objects: Object poses in the order of the spec, robot base frame. [N, 7]
    """

    tcp_pose: Float[np.ndarray, "7"]
    gripper_width: float
    objects: Float[np.ndarray, "N 7"]


@dataclass(frozen=True)
class Evaluation:
    """The task's own judgement of one moment: whether it is done, and the terms that say so."""

    success: bool
    terms: Mapping[str, float] = field(default_factory=dict[str, float])


@runtime_checkable
class Simulator(Protocol):
    """One task in one physics engine."""

    @property
    def spec(self) -> SimulatorSpec:
        """What it is and can do; may change with `reset` only in sizes of objects."""
        ...

    def reset(self, seed: int, objects: Mapping[str, Pose] | None = None) -> None:
        """Begin an episode: from here on the same commands give the same states, bit for bit.

        Args:
            seed: Determines the initial state.
            objects: Poses that replace the seed's own, by object name, robot base frame.
        """
        ...

    def observe(self) -> Observation:
        """Ground truth now."""
        ...

    def held(self) -> tuple[str, ...]:
        """Names of the objects in the grip now, judged by contact."""
        ...

    def state(self) -> Float32[np.ndarray, "S"]:
        """The whole state now, in a layout of the simulator's own that stays the same within a task."""
        ...

    def restore(self, state: Float32[np.ndarray, "S"]) -> None:
        """Put a state back: exact only where the spec says RESTORE, else good for pictures alone."""
        ...

    def command(self, target: Pose, gripper: float) -> Float32[np.ndarray, "D"]:
        """The native command that leads the tool to a pose (robot base frame), gripper in [-1, 1].

        Continues from the command given to `step` last. A pose out of reach is approached as far as it goes.
        """
        ...

    def step(self, command: Float32[np.ndarray, "D"], disturbances: Sequence[Disturbance] = ()) -> None:
        """Advance one control step.

        Raises:
            DivergedError: If the state is no longer finite.
        """
        ...

    def evaluate(self) -> Evaluation:
        """Judge this moment."""
        ...

    def render(
        self, cameras: Sequence[Camera], size: int, state: Float32[np.ndarray, "S"] | None = None
    ) -> UInt8[np.ndarray, "V H W 3"]:
        """Pictures of this moment, square; or of another state of this episode, which goes on untouched.

        Raises:
            MissingRendererError: If nothing can render on this machine.
        """
        ...

    def camera(self, name: str) -> Camera:
        """One of the spec's cameras.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...
