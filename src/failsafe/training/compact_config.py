"""Settings and reports of a training of the compact network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from failsafe.errors import UserError


@dataclass(frozen=True)
class CompactTraining:
    """How the compact network is trained.

    Attributes:
        steps: Largest number of training steps. Training ends earlier if the validation loss stops
            improving, so that it adapts to the number of samples.
        validate_every: Training steps from one validation to the next.
        patience: Validations without a lower validation loss after which training ends; 0 for no early end.
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

    FORMAT: ClassVar[int] = 2

    steps: int = 3000
    validate_every: int = 50
    patience: int = 8
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
        for name in ("steps", "validate_every", "batch", "image_free_batch", "rounds", "hidden"):
            if (got := getattr(self, name)) < 1:
                raise UserError(f"expected {name} of at least 1, got {got}")
        if self.patience < 0:
            raise UserError(f"expected patience of at least 0 (0: no early end), got {self.patience}")
        if not 0 < self.rate < math.inf:
            raise UserError(f"expected a learning rate above 0, got {self.rate}")
        if self.proprioception_only and self.localizer:
            raise UserError("expected proprioception_only or a localizer to keep, got both")


@dataclass(frozen=True)
class TrainingReport:
    """State of a training after some steps: one line of its log.

    Attributes:
        step: Training steps so far.
        steps: Largest number of steps.
        seconds: Seconds since the training began, earlier runs included.
        loss: Mean training loss since the report before.
        validation: Scores on the validation samples by name, see `failsafe.training.validation.evaluate`;
            empty if there are none.
        best: Whether the checkpoint holds the weights of this step until a later report is the best.
    """

    step: int
    steps: int
    seconds: float
    loss: float
    validation: dict[str, float] = field(default_factory=dict[str, float])
    best: bool = True

    def describe(self) -> str:
        """Describe the state in one line."""
        scores = ", ".join(f"{name} {value:.3f}" for name, value in self.validation.items())
        seen = f"{scores}{' (best)' if self.best else ''}" if scores else "no samples, so no early end"
        return (
            f"step {self.step} of at most {self.steps} after {self.seconds:.0f} s: loss {self.loss:.3f}; "
            f"validation: {seen}"
        )


def is_best(reports: Sequence[TrainingReport], validation: dict[str, float]) -> bool:
    """Return whether a validation is better than all before; without a validation loss, the latest is.

    Args:
        reports: The reports so far.
        validation: Scores of the present weights.
    """
    losses = [report.validation["loss"] for report in reports if "loss" in report.validation]
    return not losses or "loss" not in validation or validation["loss"] < min(losses)


def is_finished(reports: Sequence[TrainingReport], settings: CompactTraining) -> bool:
    """Return whether a training has taken all steps, or has not improved for as long as its patience.

    Args:
        reports: The reports so far.
        settings: Hyperparameters.
    """
    if not reports:
        return False
    since = next((n for n, report in enumerate(reversed(reports)) if report.best), 0)
    return reports[-1].step >= settings.steps or 0 < settings.patience <= since
