"""Augmentation of windows for the classifier: mirror, rotate and translate the scene.

The classifier takes positions and directions. A failure that is mirrored, rotated a little or moved along the
table is still a failure of the same mode (the axis in its name has no sign). Without this augmentation, the
network memorizes the initial states of its training set (docs/compact.md).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from failsafe.models.corrections import QUARTERS
from failsafe.models.normalization import Normalization
from failsafe.models.object_localizer import POSE
from failsafe.training.targets import Targets

_ANGLE, _MAX_ANGLE = 0.15, 0.35
"""Rotation about the vertical, radians: standard deviation and limit. Axes must keep their names."""
_SHIFT = 0.05
"""Translation along the table, metres: standard deviation."""


def augment_scene(
    objects: Float[Tensor, "B O"],
    motion: Float[Tensor, "B M"],
    truth: Targets,
    normalization: Normalization,
) -> tuple[Float[Tensor, "B O"], Float[Tensor, "B M"], Targets]:
    """Mirror (every second window), rotate and translate each window of a batch at random.

    Args:
        objects: Object positions relative to the tool, base frame; 0 for absent objects.
        motion: See `failsafe.models.compact_net.motion_features`.
        truth: Targets of the batch.
        normalization: Scaling of the tool positions in `motion`.

    Returns:
        The transformed batch. Of the targets, correction and continuation change, not those of the localizer.
    """
    b = len(motion)
    side = torch.where(torch.rand(b) < 0.5, -1.0, 1.0).to(motion)
    angle = (_ANGLE * torch.randn(b)).clamp(-_MAX_ANGLE, _MAX_ANGLE).to(motion)
    transform, shift = SceneTransform(side, angle), _SHIFT * torch.randn(b, 2).to(motion)
    moved = replace(
        truth,
        correction=transform.actions(truth.correction),
        continuation=transform.actions(truth.continuation),
    )
    return transform.objects(objects), transform.motion(motion, shift, normalization), moved


class SceneTransform:
    """Mirror at the plane y = 0 of the robot's base frame, then rotate about z.

    Args:
        side: -1 to mirror a window, 1 not to. [B]
        angle: Rotation of each window, radians. [B]
    """

    def __init__(self, side: Float[Tensor, "B"], angle: Float[Tensor, "B"]) -> None:
        self._side = side[:, None]
        self._cos, self._sin = torch.cos(angle)[:, None], torch.sin(angle)[:, None]

    def directions(self, vectors: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        """Transform vectors between two points."""
        x, y, z = vectors.unbind(-1)
        return self._rotate(x, y * self._side, z)

    def rotations(self, vectors: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        """Transform rotation vectors: a mirror reverses rotations about axes that lie in its plane."""
        x, y, z = vectors.unbind(-1)
        return self._rotate(x * self._side, y, z * self._side)

    def deltas(self, deltas: Float[Tensor, "B N 6"]) -> Float[Tensor, "B N 6"]:
        """Transform displacements with rotation vectors."""
        return torch.cat([self.directions(deltas[..., :3]), self.rotations(deltas[..., 3:])], dim=-1)

    def actions(self, numbers: Float[Tensor, "B 29"]) -> Float[Tensor, "B 29"]:
        """Transform encoded corrections, see `failsafe.models.corrections`."""
        quarters = numbers[:, :-1].unflatten(1, (QUARTERS, 7))
        moved = torch.cat([self.deltas(quarters[..., :6]), quarters[..., 6:]], dim=-1)
        return torch.cat([moved.flatten(1), numbers[:, -1:]], dim=1)

    def objects(self, objects: Float[Tensor, "B O"]) -> Float[Tensor, "B O"]:
        """Transform object positions relative to the tool; 0 for absent objects."""
        return self.directions(objects.unflatten(1, (-1, 3))).flatten(1)

    def motion(
        self, motion: Float[Tensor, "B M"], shift: Float[Tensor, "B 2"], normalization: Normalization
    ) -> Float[Tensor, "B M"]:
        """Transform proprioception, and translate it along the table.

        Args:
            motion: See `failsafe.models.compact_net.motion_features`.
            shift: Translation in x and y, metres.
            normalization: Scaling of the tool positions.
        """
        origin, scale = motion.new_tensor(normalization.origin), normalization.position_scale
        position = self.directions(motion[:, None, :3] / scale + origin)[:, 0]
        position = torch.cat([position[:, :2] + shift, position[:, 2:]], dim=1)
        axes = self.directions(motion[:, 3:POSE].unflatten(1, (2, 3))).flatten(1)
        steps = (motion.shape[1] - POSE - 1) // 7
        past, widths = motion[:, POSE:].split([6 * steps, steps + 1], dim=1)
        past = self.deltas(past.unflatten(1, (steps, 6))).flatten(1)
        return torch.cat([(position - origin) * scale, axes, past, widths], dim=1)

    def _rotate(self, x: Tensor, y: Tensor, z: Tensor) -> Float[Tensor, "B N 3"]:
        return torch.stack([self._cos * x - self._sin * y, self._sin * x + self._cos * y, z], dim=-1)
