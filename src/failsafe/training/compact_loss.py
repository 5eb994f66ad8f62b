"""The loss of the compact network's classifier."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from failsafe.models.compact_net import CompactNet, Inputs, Outputs
from failsafe.models.object_localizer import POSE
from failsafe.training.augmentation import augment_scene
from failsafe.training.localizer_loss import localizer_loss
from failsafe.training.targets import Targets

_FINAL = slice(-8, -2)
"""Displacement and rotation at the end of an encoded correction."""


def assessment_loss(out: Outputs, truth: Targets) -> Tensor:
    """Return the weighted sum of the losses of all heads, each over the samples with a known target.

    Args:
        out: Predictions for a batch.
        truth: Its targets.
    """

    def mean(values: Float[Tensor, "B"], weight: Float[Tensor, "B"]) -> Tensor:
        return (values * weight).sum() / weight.sum().clamp(min=1.0)

    smooth = F.smooth_l1_loss(out.correction, truth.correction, reduction="none", beta=0.1).mean(1)
    after = F.smooth_l1_loss(out.continuation, truth.continuation, reduction="none", beta=0.1).mean(1)
    # Direction of the whole correction, apart from its length: smooth L1 neglects it for short corrections.
    direction = 1 - F.cosine_similarity(out.correction[:, _FINAL], truth.correction[:, _FINAL], dim=1)
    binary = F.binary_cross_entropy_with_logits
    mode = F.cross_entropy(out.mode, truth.mode, reduction="none", label_smoothing=0.05)
    return (
        mean(binary(out.failing, truth.failing, reduction="none"), truth.failing_weight)
        + 0.7 * mean(mode, truth.mode_weight)
        + 0.3 * mean(F.cross_entropy(out.stage, truth.stage, reduction="none"), truth.stage_weight)
        + mean(4.0 * smooth + 0.3 * direction, truth.correction_weight)
        + 4.0 * mean(after, truth.continuation_weight)
        + 0.2 * mean(binary(out.help, truth.help, reduction="none"), truth.help_weight)
    )


def compact_loss(net: CompactNet, inputs: Inputs, truth: Targets) -> Tensor:
    """Return the loss of classifier and localizer for a batch.

    Args:
        net: The network.
        inputs: The batch.
        truth: Its targets.
    """
    # Half precision where the processor supports it: twice as fast, with equal results.
    with torch.autocast(inputs.motion.device.type, dtype=torch.bfloat16):
        objects, keypoints = net.localize(inputs)
        # Only the classifier sees the transformed scene; the images stay as they are.
        objects, motion, moved = augment_scene(
            objects.detach(), inputs.motion, truth, net.config.normalization
        )
        out = net.classify(objects, motion, inputs.words)
    loss = assessment_loss(out, moved)
    if net.localizer is None or keypoints is None:
        return loss
    return loss + localizer_loss(net.localizer, keypoints, inputs.motion[:, :POSE], truth)
