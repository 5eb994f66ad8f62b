"""Actuation modes: the command is right, and something else reaches the robot."""

from __future__ import annotations

import numpy as np

from failsafe.perturbations.distributions import Uniform
from failsafe.perturbations.mode import MODES, Mode, Scene
from failsafe.perturbations.triggers import RuntimeTrigger
from failsafe.records.perturbation import Level
from failsafe.records.plan import OPEN
from failsafe.rollouts.hooks import Command, StepContext
from failsafe.simulators.contract import Simulator

_LARGEST_DRIFT = 0.1
"""Metres at which a drift stops growing."""
_WHILE_MOVING = RuntimeTrigger("start", (0.25, 2.0))
"""Behind a policy: at some time while it reaches, grasps and carries."""


@MODES.register("no_op")
class NoOp(Mode):
    """Nothing arrives for a while: the robot keeps its last command, and time passes."""

    level = Level.ACTUATION
    unit = "s"
    magnitude = Uniform(0.4, 3.0)
    timed = True
    runtime_trigger = _WHILE_MOVING

    def on_reset(self, simulator: Simulator) -> None:
        """Take the initial pose for the last command."""
        super().on_reset(simulator)
        self._last = Command(self.scene.tcp_pose, OPEN)

    @classmethod
    def applies(cls, scene: Scene, stage: int) -> bool:
        """Return True: any stage can be interrupted. See `Mode.applies`."""
        return True

    def before_step(self, context: StepContext, command: Command) -> Command:
        """Return the last command that arrived. See `Hook.before_step`."""
        lasts = self.perturbation.magnitude * self.scene.spec.embodiment.control_hz
        if 0 <= self.steps_since_onset(context, command) < lasts:
            return Command(self._last.target, self._last.gripper)
        self._last = command
        return command


class _ClosingMode(Mode):
    """A mode that acts on how the gripper closes."""

    level = Level.ACTUATION
    runtime_trigger = RuntimeTrigger("closing")

    def on_reset(self, simulator: Simulator) -> None:
        """Take the gripper for open."""
        super().on_reset(simulator)
        self._before = OPEN
        """Gripper command of the step before the onset."""

    @classmethod
    def applies(cls, scene: Scene, stage: int) -> bool:
        """Return whether the gripper closes on something."""
        return scene.spans[stage].closes and bool(scene.spans[stage].held_after)

    def _since(self, context: StepContext, command: Command) -> int:
        since = self.steps_since_onset(context, command)
        if since < 0:
            self._before = command.gripper
        return since


@MODES.register("gripper_stays_open")
class GripperStaysOpen(_ClosingMode):
    """The gripper is commanded to close and closes only in part, or does not move."""

    unit = "of closing"
    magnitude = Uniform(0.0, 0.4)
    bounds = (0.0, 1.0)

    def on_reset(self, simulator: Simulator) -> None:
        """Begin anew."""
        super().on_reset(simulator)
        self._over = False

    def before_step(self, context: StepContext, command: Command) -> Command:
        """Return the part of the closing that happens, until the gripper is commanded to open again.

        See `Hook.before_step`.
        """
        if self._since(context, command) < 0 or self._over:
            return command
        if command.gripper >= self._before:
            self._over = True
            return command
        closing = self.perturbation.magnitude * (command.gripper - self._before)
        return Command(command.target, self._before + closing)


@MODES.register("early_release")
class EarlyRelease(Mode):
    """The gripper opens while it should hold."""

    level = Level.ACTUATION
    unit = "of opening"
    magnitude = Uniform(0.4, 1.0)
    bounds = (0.0, 1.0)
    timed = True
    runtime_trigger = RuntimeTrigger("raised", (0.0, 0.4))
    runtime_seconds = 0.5

    @classmethod
    def applies(cls, scene: Scene, stage: int) -> bool:
        """Return whether something is held and carried. See `Mode.applies`."""
        span = scene.spans[stage]
        return bool(span.held) and bool(span.held_after) and span.travel > 0.005

    def before_step(self, context: StepContext, command: Command) -> Command:
        """Return the command with the opening. See `Hook.before_step`."""
        if self.steps_since_onset(context, command) < 0:
            return command
        opening = command.gripper + self.perturbation.magnitude * (OPEN - command.gripper)
        return Command(command.target, opening)


@MODES.register("late_close")
class LateClose(_ClosingMode):
    """The gripper closes some time after it should, when the arm already moves on."""

    unit = "s"
    magnitude = Uniform(0.2, 1.0)

    def before_step(self, context: StepContext, command: Command) -> Command:
        """Return the earlier gripper command for the length of the delay. See `Hook.before_step`."""
        lasts = self.perturbation.magnitude * self.scene.spec.embodiment.control_hz
        if 0 <= self._since(context, command) < lasts:
            return Command(command.target, self._before)
        return command


@MODES.register("drift")
class Drift(Mode):
    """A bias in a horizontal direction that grows with time."""

    level = Level.ACTUATION
    unit = "m/s"
    magnitude = Uniform(0.02, 0.1)
    timed = True
    directed = True
    runtime_trigger = _WHILE_MOVING
    runtime_seconds = 1.5

    @classmethod
    def applies(cls, scene: Scene, stage: int) -> bool:
        """Return whether the tool travels. See `Mode.applies`."""
        return scene.spans[stage].travel > 0.005

    def before_step(self, context: StepContext, command: Command) -> Command:
        """Return the command with the bias so far. See `Hook.before_step`."""
        steps = self.steps_since_onset(context, command)
        if steps < 0:
            return command
        bias = self.perturbation.magnitude / self.scene.spec.embodiment.control_hz * (steps + 1)
        target = command.target.copy()
        target[:3] += np.minimum(bias, _LARGEST_DRIFT) * self.azimuth
        return Command(target, command.gripper)
