"""A plan: stages, each with a tool pose to reach, a gripper command and a name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from failsafe.errors import RecordError
from failsafe.records.names import check_steps
from failsafe.records.poses import Pose

OPEN = 1.0
CLOSED = -1.0


@dataclass(frozen=True)
class Stage:
    """One stage of a plan.

    Attributes:
        name: What the stage does, as the expert names it ("reach", "close gripper").
        target: Tool pose to reach [7], robot base frame (m, quaternion wxyz).
        gripper: Gripper command held during the stage, -1 closed to +1 open.
        hold: Control steps for which the target is held after the path to it.
        speed: Share of the embodiment's step limits that the path uses, in (0, 1].
        from_commanded: Whether the path starts from the pose commanded last, as in the rollout of a
            closed-loop policy, whose tool may lag behind. By default it starts from the measured pose.
    """

    name: str
    target: tuple[float, ...]
    gripper: float
    hold: int
    speed: float = 1.0
    from_commanded: bool = False

    def __post_init__(self) -> None:
        """Refuse a target that is no pose, and a stage that never ends.

        Raises:
            RecordError: On such a target or number of steps.
        """
        check_steps(self.hold)
        if len(self.target) != 7:
            raise RecordError(f"expected the pose of a stage as 7 numbers, got {len(self.target)}")

    @property
    def pose(self) -> Pose:
        """The target as an array [7]."""
        return np.array(self.target)


@dataclass(frozen=True)
class StagePlan:
    """The stages that solve one task from one initial state when executed open loop.

    Attributes:
        instruction: What the robot is told to do, in natural language.
        stages: The stages, in order.
    """

    instruction: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class StageSpan:
    """Measured facts about one stage of the nominal rollout, which decide where perturbations apply.

    Attributes:
        name: Name of the stage.
        start: First control step of the stage.
        stop: One past the last control step.
        travel: Length of the commanded path of the tool, metres.
        turn: Rotation of the commanded path, radians.
        gripper_before: Gripper command before the stage.
        gripper: Gripper command in the stage.
        held: Objects held when the stage begins.
        held_after: Objects held when the stage ends.
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

    def __post_init__(self) -> None:
        """Refuse steps that no episode has.

        Raises:
            RecordError: On such a step.
        """
        check_steps(self.start, self.stop)

    @property
    def steps(self) -> int:
        """Number of control steps of the stage."""
        return self.stop - self.start

    @property
    def closes(self) -> bool:
        """Whether the gripper closes in this stage."""
        return self.gripper < self.gripper_before

    @property
    def opens(self) -> bool:
        """Whether the gripper opens in this stage."""
        return self.gripper > self.gripper_before
