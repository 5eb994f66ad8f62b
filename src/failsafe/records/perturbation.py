"""A perturbation with all its random draws: with the seed and the plan it determines the rollout."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from failsafe.errors import RecordError

_LARGEST = 1e6
"""Largest magnitude, angle or duration, in the unit of each."""


class Level(str, enum.Enum):
    """Level of cause: where in the robot's loop a perturbation acts."""

    BELIEF = "belief"
    PLAN = "plan"
    ACTUATION = "actuation"
    WORLD = "world"


VERSION_1_SCALES = {
    "no_op": ("s", 1 / 20),
    "late_close": ("s", 1 / 20),
    "drift": ("m/s", 20.0),
}
"""Modes whose magnitudes version 1 stated in control steps of 1/20 s: current unit and conversion factor."""


@dataclass(frozen=True)
class Perturbation:
    """One cause of failure, with all its random draws.

    The trigger is a stage of the nominal plan (`stage`, `moment`) or, without a plan, an event (`event`,
    `delay`).

    Attributes:
        mode: Name of the mode, for example "translation_x".
        stage: Index of the stage of the nominal plan in which the perturbation sets in; -1 with an event.
        stage_name: Name of that stage.
        moment: Fraction of the stage at which the perturbation sets in, 0 (first step) to 1 (last step).
        magnitude: Size in the mode's unit, with a sign if the mode has two directions.
        unit: Unit of the magnitude ("m", "rad", "s", "m/s").
        direction: Azimuth in the robot base frame, radians; for modes that act in the horizontal plane.
        object: Name of the affected object; empty for the robot, and for an object chosen at the event.
        event: Event that triggers the perturbation; empty with a stage.
        delay: Time between the event and the perturbation, seconds.
        duration: Duration, seconds; 0: the default of the mode.
        pick: Number in [0, 1] that selects one of several objects at the event.
    """

    mode: str
    stage: int
    stage_name: str
    moment: float
    magnitude: float
    unit: str
    direction: float = 0.0
    object: str = ""
    event: str = ""
    delay: float = 0.0
    duration: float = 0.0
    pick: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers that no perturbation has.

        Raises:
            RecordError: On such a number.
        """
        for name in ("magnitude", "direction", "delay", "duration"):
            if not abs(getattr(self, name)) <= _LARGEST:
                raise RecordError(
                    f"expected a perturbation's {name} up to {_LARGEST:g}, got {getattr(self, name):g}"
                )

    @property
    def description(self) -> str:
        """The perturbation as a clause for a reader."""
        mode = self.mode.replace("_", " ")
        on = f" ({self.object})" if self.object else ""
        when = f"{self.delay:.2f} s after '{self.event}'" if self.event else ""
        return f"{mode}{on}: {self.magnitude:.3g} {self.unit}, " + (
            when or f"{self.moment:.0%} into '{self.stage_name}'"
        )
