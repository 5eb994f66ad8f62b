"""The same moment elsewhere: in a mirror on the robot's plane of symmetry, turned about the vertical, moved.

What is wrong stays the same, and its correction is mirrored and turned with it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from failsafe.models.corrections import QUARTERS
from failsafe.models.finder import MIDDLE, PLACE_SCALE, POSE


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
