"""Settings of a training of a reference policy."""

from __future__ import annotations

from dataclasses import dataclass

from failsafe.errors import UserError

FURTHER_RATE = 3e-4
"""Highest learning rate for a policy that is trained further: a fifth of that from the start."""


@dataclass(frozen=True)
class ImitationTraining:
    """How a reference policy is trained.

    Attributes:
        demonstrations: Episodes of each task to learn from, 0 for all.
        steps: Gradient steps.
        batch: Samples in a step.
        rate: Highest learning rate; `FURTHER_RATE` for a policy that is trained further.
        decay: Weight decay.
        average: Factor of the running average of the weights, per step.
        seed: Seed of all randomness.
        keyframes: Predict the next keyframes and act on them, see `ReferenceConfig`.
        shift: The most by which the images of a view are shifted, pixels.

    Raises:
        UserError: If a value is out of range.
    """

    demonstrations: int = 0
    steps: int = 3000
    batch: int = 96
    rate: float = 1.5e-3
    decay: float = 0.02
    average: float = 0.998
    seed: int = 0
    keyframes: bool = False
    shift: int = 4

    def __post_init__(self) -> None:
        if self.demonstrations < 0 or self.steps < 1 or self.batch < 1:
            raise UserError(
                "expected at least 0 demonstrations (0 for all), 1 step and 1 sample in a batch, got "
                f"{self.demonstrations}, {self.steps} and {self.batch}"
            )
        if self.shift < 0:
            raise UserError(f"expected to shift images by 0 pixels or more, got {self.shift}")
