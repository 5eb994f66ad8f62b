"""The loss of the object localizer: keypoints, camera poses, object positions, and random points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from failsafe.models.camera_geometry import camera_features, project
from failsafe.models.object_localizer import Keypoints, ObjectLocalizer

if TYPE_CHECKING:
    from failsafe.training.targets import Targets

RANDOM_POINTS = 16
"""Random points around the tool of every window."""
_SPREADS = ((0.25, 0.012), (0.35, 0.05))
"""Shares of the random points with their standard deviation from the tool, metres."""
_RANGE = 0.35
"""Half the side of the cube around the tool in which the other points are uniform, metres."""
_PIXEL_ERROR, _PIXEL_ERROR_SPREAD = 0.012, 0.6
"""Error of an encoder's keypoints (half an image is 1), and the standard deviation of its logarithm."""
_OCCLUDED, _OCCLUDED_ERROR, _MISSED = 0.2, 4.0, 0.07
"""Probability of a partly occluded point, the factor on its error, and the probability of a missed point."""


def localizer_loss(
    localizer: ObjectLocalizer, keypoints: Keypoints, pose: Float[Tensor, "B 9"], truth: Targets
) -> Tensor:
    """Return the loss of a batch with images.

    Args:
        localizer: The localizer.
        keypoints: Its predictions.
        pose: Tool pose that it was given, see `failsafe.models.object_localizer.POSE`.
        truth: Targets of the batch.
    """
    objects = truth.objects.unflatten(1, (-1, 3))
    present = (objects != 0).any(-1)
    tool = truth.tcp_poses[:, None, :3]
    points = torch.cat([tool, torch.where(present[..., None], tool + objects / 10, torch.nan)], dim=1)
    pixels, inside = project(truth.cameras, truth.tcp_poses, points)
    known = torch.cat([torch.ones_like(present[:, :1]), present], dim=1)[:, None].expand_as(inside)
    cameras = camera_features(truth.cameras)
    cross_entropy = F.binary_cross_entropy_with_logits

    def mean(values: Tensor, chosen: Bool[Tensor, "..."]) -> Tensor:
        return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp(min=1)

    error = F.smooth_l1_loss(keypoints.pixels, pixels, reduction="none", beta=0.005).sum(-1)
    # Negative log-likelihood of the error under a Laplace distribution of the predicted spread.
    distance = (keypoints.pixels.detach() - pixels).abs().mean(-1)
    likelihood = distance * torch.exp(-keypoints.spread) + keypoints.spread
    positions = F.smooth_l1_loss(keypoints.objects, objects, reduction="none", beta=0.02).mean(-1)
    return (
        8.0 * mean(error, inside)
        + 0.1 * mean(likelihood, inside)
        + 0.5 * mean(cross_entropy(keypoints.inside, inside.float(), reduction="none"), known)
        + 8.0 * F.smooth_l1_loss(keypoints.cameras, cameras, beta=0.02)
        + 0.2 * cross_entropy(keypoints.present, present.float())
        + 4.0 * mean(positions, present)
        + 4.0 * random_point_loss(localizer, keypoints, pose, truth)
    )


def random_point_loss(
    localizer: ObjectLocalizer, keypoints: Keypoints, pose: Float[Tensor, "B 9"], truth: Targets
) -> Tensor:
    """Return the loss of lifting random points, projected into the cameras with simulated keypoint errors.

    Args:
        localizer: The localizer.
        keypoints: Its predictions, of which the tool's keypoints and the cameras are used.
        pose: Tool pose that it was given.
        truth: Targets of the batch.
    """
    relative = _random_points(len(pose)).to(pose.device)
    tool = truth.tcp_poses[:, None, :3]
    # No point lies below the table, where the tool does not go either.
    relative[..., 2] = torch.maximum(relative[..., 2], -tool[..., 2].clamp(min=0.0))
    points = torch.cat([tool, tool + relative], dim=1)
    pixels, inside = project(truth.cameras, truth.tcp_poses, points)
    draw = lambda: torch.rand(inside.shape, device=pose.device)  # noqa: E731
    spread = torch.log(torch.where(draw() < _OCCLUDED, _PIXEL_ERROR * _OCCLUDED_ERROR, _PIXEL_ERROR))
    spread = spread + _PIXEL_ERROR_SPREAD * torch.randn_like(spread).clamp(-2, 2)
    pixels = pixels + torch.exp(spread)[..., None] * torch.randn_like(pixels)
    weight = torch.where(inside & (draw() > _MISSED), torch.exp(-2.0 * spread), 0.0)
    # The tool's keypoints and the cameras are the predicted ones, so that the refiner sees their real errors.
    known = keypoints.detach()
    pixels = torch.cat([known.pixels[:, :, :1], pixels[:, :, 1:]], dim=2)
    weight = torch.cat([known.weight[:, :, :1], weight[:, :, 1:]], dim=2)
    found = localizer.lift(pixels, weight, known.cameras, pose)
    return F.smooth_l1_loss(found, relative * 10, beta=0.02)


def _random_points(number: int) -> Float[Tensor, "B 16 3"]:
    """Draw points relative to the tool, metres, for a number of windows."""
    draw = torch.rand(number, RANDOM_POINTS, 1)
    relative = (2 * torch.rand(number, RANDOM_POINTS, 3) - 1) * _RANGE
    edge = 0.0
    for share, spread in _SPREADS:
        chosen = (draw >= edge) & (draw < edge + share)
        relative = torch.where(chosen, torch.randn(number, RANDOM_POINTS, 3) * spread, relative)
        edge += share
    return relative
