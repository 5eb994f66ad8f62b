"""Training noise: image augmentation, and errors of object positions that are given instead of images."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_LIGHTING, _OCCLUDED, _DELAYED, _BLACK = 0.5, 0.25, 0.1, 0.03
"""Probability per window of a change of light and colour, an occluder, a delayed view, a black view."""
_ERROR, _RELATIVE_ERROR = 0.03, 0.03
"""Error of given object positions per axis, as measured on the localizer: decimetres, plus a share of the
distance."""
_LARGE_ERROR, _LARGE_FACTOR = 0.2, 3.0
"""Share of the windows with a larger error, and its factor: the error behind another policy."""
_HELD = 0.25
"""Distance from the tool below which an object is in the gripper, decimetres. Such an object moves with the
tool, so that a delay does not change its relative position."""


def augment_images(frames: Float[Tensor, "B V C S S"], steps: int, rng: np.random.Generator) -> None:
    """Change light and colours, add occluders, delay views and black them out. In place.

    All time steps of a view change alike, because they come from one camera. Camera poses vary in the
    rendered samples instead.

    Args:
        frames: Images, 0 to 1.
        steps: Time steps in the channels of a view.
        rng: Source of randomness.
    """
    b, v, _, size, _ = frames.shape
    lit = rng.random((b, 1, 1)) < _LIGHTING
    gain = np.where(lit, rng.uniform(0.7, 1.3, (b, v, 1)) * rng.uniform(0.88, 1.12, (b, v, 3)), 1.0)
    bias = np.where(lit, rng.uniform(-0.08, 0.08, (b, v, 3)), 0.0)
    for values, scale in ((gain, True), (bias, False)):
        channels = torch.from_numpy(np.tile(values, (1, 1, steps)).astype(np.float32))[..., None, None]
        _ = frames.mul_(channels) if scale else frames.add_(channels)
    frames.clamp_(0.0, 1.0)
    for row in range(b):
        for view in range(v):
            draw = rng.random(3)
            if draw[0] < _OCCLUDED / v:
                height, width = rng.integers(size // 8, size // 2, 2).tolist()
                y, x = rng.integers(0, size - height), rng.integers(0, size - width)
                colour = torch.from_numpy(np.tile(rng.random(3), steps).astype(np.float32))
                frames[row, view, :, y : y + height, x : x + width] = colour[:, None, None]
            if draw[1] < _DELAYED / v and steps > 1:
                frames[row, view, 3:] = frames[row, view, :-3].clone()
            if draw[2] < _BLACK / v:
                frames[row, view] = 0.0


def delay_objects(
    objects: Float[Tensor, "B O"], moved: Float[Tensor, "B K 3"], rng: np.random.Generator
) -> Float[Tensor, "B O"]:
    """Delay the object positions of some windows, as a delayed camera shows them.

    Args:
        objects: Positions relative to the tool, decimetres; 0 for absent objects.
        moved: Displacement of the tool in the last 1 to K control steps, decimetres.
        rng: Source of randomness.
    """
    b, steps = moved.shape[:2]
    moved = moved[torch.arange(b), torch.from_numpy(rng.integers(0, steps, b))][:, None]
    positions = objects.unflatten(1, (-1, 3))
    distance = positions.norm(dim=2, keepdim=True)
    delayed = torch.from_numpy(rng.random((b, 1, 1)) < _DELAYED) & (distance > _HELD)
    return torch.where(delayed, positions + moved, positions).flatten(1)


def perturb_objects(objects: Float[Tensor, "B O"], rng: np.random.Generator) -> Float[Tensor, "B O"]:
    """Add noise to object positions, matched to the localizer's measured error.

    Args:
        objects: Positions relative to the tool, decimetres; 0 for absent objects.
        rng: Source of randomness.
    """
    distance = objects.unflatten(1, (-1, 3)).norm(dim=2, keepdim=True).expand(-1, -1, 3).flatten(1)
    large = torch.from_numpy(rng.random((len(objects), 1)) < _LARGE_ERROR)
    factor = torch.where(large, _LARGE_FACTOR, 1.0)
    noise = torch.from_numpy(rng.normal(size=objects.shape).astype(np.float32))
    return torch.where(
        objects == 0, objects, objects + noise * factor * (_ERROR + _RELATIVE_ERROR * distance)
    )
