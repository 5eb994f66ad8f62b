"""A perturbation, fully drawn: with the seed and the plan it determines the rollout."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(str, enum.Enum):
    """Where along the robot's loop a cause acts."""

    BELIEF = "belief"
    PLAN = "plan"
    ACTUATION = "actuation"
    WORLD = "world"


@dataclass(frozen=True)
class Perturbation:
    """One cause of failure.

    Attributes:
        mode: Name of the mode, for example "translation_x".
        stage: Index of the stage of the nominal plan at which it sets in.
        stage_name: That stage's name.
        moment: Where in the stage it sets in, 0 (its first step) to 1 (its last).
        magnitude: How strong, in the mode's own unit, signed where the mode has two directions.
        unit: Unit of the magnitude ("m", "rad", "steps", "m/s").
        direction: Azimuth in the robot's base frame in radians, for modes that act in the horizontal plane.
        object: Name of the object that it acts on, empty for the robot itself.
    """

    mode: str
    stage: int
    stage_name: str
    moment: float
    magnitude: float
    unit: str
    direction: float = 0.0
    object: str = ""

    @property
    def description(self) -> str:
        """The perturbation as a clause that a person reads."""
        mode = self.mode.replace("_", " ")
        on = f" ({self.object})" if self.object else ""
        return f"{mode}{on}: {self.magnitude:.3g} {self.unit}, {self.moment:.0%} into '{self.stage_name}'"
