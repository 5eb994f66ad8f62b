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


@dataclass(frozen=True)
class Perturbation:
    """One cause of failure.

    Attributes:
        mode: Name of the mode, for example "translation_x".
        stage: Index of the stage of the nominal plan in which the perturbation sets in.
        stage_name: Name of that stage.
        moment: Fraction of the stage at which the perturbation sets in, 0 (first step) to 1 (last step).
        magnitude: Size in the mode's unit, with a sign if the mode has two directions.
        unit: Unit of the magnitude ("m", "rad", "steps", "m/s").
        direction: Azimuth in the robot base frame, radians; for modes that act in the horizontal plane.
        object: Name of the affected object; empty for the robot.
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
        """The perturbation as a clause for a person."""
        mode = self.mode.replace("_", " ")
        on = f" ({self.object})" if self.object else ""
        return f"{mode}{on}: {self.magnitude:.3g} {self.unit}, {self.moment:.0%} into '{self.stage_name}'"
