"""Score the compact network on windows, as its training does on the validation split."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from failsafe.models.compact_net import CompactConfig, Inputs, Outputs
from failsafe.samples.sample_set import SampleSet
from failsafe.training.batches import Batches
from failsafe.training.compact_loss import assessment_loss
from failsafe.training.targets import Targets

_LARGEST = 1000
"""Largest number of samples of a validation: it happens every few steps."""
_MEANS = ("mode_accuracy", "stage_accuracy", "correction_cosine", "object_error_mm")


def evaluate(net: nn.Module, batches: Batches, device: torch.device) -> dict[str, float]:
    """Score a network.

    Args:
        net: The network.
        batches: Windows to score it on.
        device: Where the network is.

    Returns:
        "loss": training loss of the classifier without augmentation; "balanced_accuracy": of the failure
        detection; "mode_accuracy", "stage_accuracy"; "correction_cosine": cosine similarity of the
        correction; "object_error_mm": mean error of the object positions per axis, millimetres. Scores
        without any sample are left out.
    """
    net.eval()
    losses, parts = 0.0, {name: list[Tensor]() for name in ("failing", "others", *_MEANS)}
    with torch.inference_mode():
        for inputs, truth in batches.all(128):
            moved, targets = to_device((inputs, truth), device)
            out: Outputs = net(moved)
            losses += float(assessment_loss(out, targets)) * len(truth.failing)
            predicted, failing = (out.failing > 0).cpu(), truth.failing > 0.5
            parts["failing"].append(predicted[failing])
            parts["others"].append(~predicted[~failing])
            named = truth.mode_weight > 0
            parts["mode_accuracy"].append((out.mode.argmax(1).cpu() == truth.mode)[named])
            parts["stage_accuracy"].append((out.stage.argmax(1).cpu() == truth.stage)[truth.stage_weight > 0])
            corrected = truth.correction_weight > 0
            a, b = (t[corrected][:, -8:-2] for t in (out.correction.cpu(), truth.correction))
            parts["correction_cosine"].append(F.cosine_similarity(a, b, dim=1))
            parts["object_error_mm"].append(
                (out.objects.cpu() - truth.objects)[truth.objects != 0].abs() * 100.0
            )
    mean = {name: float(torch.cat(values).float().mean()) for name, values in parts.items()}
    balanced = (mean.pop("failing") + mean.pop("others")) / 2
    found = {"loss": losses / len(batches), "balanced_accuracy": balanced, **mean}
    return {name: round(value, 4) for name, value in found.items() if math.isfinite(value)}


def validation_batches(samples: SampleSet, config: CompactConfig) -> Batches | None:
    """Return the samples that decide when training ends, or None if there are none.

    These are samples of the splits "validation" and "calibration", the seeds of which neither train nor test
    a model: with images if there are any, else image-free ones. Of many samples, some are taken, evenly
    spread.

    Args:
        samples: The sample set.
        config: The network.
    """
    for images in (True, False):
        rows = [
            row for split in ("validation", "calibration") for row in samples.indices(split, images=images)
        ]
        if rows:
            return Batches(samples, rows[:: math.ceil(len(rows) / _LARGEST)], config, images=images)
    return None


def to_device(batch: tuple[Inputs, Targets], device: torch.device) -> tuple[Inputs, Targets]:
    """Return a batch on a device.

    Args:
        batch: Inputs and targets.
        device: The device.
    """
    inputs, truth = batch
    given = None if inputs.objects is None else inputs.objects.to(device)
    moved = Inputs(inputs.frames.to(device), inputs.motion.to(device), inputs.words.to(device), given)
    return moved, Targets(**{name: tensor.to(device) for name, tensor in vars(truth).items()})
