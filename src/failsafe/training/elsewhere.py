"""What the judging network is taught by besides: every moment elsewhere.

It learns from positions and directions. Mirrored, turned a little or moved a little along the table, a
failure is still one, of the same kind (its axis has no sign). Without, the network learns initial states by
heart (docs/compact.md).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from failsafe.models.symmetry import Carrier
from failsafe.training.batches import Truth

_TURN, _MOST = 0.15, 0.35
"""Radians that a moment is turned by, standard deviation and at most: axes must keep their names."""
_SHIFT = 0.05
"""Metres along the table that it is moved by (standard deviation)."""


def elsewhere(
    objects: Float[Tensor, "B O"], motion: Float[Tensor, "B M"], truth: Truth
) -> tuple[Float[Tensor, "B O"], Float[Tensor, "B M"], Truth]:
    """A batch, every moment of it mirrored or not, turned and moved at random.

    Args:
        objects: Where the objects are from the tool, base frame; 0 for those that are not there.
        motion: See `failsafe.models.compact.motion_features`.
        truth: What is true of it.

    Returns:
        The same, as it would be; of the truth, correction and follow are changed, not what the eyes are
        taught by.
    """
    b = len(motion)
    side = torch.where(torch.rand(b) < 0.5, -1.0, 1.0).to(motion)
    angle = (_TURN * torch.randn(b)).clamp(-_MOST, _MOST).to(motion)
    carrier, shift = Carrier(side, angle), _SHIFT * torch.randn(b, 2).to(motion)
    there = replace(truth, correction=carrier.way(truth.correction), follow=carrier.way(truth.follow))
    return carrier.objects(objects), carrier.motion(motion, shift), there
