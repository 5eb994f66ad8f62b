"""Settings and reports of a training of the compact network."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from failsafe.errors import UserError


@dataclass(frozen=True)
class CompactTraining:
    """How the compact network is trained.

    Attributes:
        epochs: Passes over the training samples.
        batch: Samples with images in a step.
        image_free_batch: Image-free samples in a step, if there are any.
        rounds: Image-free steps after every step with images.
        rate: Highest learning rate.
        decay: Weight decay.
        average: Factor of the running average of the weights, per step.
        widths: Channels of the image encoders, from stride 2 to stride 16.
        hidden: Width of the trunk.
        proprioception_only: Train on proprioception and instruction alone, to measure what those give away.
        localizer: A checkpoint whose object localizer is kept frozen. Only the classifier is trained, on
            image-free samples. Empty to train both.
        seed: Seed of all randomness.

    Raises:
        UserError: If a value is out of range, or two settings contradict each other.
    """

    epochs: int = 5
    batch: int = 96
    image_free_batch: int = 1024
    rounds: int = 2
    rate: float = 2e-3
    decay: float = 0.05
    average: float = 0.999
    widths: tuple[int, ...] = (32, 48, 96, 160)
    hidden: int = 1024
    proprioception_only: bool = False
    localizer: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "image_free_batch", "rounds", "hidden"):
            if (got := getattr(self, name)) < 1:
                raise UserError(f"expected {name} of at least 1, got {got}")
        if not 0 < self.rate < math.inf:
            raise UserError(f"expected a learning rate above 0, got {self.rate}")
        if self.proprioception_only and self.localizer:
            raise UserError("expected proprioception_only or a localizer to keep, got both")


@dataclass(frozen=True)
class EpochReport:
    """Results of an epoch.

    Attributes:
        epoch: Number of the epoch, from 1.
        epochs: Number of epochs in total.
        seconds: Seconds since the training began, earlier runs included.
        loss: Mean training loss.
        validation: Scores on the validation split by name, see `failsafe.training.compact.evaluate`.
    """

    epoch: int
    epochs: int
    seconds: float
    loss: float
    validation: dict[str, float] = field(default_factory=dict[str, float])
