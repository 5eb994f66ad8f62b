"""Causes on the way from the plan to the robot: the command is right, and something else arrives."""

from __future__ import annotations

import numpy as np

from failsafe.perturbations.distributions import Uniform
from failsafe.perturbations.mode import MODES, Mode, Scene
from failsafe.records.perturbation import Level, Perturbation
from failsafe.records.plan import OPEN
from failsafe.rollouts.hooks import Command, StepContext

_MOST_DRIFT = 0.1
"""Metres at which a drift stops growing."""


@MODES.register("no_op")
class NoOp(Mode):
    """Nothing arrives for a while: the robot keeps its last command, and time goes on."""

    level = Level.ACTUATION
    unit = "steps"
    magnitude = Uniform(8.0, 60.0)
    timed = True

    def __init__(self, perturbation: Perturbation, scene: Scene) -> None:
        super().__init__(perturbation, scene)
        self._last = Command(scene.tcp_pose, OPEN)

    @classmethod
    def applies(cls, scene: Scene, stage: int) -> bool:
        """Any stage."""
        return True

    def before_step(self, context: StepContext, command: Command) -> Command:
        """The last command that arrived."""
        if 0 <= self.steps_since(context) < self.perturbation.magnitude:
            return Command(self._last.target, self._last.gripper)
        self._last = command
        return command


@MODES.register("gripper_stays_open")
class GripperStaysOpen(Mode):
    """The gripper is told to close and goes only part of the way, or none of it."""

    level = Level.ACTUATION
    unit = "of closing"
    magnitude = Uniform(0.0, 0.4)
    bounds = (0.0, 1.0)
    _before: float | None = None

    @classmethod
    def applies(cls, scene: Scene, stage: int) -> bool:
        """Where the gripper closes on something."""
        return scene.spans[stage].closes and bool(scene.spans[stage].held_after)

    def before_step(self, context: StepContext, command: Command) -> Command:
        """The part of the closing that happens, until the gripper is told to open again."""
        before = self.scene.spans[self.perturbation.stage].gripper_before
        if context.stage < self.perturbation.stage or command.gripper >= before:
            return command
        return Command(command.target, before + self.perturbation.magnitude * (command.gripper - before))


@MODES.register("early_release")
class EarlyRelease(Mode):
    """The gripper opens while it should hold."""

    level = Level.ACTUATION
    unit = "of opening"
    magnitude = Uniform(0.4, 1.0)
    bounds = (0.0, 1.0)
    timed = True

    @classmethod
    def applies(cls, scene: Scene, stage: int) -> bool:
        """Where something is held and carried."""
        span = scene.spans[stage]
        return bool(span.held) and bool(span.held_after) and span.travel > 0.005

    def before_step(self, context: StepContext, command: Command) -> Command:
        """The opening, from the moment on."""
        if self.steps_since(context) < 0:
            return command
        opening = command.gripper + self.perturbation.magnitude * (OPEN - command.gripper)
        return Command(command.target, opening)


@MODES.register("late_close")
class LateClose(Mode):
    """The gripper closes some steps after it should, when the arm is already on its way."""

    level = Level.ACTUATION
    unit = "steps"
    magnitude = Uniform(4.0, 20.0)

    @classmethod
    def applies(cls, scene: Scene, stage: int) -> bool:
        """Where the gripper closes on something."""
        return scene.spans[stage].closes and bool(scene.spans[stage].held_after)

    def before_step(self, context: StepContext, command: Command) -> Command:
        """The earlier gripper command, for the length of the delay."""
        if 0 <= self.steps_since(context) < self.perturbation.magnitude:
            return Command(command.target, self.scene.spans[self.perturbation.stage].gripper_before)
        return command


@MODES.register("drift")
class Drift(Mode):
    """A bias that grows with every step, in a horizontal direction."""

    level = Level.ACTUATION
    unit = "m/step"
    magnitude = Uniform(0.001, 0.005)
    timed = True
    directed = True

    @classmethod
    def applies(cls, scene: Scene, stage: int) -> bool:
        """Where the tool travels."""
        return scene.spans[stage].travel > 0.005

    def before_step(self, context: StepContext, command: Command) -> Command:
        """The command with the bias so far."""
        steps = self.steps_since(context)
        if steps < 0:
            return command
        target = command.target.copy()
        target[:3] += np.minimum(self.perturbation.magnitude * (steps + 1), _MOST_DRIFT) * self.azimuth
        return Command(target, command.gripper)
