"""The contract of a policy: it maps observations to action chunks in a space that it declares.

A policy declares its own action space as an `ActionSpace`. FailSafe's own actions are rows
`[dx, dy, dz, rx, ry, rz, gripper]`: metres and a rotation vector in the robot's base frame, the gripper from
-1 (closed) to +1 (open). `ActionSpace.to_pose` and `ActionSpace.from_pose` convert between the two.
"""

from __future__ import annotations

import enum
import inspect
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from failsafe.errors import PolicyError
from failsafe.records import poses
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose

ACTION_SIZE = 7
MAX_CHUNK = 64
"""Largest number of rows of a chunk; a longer one is an error."""


class Frame(str, enum.Enum):
    """Frame of the deltas of an action."""

    BASE = "robot_base"
    TOOL = "tcp"


class RotationFormat(str, enum.Enum):
    """Meaning of the three numbers of a rotation."""

    VECTOR = "rotation_vector"
    EULER = "euler_xyz"
    """Roll, pitch, yaw about the fixed axes, as in OpenVLA's data."""
    EULER_INTRINSIC = "euler_xyz_intrinsic"
    """Angles about axes that turn along, first x, then y, then z, as in ManiSkill's controllers."""


_AXES = {RotationFormat.EULER: "xyz", RotationFormat.EULER_INTRINSIC: "XYZ"}
"""Sequences of axes for SciPy, which writes intrinsic rotations in capitals."""


class Anchor(str, enum.Enum):
    """What a delta is added to."""

    TARGET = "target"
    """The last commanded pose, so that tracking errors do not add up."""
    MEASURED = "measured"
    """The pose measured before the action."""


@dataclass(frozen=True)
class ActionSpace:
    """Meaning of the numbers of a policy's actions.

    Attributes:
        frame: Frame of the deltas.
        rotation: Meaning of the three numbers of a rotation.
        anchor: What a delta is added to.
        translation_scale: Metres per unit.
        rotation_scale: Radians per unit; negative where a positive number turns the other way, as in
            ManiSkill's controllers.
        gripper_open: Value that opens the gripper.
        gripper_closed: Value that closes the gripper.
        rate_hz: Actions per second.
        chunk: Rows H of a chunk. All of them are executed before the next query.
        limit: Largest absolute value of the first six numbers. Larger ones of a policy are clipped, as the
            robot's own controller does; a pose farther away gives an action towards it within the limit.

    Raises:
        PolicyError: If the values are invalid.
    """

    frame: Frame = Frame.BASE
    rotation: RotationFormat = RotationFormat.VECTOR
    anchor: Anchor = Anchor.TARGET
    translation_scale: float = 1.0
    rotation_scale: float = 1.0
    gripper_open: float = 1.0
    gripper_closed: float = -1.0
    rate_hz: float = 20.0
    chunk: int = 1
    limit: float = math.inf

    def __post_init__(self) -> None:
        """Check the values."""
        scales = (self.translation_scale, abs(self.rotation_scale), self.rate_hz)
        if not all(np.isfinite(scale) and scale > 0 for scale in scales):
            raise PolicyError(
                "expected a translation scale and a rate above 0, and a rotation scale other than 0, in an "
                f"action space, got {self.translation_scale}, {self.rate_hz} and {self.rotation_scale}"
            )
        if self.gripper_open == self.gripper_closed:
            raise PolicyError(f"expected two numbers for the gripper, got {self.gripper_open} for both")
        if not 1 <= self.chunk <= MAX_CHUNK:
            raise PolicyError(f"expected chunks of 1 to {MAX_CHUNK} actions, got {self.chunk}")
        if not self.limit > 0:
            raise PolicyError(f"expected a limit above 0 of the numbers of an action, got {self.limit}")

    def to_pose(self, row: Float[np.ndarray, "7"], target: Pose, measured: Pose) -> tuple[Pose, float]:
        """Convert an action to a target tool pose (base frame) and a gripper command from -1 to +1.

        Args:
            row: The action.
            target: The last commanded tool pose.
            measured: The measured tool pose.
        """
        anchor = target if self.anchor is Anchor.TARGET else measured
        numbers = np.clip(row[:6], -self.limit, self.limit)
        step = numbers[:3] * self.translation_scale
        turn = self._turn(numbers[3:] * self.rotation_scale)
        if self.frame is Frame.TOOL:
            step, turn = poses.rotate(anchor[3:], step), poses.rotate(anchor[3:], turn)
        share = (row[6] - self.gripper_closed) / (self.gripper_open - self.gripper_closed)
        return poses.apply_delta(anchor, [*step.tolist(), *turn.tolist()]), float(
            np.clip(2 * share - 1, -1, 1)
        )

    def from_pose(self, pose: Pose, gripper: float, target: Pose, measured: Pose) -> Float[np.ndarray, "7"]:
        """Convert a target tool pose to an action; the inverse of `to_pose` within the limit.

        Args:
            pose: The target tool pose, base frame.
            gripper: Gripper command from -1 (closed) to +1 (open).
            target: The last commanded tool pose.
            measured: The measured tool pose.
        """
        anchor = target if self.anchor is Anchor.TARGET else measured
        delta = poses.delta_between(anchor, pose)
        step, turn = delta[:3], delta[3:]
        if self.frame is Frame.TOOL:
            back = poses.quaternion_inverse(anchor[3:])
            step, turn = poses.rotate(back, step), poses.rotate(back, turn)
        if self.rotation is not RotationFormat.VECTOR:
            turn = Rotation.from_rotvec(turn).as_euler(_AXES[self.rotation])
        fingers = self.gripper_closed + (gripper + 1) / 2 * (self.gripper_open - self.gripper_closed)
        step, turn = (self._limited(step / self.translation_scale), self._limited(turn / self.rotation_scale))
        return np.array([*step, *turn, fingers])

    def _limited(self, numbers: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
        """Shorten a vector until each of its numbers is within the limit."""
        largest = float(np.abs(numbers).max())
        return numbers * (self.limit / largest) if largest > self.limit else numbers

    def _turn(self, numbers: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
        if self.rotation is RotationFormat.VECTOR:
            return numbers
        return Rotation.from_euler(_AXES[self.rotation], numbers).as_rotvec()


MANISKILL_EE_DELTA_POSE = ActionSpace(
    rotation=RotationFormat.EULER_INTRINSIC,
    anchor=Anchor.MEASURED,
    translation_scale=0.1,
    rotation_scale=-0.1,
)
"""Actions of the Panda under ManiSkill's control mode `pd_ee_delta_pose`, each number from -1 to 1. The mode
multiplies the rotation by its lower limit, which is negative. For `pd_ee_target_delta_pose` the anchor is the
target."""


@runtime_checkable
class Policy(Protocol):
    """A policy: a reference policy, a served VLA, or a policy guarded by a monitor."""

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    @property
    def action_space(self) -> ActionSpace:
        """Meaning of its actions."""
        ...

    @property
    def views(self) -> Mapping[str, int]:
        """Height and width (pixels) of the images that it takes, by camera."""
        ...

    def reset(self, instruction: str) -> None:
        """Begin an episode.

        A policy that samples takes the seed as well, `reset(self, instruction, seed)`, and draws from a
        generator of that seed: then the policy alone and the policy with a monitor are paired in its noise,
        too. `reset_policy` passes the seed to a method that has a parameter of that name.

        Args:
            instruction: What the robot is to do.

        Raises:
            PolicyError: If it does not accept the instruction.
        """
        ...

    def act(self, observation: PolicyObservation) -> Float[np.ndarray, "H 7"]:
        """Return the next chunk of actions, in its own action space.

        Raises:
            PolicyError: If there is no valid chunk.
        """
        ...

    def drop_queue(self) -> None:
        """Drop planned actions, because something else has moved the robot."""
        ...


def reset_policy(policy: Policy, instruction: str, seed: int | None = None) -> None:
    """Begin an episode of a policy, and pass the seed if its `reset` has a parameter `seed`.

    Args:
        policy: The policy.
        instruction: What the robot is to do.
        seed: Seed of the episode; None where there is none, on a robot for example.

    Raises:
        PolicyError: If the policy does not accept the instruction.
    """
    if takes_seed(policy):
        cast(Any, policy).reset(instruction, seed=seed)
    else:
        policy.reset(instruction)


def takes_seed(policy: Policy) -> bool:
    """Return whether a policy's `reset` has a parameter `seed`.

    Raises:
        PolicyError: If it can be called neither with an instruction nor with an instruction and a seed.
    """
    parameters = "that cannot be called"
    try:
        signature = inspect.signature(policy.reset)
        parameters = str(signature)
        seeded = "seed" in signature.parameters
        signature.bind("", **({"seed": 0} if seeded else {}))
    except ValueError:  # a method of a compiled class, which states none
        return False
    except TypeError:
        raise PolicyError(
            f"{policy.name}: expected a method reset(instruction) or reset(instruction, seed), got a reset "
            f"{parameters}"
        ) from None
    return seeded


def check_fit(policy: Policy, control_hz: float, views: tuple[str, ...]) -> None:
    """Check before the first step that a policy fits a robot.

    Args:
        policy: The policy.
        control_hz: Control rate of the robot, Hz.
        views: Names of the available cameras.

    Raises:
        PolicyError: If the rates differ, a view is missing, `views` is no dictionary of sizes, or `reset` has
            other parameters.
    """
    takes_seed(policy)
    sizes = cast(Any, policy.views)  # a user's class states what it likes
    if not isinstance(sizes, Mapping) or not all(isinstance(one, int | np.integer) for one in sizes.values()):
        raise PolicyError(
            f"expected the views of {policy.name} as a dictionary from the name of a camera to the size "
            f'of its images in pixels, such as {{"front": 224}}, got {sizes!r:.80}'
        )
    space = policy.action_space
    if abs(space.rate_hz - control_hz) > 1e-6:
        raise PolicyError(
            f"{policy.name} gives {space.rate_hz:g} actions per second, but the robot takes {control_hz:g}: "
            "state the robot's rate in the policy's action space, or run the robot at the policy's rate"
        )
    missing = [view for view in policy.views if view not in views]
    if missing:
        raise PolicyError(
            f"expected a camera for each view of {policy.name}, got none for {', '.join(missing)}; "
            f"there are the views {', '.join(views)}"
        )


def needs_full_quality(policy: Policy) -> bool:
    """Return whether a policy, or the one that it acts around, is shown images of the suite's own quality.

    Only a served policy with a preset has such an attribute: the images of its training data had it.
    """
    return bool(getattr(policy, "full_quality", False))


def check_readings(policy: Policy, readings: Collection[str]) -> None:
    """Check before the first step that a simulator states the readings that a served policy is sent.

    Args:
        policy: The policy. Only one with an attribute `readings` needs any.
        readings: Names of the readings in the simulator's observations.

    Raises:
        PolicyError: If one is missing.
    """
    missing = [name for name in getattr(policy, "readings", ()) if name not in readings]
    if missing:
        raise PolicyError(
            f"expected the readings {', '.join(missing)} for {policy.name}, got "
            f"{', '.join(readings) or 'none'} from this task's simulator: choose a task of the preset's "
            "suite, or leave the preset out"
        )


def check_chunk(name: str, chunk: object, rows: int) -> Float[np.ndarray, "H 7"]:
    """Check that a value is a chunk of actions, and convert it to an array.

    Args:
        name: Name of the policy, for messages.
        chunk: An array, a tensor of any device and type (with or without gradients), or lists of these or of
            numbers.
        rows: Largest number of rows.

    Raises:
        PolicyError: If it has another shape, or numbers that are not finite.
    """
    try:
        array = _to_array(chunk)
    except Exception as error:  # a conversion runs code of the value's own class
        raise PolicyError(
            f"{name}: expected a chunk of actions, got {type(chunk).__name__}, which cannot be read as "
            f"numbers ({type(error).__name__}: {str(error)[:200]})"
        ) from error
    if array.ndim != 2 or array.shape[1] != ACTION_SIZE or not 1 <= len(array) <= rows:
        raise PolicyError(f"{name}: expected 1 to {rows} actions of {ACTION_SIZE} numbers, got {array.shape}")
    if not (np.abs(array) <= poses.LARGEST).all():
        raise PolicyError(
            f"{name}: expected finite actions, got NaN or infinity, or a number above {poses.LARGEST:.0f}"
        )
    return array


def _to_array(value: object) -> Float[np.ndarray, "..."]:
    """Convert nested lists, arrays and tensors to float64.

    Raises:
        Exception: If a part of it is no number; of any class, because tensors convert themselves.
    """
    if isinstance(value, (list, tuple)):
        return np.array([_to_array(part) for part in cast(Sequence[object], value)], dtype=np.float64)
    if callable(getattr(value, "detach", None)):
        # A tensor of PyTorch, which is not imported here. NumPy has no bfloat16, and reads neither a tensor
        # with gradients nor one of a GPU.
        value = cast(Any, value).detach().cpu().double().numpy()
    array = np.asarray(value)
    if array.dtype.kind in "OSUMmcT":  # NumPy reads None as NaN, text as numbers, and drops imaginary parts
        raise TypeError(f"expected real numbers, got {array.dtype}")
    return array.astype(np.float64)
