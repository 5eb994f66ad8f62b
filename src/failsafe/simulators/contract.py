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

from failsafe.errors import UnknownNameError
from failsafe.records.embodiment import EmbodimentSpec
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


class JointType(str, enum.Enum):
    """How an articulated part moves."""

    PRISMATIC = "prismatic"
    """Along its axis: a drawer."""
    REVOLUTE = "revolute"
    """About its axis: a door, a knob."""


@dataclass(frozen=True)
class JointSpec:
    """The joint by which an articulated part moves.

    Attributes:
        type: Prismatic or revolute.
        low: Lower limit of the joint position, metres or radians.
        high: Upper limit of the joint position, metres or radians.
    """

    type: JointType
    low: float
    high: float


@dataclass(frozen=True)
class ObjectSpec:
    """An object of an episode: a free body, or one part of an articulated one.

    Attributes:
        name: Name, unique in the episode.
        role: What the object is to the task.
        half_extents: Half the size of the bounding box in the object's own frame, metres. [3]
        joint: The joint of an articulated part (a drawer, a door); None for a free body.
    """

    name: str
    role: Role
    half_extents: tuple[float, float, float]
    joint: JointSpec | None = None


@dataclass(frozen=True)
class GoalPredicate:
    """One condition of success in symbols, for example ("on", ("bowl", "plate")).

    Attributes:
        relation: Name of the relation, in the simulator's own vocabulary.
        arguments: Names of the objects that it relates.
    """

    relation: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class EpisodeSpec:
    """What an episode is about: everything that may differ from one seed to the next.

    Attributes:
        seed: Seed of the initial state.
        instruction: What the robot is told to do, in natural language.
        objects: The objects, in the order of `Observation.objects`.
        goals: Conditions of success, all of which must hold; empty where the simulator states none.
    """

    seed: int
    instruction: str
    objects: tuple[ObjectSpec, ...]
    goals: tuple[GoalPredicate, ...] = ()

    def object_index(self, name: str) -> int:
        """Return the row of an object in `Observation.objects`.

        Raises:
            UnknownNameError: If the episode has no object of that name.
        """
        names = [o.name for o in self.objects]
        if name not in names:
            raise UnknownNameError("object", name, names)
        return names.index(name)

    def names(self, role: Role) -> tuple[str, ...]:
        """Return the names of the objects of one role."""
        return tuple(o.name for o in self.objects if o.role is role)


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
    """What stays the same in all episodes of one task in one simulator.

    Attributes:
        task: Name of the task.
        exactness: How rollouts are branched exactly.
        embodiment: The robot and its controller.
        command_size: Length D of the native command.
        cameras: Names of the cameras; empty where nothing can be rendered.
        asset_licence: Licence of what the images show.
    """

    task: str
    exactness: Exactness
    embodiment: EmbodimentSpec
    command_size: int
    cameras: tuple[str, ...] = ()
    asset_licence: str = ""


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
        """What the simulator is and can do. Never changes."""
        ...

    @property
    def episode(self) -> EpisodeSpec:
        """The episode that the last `reset` began. A new simulator is in the episode of some seed."""
        ...

    def reset(self, seed: int, objects: Mapping[str, Pose] | None = None) -> EpisodeSpec:
        """Begin an episode: from here on the same commands give the same states, bit for bit.

        Args:
            seed: Determines the initial state and the episode's description.
            objects: Poses that replace the seed's own, by object name, robot base frame.

        Returns:
            The description of the episode, also available as `episode`.

        Raises:
            UnknownNameError: If `objects` names one that the episode does not have.
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
