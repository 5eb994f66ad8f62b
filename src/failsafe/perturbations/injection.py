"""When a perturbation acted: the injection step, whatever the mode."""

from __future__ import annotations

from collections.abc import Sequence

from failsafe.perturbations.mode import Mode
from failsafe.records.observation import PolicyObservation
from failsafe.records.trace import Disturbance
from failsafe.rollouts.hooks import Command, Hook, StepContext
from failsafe.simulators.contract import Simulator


class Injection(Hook):
    """A mode, with a note of the first step on which it acted.

    Args:
        mode: The mode.

    Attributes:
        mode: The mode.
        step: First control step on which it changed a command, a sensor reading or the world; None before.
        last_step: Last such step so far; None before.
    """

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.step: int | None = None
        self.last_step: int | None = None

    def on_reset(self, simulator: Simulator) -> None:
        """Prepare the mode."""
        self.step, self.last_step, self._now = None, None, 0
        self.mode.on_reset(simulator)

    def sense(self, observation: PolicyObservation) -> PolicyObservation:
        """Return what the mode shows."""
        shown = self.mode.sense(observation)
        self._note(shown is not observation, self._now)
        return shown

    def before_step(self, context: StepContext, command: Command) -> Command:
        """Return the command that the mode lets through. See `Hook.before_step`."""
        self._now = context.step + 1  # `sense` comes before the next step
        changed = self.mode.before_step(context, command)
        self._note(changed is not command, context.step)
        return changed

    def disturb(self, context: StepContext) -> Sequence[Disturbance]:
        """Return what the mode does to the world."""
        disturbances = self.mode.disturb(context)
        self._note(bool(disturbances), context.step)
        return disturbances

    def _note(self, acted: bool, step: int) -> None:
        if acted:
            self.step = step if self.step is None else self.step
            self.last_step = step
