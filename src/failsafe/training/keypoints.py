"""What teaches the finder: where things are in its pictures, its cameras, points that were never there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from failsafe.models.object_localizer import Keypoints, ObjectLocalizer, camera_features, project

if TYPE_CHECKING:
    from failsafe.training.batches import Targets

IMAGINED = 16
"""Points imagined about the tool of every window."""
_SPREADS = ((0.25, 0.012), (0.35, 0.05))
"""Shares of the points that lie so many metres (standard deviation) about the tool."""
_ANYWHERE = 0.35
"""Metres along each axis within which the others lie."""
_BLUR, _VARIES = 0.012, 0.6
"""What an eye is off by (half a picture is 1), and how much that varies, of its logarithm."""
_HIDDEN, _GUESSED, _MISSED = 0.2, 4.0, 0.07
"""How often it sees a thing that is half hidden, how many times as much it is off then, and how often it does
not see it at all."""


def sight_loss(
    finder: ObjectLocalizer, sight: Keypoints, pose: Float[Tensor, "B 9"], truth: Targets
) -> Tensor:
    """What is to be made small of what the eyes and the lift say.

    Args:
        finder: They.
        sight: What they say of a batch.
        pose: The tool's pose that they were told.
        truth: What is true of it.
    """
    objects = truth.objects.unflatten(1, (-1, 3))
    present = (objects != 0).any(-1)
    tool = truth.tcp_poses[:, None, :3]
    points = torch.cat([tool, torch.where(present[..., None], tool + objects / 10, torch.nan)], dim=1)
    pixels, inside = project(truth.cameras, truth.tcp_poses, points)
    known = torch.cat([torch.ones_like(present[:, :1]), present], dim=1)[:, None].expand_as(inside)
    cameras = camera_features(truth.cameras)
    answer = F.binary_cross_entropy_with_logits

    def mean(values: Tensor, chosen: Tensor) -> Tensor:
        return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp(min=1)

    off = F.smooth_l1_loss(sight.pixels, pixels, reduction="none", beta=0.005).sum(-1)
    # By how much it is off it says as one whose errors are Laplace's.
    beside = (sight.pixels.detach() - pixels).abs().mean(-1)
    unsure = beside * torch.exp(-sight.spread) + sight.spread
    where = F.smooth_l1_loss(sight.objects, objects, reduction="none", beta=0.02).mean(-1)
    return (
        8.0 * mean(off, inside)
        + 0.1 * mean(unsure, inside)
        + 0.5 * mean(answer(sight.inside, inside.float(), reduction="none"), known)
        + 8.0 * F.smooth_l1_loss(sight.cameras, cameras, beta=0.02)
        + 0.2 * answer(sight.present, present.float())
        + 4.0 * mean(where, present)
        + 4.0 * _imagined_loss(finder, sight, pose, truth)
    )


def _imagined_loss(finder: ObjectLocalizer, sight: Keypoints, pose: Tensor, truth: Targets) -> Tensor:
    """Of points that were never there, as the cameras would have seen them."""
    aside = _imagine(len(pose)).to(pose.device)
    tool = truth.tcp_poses[:, None, :3]
    # None lies under the table, where the tool does not go either.
    aside[..., 2] = torch.maximum(aside[..., 2], -tool[..., 2].clamp(min=0.0))
    pixels, inside = project(truth.cameras, truth.tcp_poses, torch.cat([tool, tool + aside], dim=1))
    draw = lambda: torch.rand(inside.shape, device=pose.device)  # noqa: E731
    spread = torch.log(torch.where(draw() < _HIDDEN, _BLUR * _GUESSED, _BLUR))
    spread = spread + _VARIES * torch.randn_like(spread).clamp(-2, 2)
    pixels = pixels + torch.exp(spread)[..., None] * torch.randn_like(pixels)
    weight = torch.where(inside & (draw() > _MISSED), torch.exp(-2.0 * spread), 0.0)
    # Where the tool and the cameras are is what the eyes say: with what they are off by there is to live.
    known = sight.detach()
    pixels = torch.cat([known.pixels[:, :, :1], pixels[:, :, 1:]], dim=2)
    weight = torch.cat([known.weight[:, :, :1], weight[:, :, 1:]], dim=2)
    found = finder.lift(pixels, weight, known.cameras, pose)
    return F.smooth_l1_loss(found, aside * 10, beta=0.02)


def _imagine(number: int) -> Float[Tensor, "B 16 3"]:
    """Points about the tools of so many windows, metres."""
    draw = torch.rand(number, IMAGINED, 1)
    aside = (2 * torch.rand(number, IMAGINED, 3) - 1) * _ANYWHERE
    edge = 0.0
    for share, spread in _SPREADS:
        chosen = (draw >= edge) & (draw < edge + share)
        aside = torch.where(chosen, torch.randn(number, IMAGINED, 3) * spread, aside)
        edge += share
    return aside
