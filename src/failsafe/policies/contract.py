"""The contract of a policy: observations go in, chunks of actions come out, in a space that it declares.

Two spaces meet here. A policy's own is whatever it was trained on, and says so in an `ActionSpace`. Ours is a
row `[dx, dy, dz, rx, ry, rz, gripper]`: metres and a rotation vector in the robot's base frame, the gripper
from -1 (closed) to +1 (open). `ActionSpace.to_pose` and `ActionSpace.from_pose` lead from one to the other.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from failsafe.errors import PolicyError
from failsafe.records import poses
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose

ACTION_SIZE = 7
MAX_CHUNK = 64
"""The most rows of a chunk that are taken: more is an answer gone wrong."""


class Frame(str, enum.Enum):
    """Frame that the deltas of an action are given in."""

    BASE = "robot_base"
    TOOL = "tcp"


class RotationFormat(str, enum.Enum):
    """How the three numbers of a rotation are meant."""

    VECTOR = "rotation_vector"
    EULER = "euler_xyz"
    """Roll, pitch, yaw about the fixed axes, as OpenVLA and LIBERO have it."""


class Anchor(str, enum.Enum):
    """What a delta is added to."""

    TARGET = "target"
    """The pose asked for last: nothing is lost where the arm lags behind."""
    MEASURED = "measured"
    """The pose measured before the action."""


@dataclass(frozen=True)
class ActionSpace:
    """What the numbers of a policy's actions mean.

    Attributes:
        frame: Frame of the deltas.
        rotation: How the three numbers of a rotation are meant.
        anchor: What a delta is added to.
        translation_scale: Metres that a 1 stands for.
        rotation_scale: Radians that a 1 stands for.
        gripper_open: Number that opens the gripper.
        gripper_closed: Number that closes it.
        rate_hz: Actions per second.
        chunk: Rows H of an answer; all of them are executed before the next is asked for.
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

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        scales = (self.translation_scale, self.rotation_scale, self.rate_hz)
        if not all(np.isfinite(scale) and scale > 0 for scale in scales):
            raise PolicyError(f"expected scales and a rate above 0 in an action space, got {scales}")
        if self.gripper_open == self.gripper_closed:
            raise PolicyError(f"expected two numbers for the gripper, got {self.gripper_open} for both")
        if not 1 <= self.chunk <= MAX_CHUNK:
            raise PolicyError(f"expected chunks of 1 to {MAX_CHUNK} actions, got {self.chunk}")

    def to_pose(self, row: Float[np.ndarray, "7"], target: Pose, measured: Pose) -> tuple[Pose, float]:
        """The tool pose (base frame) that an action asks for, and the gripper from -1 to +1.

        Args:
            row: The action.
            target: Tool pose asked for last.
            measured: Tool pose now.
        """
        anchor = target if self.anchor is Anchor.TARGET else measured
        step = row[:3] * self.translation_scale
        turn = self._turn(row[3:6] * self.rotation_scale)
        if self.frame is Frame.TOOL:
            step, turn = poses.rotate(anchor[3:], step), poses.rotate(anchor[3:], turn)
        share = (row[6] - self.gripper_closed) / (self.gripper_open - self.gripper_closed)
        return poses.apply_delta(anchor, [*step.tolist(), *turn.tolist()]), float(
            np.clip(2 * share - 1, -1, 1)
        )

    def from_pose(self, pose: Pose, gripper: float, target: Pose, measured: Pose) -> Float[np.ndarray, "7"]:
        """The action that asks for a tool pose; the inverse of `to_pose`."""
        anchor = target if self.anchor is Anchor.TARGET else measured
        delta = poses.delta_between(anchor, pose)
        step, turn = delta[:3], delta[3:]
        if self.frame is Frame.TOOL:
            back = poses.quaternion_inverse(anchor[3:])
            step, turn = poses.rotate(back, step), poses.rotate(back, turn)
        if self.rotation is RotationFormat.EULER:
            turn = Rotation.from_rotvec(turn).as_euler("xyz")
        fingers = self.gripper_closed + (gripper + 1) / 2 * (self.gripper_open - self.gripper_closed)
        return np.array([*(step / self.translation_scale), *(turn / self.rotation_scale), fingers])

    def _turn(self, numbers: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
        if self.rotation is RotationFormat.VECTOR:
            return numbers
        return Rotation.from_euler("xyz", numbers).as_rotvec()


@runtime_checkable
class Policy(Protocol):
    """Anything that acts: a reference policy, a served VLA, a policy with a monitor around it."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        ...

    @property
    def action_space(self) -> ActionSpace:
        """What its actions mean."""
        ...

    @property
    def views(self) -> Mapping[str, int]:
        """The cameras that it looks through, and the size of their pictures in pixels."""
        ...

    def reset(self, instruction: str) -> None:
        """Begin an episode.

        Raises:
            PolicyError: If it cannot do what it is told.
        """
        ...

    def act(self, observation: PolicyObservation) -> Float[np.ndarray, "H 7"]:
        """The next chunk of actions, in its own action space.

        Raises:
            PolicyError: If there is no answer, or none that can be used.
        """
        ...

    def drop_queue(self) -> None:
        """Forget actions thought out before: the robot is no longer where they would have led it."""
        ...


def check_fit(policy: Policy, control_hz: float, views: tuple[str, ...]) -> None:
    """Make sure, before the first step, that a policy and what it is to run on fit together.

    Raises:
        PolicyError: If the rates differ, or a view is missing.
    """
    space = policy.action_space
    if abs(space.rate_hz - control_hz) > 1e-6:
        raise PolicyError(
            f"{policy.name} gives {space.rate_hz:g} actions per second, but the robot takes {control_hz:g}: "
            "state the policy's action space with the robot's rate, or run the robot at the policy's"
        )
    missing = [view for view in policy.views if view not in views]
    if missing:
        raise PolicyError(
            f"{policy.name} looks through {', '.join(missing)}; there are the views {', '.join(views)}"
        )


def check_chunk(name: str, chunk: object, rows: int) -> Float[np.ndarray, "H 7"]:
    """Make sure that an answer is a chunk of actions.

    Raises:
        PolicyError: If it has another shape, or numbers that are none.
    """
    try:
        array = np.asarray(chunk, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PolicyError(f"{name}: expected a chunk of actions, got {type(chunk).__name__}") from error
    if array.ndim != 2 or array.shape[1] != ACTION_SIZE or not 1 <= len(array) <= rows:
        raise PolicyError(f"{name}: expected 1 to {rows} actions of {ACTION_SIZE} numbers, got {array.shape}")
    if not (np.abs(array) <= poses.LARGEST).all():
        raise PolicyError(
            f"{name}: expected finite actions, got NaN or infinity, or a number above {poses.LARGEST:.0f}"
        )
    return array
