"""A perturbation with all its random draws: with the seed and the plan it determines the rollout."""

from __future__ import annotations

import enum
from dataclasses import dataclass


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
"""Modes whose magnitudes version 1 counted in control steps of 1/20 s: the unit now, and the factor to it."""


@dataclass(frozen=True)
class Perturbation:
    """One cause of failure, fully drawn.

    It sets in either at a stage of the nominal plan (`stage`, `moment`) or, where there is no plan, some time
    after an event (`event`, `delay`).

    Attributes:
        mode: Name of the mode, for example "translation_x".
        stage: Index of the stage of the nominal plan at which it sets in; -1 where an event triggers it.
        stage_name: Name of that stage.
        moment: Fraction of the stage at which it sets in, 0 (its first step) to 1 (its last).
        magnitude: How strong, in the unit of the mode, signed where the mode has two directions.
        unit: Unit of the magnitude ("m", "rad", "s", "m/s").
        direction: Azimuth in the robot base frame in radians, for modes that act in the horizontal plane.
        object: Name of the object that it acts on, empty for the robot itself, or for one that is chosen when
            an event triggers it.
        event: Event that triggers it, empty where a stage does.
        delay: Time from the event on, seconds.
        duration: Time for which it lasts, seconds; 0 for as long as the mode itself says.
        pick: Number from 0 to 1 that chooses among several objects when an event triggers it.
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

    @property
    def description(self) -> str:
        """The perturbation as a clause for a reader."""
        mode = self.mode.replace("_", " ")
        on = f" ({self.object})" if self.object else ""
        when = f"{self.delay:.2f} s after '{self.event}'" if self.event else ""
        return f"{mode}{on}: {self.magnitude:.3g} {self.unit}, " + (
            when or f"{self.moment:.0%} into '{self.stage_name}'"
        )
