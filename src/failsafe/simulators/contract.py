"""The contract of a simulator: one task in one physics engine, with declared capabilities.

Poses are in the robot base frame, in metres, with quaternions wxyz. One call of `step` is one control step.
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
    """The way to branch a rollout exactly. Proofs of corrections depend on it."""

    RESTORE = "restore"
    """After `restore(state)` the same commands give the same states, bit for bit."""
    REPLAY = "replay"
    """Only a replay from `reset` gives the same states, bit for bit."""


class Role(str, enum.Enum):
    """The role of an object in the task."""

    MOVABLE = "movable"
    GOAL = "goal"
    """A marker without a body, such as a target region."""
    FIXED = "fixed"


class JointType(str, enum.Enum):
    """How an articulated part moves."""

    PRISMATIC = "prismatic"
    """The part slides along an axis, as a drawer does."""
    REVOLUTE = "revolute"
    """The part turns about an axis, as a door or a knob does."""
    PLANAR = "planar"
    """The part slides in a plane, as a plate on a table that cannot be lifted."""


@dataclass(frozen=True)
class JointSpec:
    """The joint by which an articulated part moves.

    Attributes:
        type: Prismatic, revolute or planar.
        low: Lower limit of the joint position, metres or radians; of a planar joint in both directions.
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
        role: Role in the task.
        half_extents: Half the size of the bounding box in the object's own frame, metres. [3]
        joint: The joint of an articulated part (a drawer, a door); None for a free body.
    """

    name: str
    role: Role
    half_extents: tuple[float, float, float]
    joint: JointSpec | None = None


@dataclass(frozen=True)
class GoalPredicate:
    """One symbolic condition of success, for example ("on", ("bowl", "plate")).

    Attributes:
        relation: Name of the relation, as the simulator calls it.
        arguments: Names of the related objects.
    """

    relation: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class EpisodeSpec:
    """The description of an episode: everything that may differ between seeds.

    Attributes:
        seed: Seed of the initial state.
        instruction: What the robot is told to do, in natural language.
        objects: The objects, in the order of `Observation.objects`.
        goals: Conditions of success, all of which must hold; empty if the simulator states none.
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

    @property
    def loose_objects(self) -> tuple[str, ...]:
        """Names of the movable objects without a joint: they can fall, slip and tip over."""
        return tuple(o.name for o in self.objects if o.role is Role.MOVABLE and o.joint is None)


@dataclass(frozen=True)
class Camera:
    """A camera.

    Attributes:
        name: Name of the view.
        pose: Pose in the robot base frame, or in the tool frame if `mounted`. The optical axis is +x, the
            image's upward direction is +z. [7]
        fov: Vertical field of view, radians.
        mounted: Whether the camera moves with the tool.
    """

    name: str
    pose: tuple[float, ...]
    fov: float = 1.0
    mounted: bool = False

    @property
    def numbers(self) -> tuple[float, ...]:
        """Pose (7), field of view, and 1 if mounted: the camera as a vector [9]."""
        return (*self.pose, self.fov, float(self.mounted))


@dataclass(frozen=True)
class SimulatorSpec:
    """The description of a simulator: everything that is the same in all episodes of its task.

    Attributes:
        task: Name of the task.
        exactness: The way to branch a rollout exactly.
        embodiment: The robot and its controller.
        command_size: Length D of the native command.
        cameras: Names of the cameras; empty where nothing can be rendered.
        asset_licence: Licence of what the images show.
        placement_center: Middle of the region in which the task places objects, robot base frame, metres.
        checked: Whether the adapter's tests cover this task. If False, one rollout is compared with the
            simulator's own step before data is written (`compare_with_own_step`), and every branch replays
            its prefix, because the task may keep values outside the state (a counter, a latch).
    """

    task: str
    exactness: Exactness
    embodiment: EmbodimentSpec
    command_size: int
    cameras: tuple[str, ...] = ()
    asset_licence: str = ""
    placement_center: tuple[float, float] = (0.0, 0.0)
    checked: bool = True


@dataclass(frozen=True)
class StepComparison:
    """One rollout in the adapter, compared with the simulator's own step under the same commands.

    Attributes:
        steps: Number of control steps that were compared.
        difference: What differs, from which step on, and by how much; empty if nothing does.
    """

    steps: int
    difference: str = ""


@dataclass(frozen=True)
class Observation:
    """Ground truth of the current state.

    Attributes:
        tcp_pose: Tool pose, robot base frame. [7]
        gripper_width: Measured gripper opening, metres.
        objects: Object poses in the order of `EpisodeSpec.objects`, robot base frame. [N, 7]
        readings: What the suite's own observations say about the robot, by the suite's names and in its
            conventions: for policies whose training data have them. Each [n]
    """

    tcp_pose: Float[np.ndarray, "7"]
    gripper_width: float
    objects: Float[np.ndarray, "N 7"]
    readings: Mapping[str, Float[np.ndarray, "n"]] = field(default_factory=dict[str, np.ndarray])


@dataclass(frozen=True)
class Evaluation:
    """The task's own success criterion, applied to the current state.

    Attributes:
        success: Whether the task is solved.
        terms: Values from which the criterion is computed, by name.
    """

    success: bool
    terms: Mapping[str, float] = field(default_factory=dict[str, float])


def resolve_cameras(simulator: Simulator, cameras: Sequence[str | Camera]) -> list[Camera]:
    """Return cameras, each of which may be given by its name in the simulator's spec.

    Args:
        simulator: The simulator.
        cameras: Names and cameras.

    Raises:
        UnknownNameError: If the spec has no camera of a name.
    """
    return [simulator.camera(camera) if isinstance(camera, str) else camera for camera in cameras]


@runtime_checkable
class Simulator(Protocol):
    """One task in one physics engine."""

    @property
    def spec(self) -> SimulatorSpec:
        """The description of the simulator. Never changes."""
        ...

    @property
    def episode(self) -> EpisodeSpec:
        """The current episode, as the last `reset` returned it. A new simulator is in an episode, too."""
        ...

    def reset(self, seed: int, objects: Mapping[str, Pose] | None = None) -> EpisodeSpec:
        """Begin an episode. After equal resets, equal commands give equal states, bit for bit.

        Args:
            seed: Determines the initial state and the episode's description.
            objects: Poses that replace those of the seed, by object name, robot base frame.

        Returns:
            The description of the episode, also available as `episode`.

        Raises:
            UnknownNameError: If `objects` names one that the episode does not have.
        """
        ...

    def observe(self) -> Observation:
        """Return the ground truth of the current state."""
        ...

    def held(self) -> tuple[str, ...]:
        """Return the names of the held objects, determined by contact."""
        ...

    def state(self) -> Float32[np.ndarray, "S"]:
        """Return a copy of the complete state, in a layout that is the same in all episodes."""
        ...

    def restore(self, state: Float32[np.ndarray, "S"]) -> None:
        """Set the state. Exact if the spec declares RESTORE; otherwise good for images and screening only."""
        ...

    def command(self, target: Pose, gripper: float) -> Float32[np.ndarray, "D"]:
        """Return the native command that moves the tool to a pose.

        The command continues from the last one given to `step`. For a pose out of reach, it moves the tool as
        close as possible.

        Args:
            target: Tool pose, robot base frame. [7]
            gripper: Gripper command, -1 closed to +1 open.
        """
        ...

    def step(self, command: Float32[np.ndarray, "D"], disturbances: Sequence[Disturbance] = ()) -> None:
        """Advance one control step.

        Args:
            command: Native command from `command`. [D]
            disturbances: External influences during this step.

        Raises:
            DivergedError: If the state is no longer finite.
            UnknownNameError: If a disturbance names an object that the episode does not have.
        """
        ...

    def evaluate(self) -> Evaluation:
        """Apply the task's success criterion to the current state."""
        ...

    def render(
        self, cameras: Sequence[str | Camera], size: int, state: Float32[np.ndarray, "S"] | None = None
    ) -> UInt8[np.ndarray, "V H W 3"]:
        """Render square RGB images of the current state, or of another state of the episode.

        The current state does not change.

        Args:
            cameras: The V cameras, each by its name in the spec or as a `Camera`.
            size: Height and width, pixels.
            state: State to render; None: the current state. [S]

        Raises:
            MissingRendererError: If this machine has no renderer.
            UnknownNameError: If the spec has no camera of a name.
        """
        ...

    def camera(self, name: str) -> Camera:
        """Return a camera of the spec.

        Raises:
            UnknownNameError: If the spec has no camera of that name.
        """
        ...

    def close(self) -> None:
        """Release all resources. May be called twice."""
        ...


@runtime_checkable
class RendersFully(Protocol):
    """A simulator that leaves out what takes long to render, unless it is asked for all of it."""

    def render_fully(self, full: bool) -> None:
        """Choose the quality of the images from now on.

        Args:
            full: Whether images have the shadows, reflections and antialiasing of the suite's own ones;
                False: the quality that the simulator was made with.
        """
        ...


@runtime_checkable
class ComparesOwnStep(Protocol):
    """A simulator that can compare its steps with those of the library that it drives.

    Needed of an adapter that meets tasks on the user's machine: those whose spec says `checked=False`.
    """

    def compare_with_own_step(self, seed: int, commands: Float32[np.ndarray, "T D"]) -> StepComparison | None:
        """Compare one rollout with the step function of the library.

        Args:
            seed: Seed of the initial state.
            commands: Native commands of the rollout. [T, D]

        Returns:
            What was compared; None if the library has no other step function.
        """
        ...
