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

from failsafe.models.corrections import QUARTERS
from failsafe.models.object_localizer import MIDDLE, PLACE_SCALE, POSE
from failsafe.training.batches import Targets

_TURN, _MOST = 0.15, 0.35
"""Radians that a moment is turned by, standard deviation and at most: axes must keep their names."""
_SHIFT = 0.05
"""Metres along the table that it is moved by (standard deviation)."""


def elsewhere(
    objects: Float[Tensor, "B O"], motion: Float[Tensor, "B M"], truth: Targets
) -> tuple[Float[Tensor, "B O"], Float[Tensor, "B M"], Targets]:
    """A batch, every moment of it mirrored or not, turned and moved at random.

    Args:
        objects: Where the objects are from the tool, base frame; 0 for those that are not there.
        motion: See `failsafe.models.compact.motion_features`.
        truth: What is true of it.

    Returns:
        The transformed batch. Of the targets only correction and continuation change, not those of the image
        encoders.
    """
    b = len(motion)
    side = torch.where(torch.rand(b) < 0.5, -1.0, 1.0).to(motion)
    angle = (_TURN * torch.randn(b)).clamp(-_MOST, _MOST).to(motion)
    carrier, shift = Carrier(side, angle), _SHIFT * torch.randn(b, 2).to(motion)
    there = replace(
        truth, correction=carrier.way(truth.correction), continuation=carrier.way(truth.continuation)
    )
    return carrier.objects(objects), carrier.motion(motion, shift), there


class Carrier:
    """Mirrors at the plane y = 0 of the robot's base frame (side -1) or not (1), then turns about z.

    Args:
        side: For each moment, -1 or 1. [B]
        angle: Radians. [B]
    """

    def __init__(self, side: Float[Tensor, "B"], angle: Float[Tensor, "B"]) -> None:
        self._side = side[:, None]
        self._cos, self._sin = torch.cos(angle)[:, None], torch.sin(angle)[:, None]

    def directions(self, vectors: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        """Vectors from one place to another."""
        x, y, z = vectors.unbind(-1)
        return self._turn(x, y * self._side, z)

    def rotations(self, vectors: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        """Rotation vectors: in a mirror, what turns about an axis that lies in it turns the other way."""
        x, y, z = vectors.unbind(-1)
        return self._turn(x * self._side, y, z * self._side)

    def deltas(self, deltas: Float[Tensor, "B N 6"]) -> Float[Tensor, "B N 6"]:
        """Displacements with rotation vectors."""
        return torch.cat([self.directions(deltas[..., :3]), self.rotations(deltas[..., 3:])], dim=-1)

    def way(self, numbers: Float[Tensor, "B 29"]) -> Float[Tensor, "B 29"]:
        """Corrections, see `failsafe.models.corrections`."""
        quarters = numbers[:, :-1].unflatten(1, (QUARTERS, 7))
        moved = torch.cat([self.deltas(quarters[..., :6]), quarters[..., 6:]], dim=-1)
        return torch.cat([moved.flatten(1), numbers[:, -1:]], dim=1)

    def objects(self, objects: Float[Tensor, "B O"]) -> Float[Tensor, "B O"]:
        """Where objects are from the tool; 0 for those that are not there."""
        return self.directions(objects.unflatten(1, (-1, 3))).flatten(1)

    def motion(self, motion: Float[Tensor, "B M"], shift: Float[Tensor, "B 2"]) -> Float[Tensor, "B M"]:
        """Proprioception, see `failsafe.models.compact.motion_features`, moved along the table by `shift`."""
        middle = motion.new_tensor(MIDDLE)
        place = self.directions(motion[:, None, :3] / PLACE_SCALE + middle)[:, 0]
        place = torch.cat([place[:, :2] + shift, place[:, 2:]], dim=1)
        axes = self.directions(motion[:, 3:POSE].unflatten(1, (2, 3))).flatten(1)
        moments = (motion.shape[1] - POSE - 1) // 7
        past, widths = motion[:, POSE:].split([6 * moments, moments + 1], dim=1)
        past = self.deltas(past.unflatten(1, (moments, 6))).flatten(1)
        return torch.cat([(place - middle) * PLACE_SCALE, axes, past, widths], dim=1)

    def _turn(self, x: Tensor, y: Tensor, z: Tensor) -> Float[Tensor, "B N 3"]:
        return torch.stack([self._cos * x - self._sin * y, self._sin * x + self._cos * y, z], dim=-1)
