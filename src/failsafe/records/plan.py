"""A task as a plan: stages, each a tool pose to reach, a gripper command, and a name in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from failsafe.records.poses import Pose

OPEN = 1.0
CLOSED = -1.0


@dataclass(frozen=True)
class Stage:
    """One stage (sub-task) of a plan.

    Attributes:
        name: What the stage does, in the expert's words ("reach", "close gripper").
        target: Tool pose to reach [7], robot base frame (m, quaternion wxyz).
        gripper: Gripper command held during the stage, -1 closed to +1 open.
        hold: Control steps for which the target is held once the path to it has been commanded.
        speed: Share of the simulator's per-step limits that the path uses, in (0, 1].
    """

    name: str
    target: tuple[float, ...]
    gripper: float
    hold: int
    speed: float = 1.0

    @property
    def pose(self) -> Pose:
        """The target as an array [7]."""
        return np.array(self.target)


@dataclass(frozen=True)
class StagePlan:
    """A way to do one task from one initial state; executed open loop it does it again."""

    instruction: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class StageSpan:
    """What the nominal twin shows of one stage: the facts by which a perturbation knows where it applies.

    Attributes:
        name: Name of the stage.
        start: First control step of the stage.
        stop: One past its last control step.
        travel: Length of the commanded path of the tool, metres.
        turn: Rotation of the commanded path, radians.
        gripper_before: Gripper command before the stage.
        gripper: Gripper command in the stage.
        held: Objects in the grip when the stage begins.
        held_after: Objects in the grip when it ends.
    """

    name: str
    start: int
    stop: int
    travel: float
    turn: float
    gripper_before: float
    gripper: float
    held: tuple[str, ...]
    held_after: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Control steps that the stage takes."""
        return self.stop - self.start

    @property
    def closes(self) -> bool:
        """Whether the gripper closes in this stage."""
        return self.gripper < self.gripper_before

    @property
    def opens(self) -> bool:
        """Whether the gripper opens in this stage."""
        return self.gripper > self.gripper_before
