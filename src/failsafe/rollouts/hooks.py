"""Hooks: see and may change what passes through the control loop.

Each control step calls the hooks in this order:

1. `before_step`: the command on its way to the robot,
2. `disturb`: what happens to the world during the step,
3. `after_step`: the result, for recorders and stopping rules.

`on_reset` is called when a rollout begins, and `sense` in every control step of a policy or a monitor.
The loop knows nothing else about perturbations, noise, recording or stopping.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float32

from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose
from failsafe.records.trace import Disturbance
from failsafe.simulators.contract import Observation, Simulator


@dataclass
class Command:
    """The command of one control step.

    Attributes:
        target: Tool pose, robot base frame. [7]
        gripper: Gripper command, -1 (closed) to +1 (open).
    """

    target: Pose
    gripper: float


class GroundTruth(ABC):
    """The simulator's state and what is observed in it."""

    @property
    @abstractmethod
    def observation(self) -> Observation:
        """Ground truth now."""

    @property
    @abstractmethod
    def state(self) -> Float32[np.ndarray, "S"]:
        """State of the simulator now, [S]."""


@dataclass(frozen=True)
class StepContext:
    """Where a rollout stands when a command is issued. Valid until the step is carried out.

    Attributes:
        step: Control step of the rollout, from 0.
        stage: Index of the stage; `NO_STAGE` where there is no plan.
        stage_step: Control step within the stage.
        stage_steps: Control steps that the stage takes.
        truth: State and observation before the step. They are read from the simulator only when asked for.
    """

    step: int
    stage: int
    stage_step: int
    stage_steps: int
    truth: GroundTruth

    @property
    def observation(self) -> Observation:
        """Ground truth before the step."""
        return self.truth.observation

    @property
    def state(self) -> Float32[np.ndarray, "S"]:
        """State of the simulator before the step, [S]."""
        return self.truth.state


@dataclass(frozen=True)
class StepResult:
    """What came of one control step.

    Attributes:
        step: Control step of the rollout, from 0.
        stage: Index of the stage.
        native: The simulator's own command. [D]
        command: The command sent to the robot, after all hooks.
        disturbances: What happened to the world.
        state: The simulator's state after the step. [S]
        observation: Ground truth after the step.
    """

    step: int
    stage: int
    native: Float32[np.ndarray, "D"]
    command: Command
    disturbances: Sequence[Disturbance]
    state: Float32[np.ndarray, "S"]
    observation: Observation


class Hook:
    """Something that acts along the control loop. Every method does nothing by default.

    Attributes:
        exceeds_limits: Whether `before_step` acts after the step limits of the robot were applied. True for
            an arm's own inaccuracy, which no limit on commands can bound.
    """

    exceeds_limits: ClassVar[bool] = False

    def on_reset(self, simulator: Simulator) -> None:
        """Prepare for a rollout.

        Args:
            simulator: In the state in which the rollout begins.
        """

    def sense(self, observation: PolicyObservation) -> PolicyObservation:
        """Return what a policy or a monitor is shown instead of `observation`."""
        return observation

    def before_step(self, context: StepContext, command: Command) -> Command:
        """Return what reaches the robot instead of `command`.

        Args:
            context: Where the rollout stands.
            command: The command as the hooks before this one left it; not to be changed in place.
        """
        return command

    def disturb(self, context: StepContext) -> Sequence[Disturbance]:
        """Return what happens to the world during this step."""
        return ()

    def after_step(self, result: StepResult) -> bool:
        """Take note of a step; True ends the rollout."""
        return False
