"""Triggers: when a perturbation sets in.

Where there is a plan, a perturbation sets in at a stage and a fraction of it. A policy has no plan. There it
sets in some time after an event that any rollout may show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from failsafe.errors import UnknownNameError
from failsafe.records.perturbation import Perturbation
from failsafe.records.plan import OPEN
from failsafe.rollouts.hooks import Command, StepContext
from failsafe.simulators.contract import Role, Simulator

RAISED_METRES = 0.03
"""How far an object that is held has risen when it counts as raised: lower, it would not fall far."""
_CLOSING = 0.25
"""Change of the gripper command, of the 2 between open and closed, that counts as closing."""


@dataclass(frozen=True)
class RuntimeTrigger:
    """When a mode sets in behind a policy.

    Attributes:
        event: The event that it waits for, one of `EVENTS`.
        delay: Range of the time from the event on, seconds, from which it is drawn uniformly.
    """

    event: str
    delay: tuple[float, float] = (0.0, 0.0)


@runtime_checkable
class Trigger(Protocol):
    """Says in every control step whether a perturbation sets in."""

    def fires(self, context: StepContext, command: Command | None) -> bool:
        """Return whether it sets in now.

        Args:
            context: Where the rollout stands.
            command: The command of this step, None where only the world is asked.
        """
        ...


class StageTrigger:
    """Fires at a fraction of a stage, or in any later stage.

    Args:
        stage: Index of the stage.
        fraction: Where in the stage, 0 (its first step) to 1 (its last).
    """

    def __init__(self, stage: int, fraction: float) -> None:
        self._stage, self._fraction = stage, fraction

    def fires(self, context: StepContext, command: Command | None) -> bool:
        """See `Trigger`."""
        due = min(round(self._fraction * context.stage_steps), context.stage_steps - 1)
        return context.stage > self._stage or (context.stage == self._stage and context.stage_step >= due)


@runtime_checkable
class Event(Protocol):
    """Says in every control step whether something holds."""

    def holds(self, context: StepContext, command: Command | None) -> bool:
        """See `Trigger.fires`."""
        ...


class EventTrigger:
    """Fires once an event has held for some control steps.

    Args:
        event: The event.
        steps: Control steps for which it has to have held before.
    """

    def __init__(self, event: Event, steps: int) -> None:
        self._event, self._left = event, steps

    def fires(self, context: StepContext, command: Command | None) -> bool:
        """See `Trigger`."""
        if not self._event.holds(context, command):
            return False
        self._left -= 1
        return self._left < 0


class _Start:
    """Always."""

    def __init__(self, simulator: Simulator) -> None:
        pass

    def holds(self, context: StepContext, command: Command | None) -> bool:
        return True


class _Closing:
    """The gripper has been commanded to close."""

    def __init__(self, simulator: Simulator) -> None:
        self._before, self._closing = OPEN, False

    def holds(self, context: StepContext, command: Command | None) -> bool:
        if command is not None:
            self._closing = self._closing or self._before - command.gripper > _CLOSING
            self._before = command.gripper
        return self._closing


class _Raised:
    """A movable object is held, and has risen since it was taken hold of."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator, self._episode = simulator, simulator.episode
        self._object, self._height = "", 0.0

    def holds(self, context: StepContext, command: Command | None) -> bool:
        movable = self._episode.names(Role.MOVABLE)
        held = [name for name in self._simulator.held() if name in movable]
        if not held:
            self._object = ""
            return False
        height = float(context.observation.objects[self._episode.object_index(held[0]), 2])
        if held[0] != self._object:
            self._object, self._height = held[0], height
        return height >= self._height + RAISED_METRES


EVENTS = {"start": _Start, "closing": _Closing, "raised": _Raised}
"""The beginning of the episode; the gripper closes; a held object has been raised by 3 cm."""


def make_trigger(perturbation: Perturbation, simulator: Simulator) -> Trigger:
    """Make the trigger that a perturbation states.

    Args:
        perturbation: The perturbation.
        simulator: In the state in which the rollout begins.

    Raises:
        UnknownNameError: If its event is not one of `EVENTS`.
    """
    if not perturbation.event:
        return StageTrigger(perturbation.stage, perturbation.moment)
    if perturbation.event not in EVENTS:
        raise UnknownNameError("event", perturbation.event, EVENTS)
    steps = round(perturbation.delay * simulator.spec.embodiment.control_hz)
    return EventTrigger(EVENTS[perturbation.event](simulator), steps)
