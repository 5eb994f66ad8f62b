"""Camera geometry in PyTorch: projection into images, and triangulation from several views.

A camera looks along its x axis, with z up. Pixel coordinates are -1 at the left and upper edges of an image
and 1 at the right and lower ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

CAMERA = 9
"""Numbers that describe a camera, see `camera_features`."""
_SCALE, _SCALE_MOUNTED = 2.0, 10.0
"""Factors on camera positions (metres), for fixed cameras and for those mounted on the tool."""
_ROUNDS = 3
"""Rounds of triangulation: the weight of a ray depends on the depth, which each round refines."""
_NEAREST = 0.05
"""Smallest depth that triangulation assumes, metres."""
_PRIOR = 1e-2
"""Weight that holds a point which no view sees at the tool."""


@dataclass(frozen=True)
class CameraIntrinsics:
    """What stays the same in all images of a view.

    Attributes:
        fov: Field of view, radians.
        mounted: Whether the camera moves with the tool.
    """

    fov: float
    mounted: bool


@dataclass(frozen=True)
class CameraPoses:
    """Where the cameras of a batch are, robot base frame.

    Attributes:
        positions: Positions, metres. [B, V, 3]
        axes: Rotation matrices; the columns are the camera's axes. [B, V, 3, 3]
        half_angles: Half the field of view, radians. [V, 1]
    """

    positions: Float[Tensor, "B V 3"]
    axes: Float[Tensor, "B V 3 3"]
    half_angles: Float[Tensor, "V 1"]

    def half_widths(self, like: Tensor) -> Float[Tensor, "V 1"]:
        """Return half the width that each camera sees at a distance of 1, in another tensor's precision."""
        return torch.tan(self.half_angles.to(like))


def camera_features(cameras: Float[Tensor, "B V 9"]) -> Float[Tensor, "B V 9"]:
    """Describe camera poses by numbers of about one: position, x axis and z axis.

    Args:
        cameras: Pose (7, xyz + wxyz; in the tool frame if mounted), field of view, and whether the camera is
            mounted on the tool.
    """
    turn = rotation_matrix(cameras[..., 3:7])
    scale = torch.where(cameras[..., 8:] > 0.5, _SCALE_MOUNTED, _SCALE)
    return torch.cat([cameras[..., :3] * scale, turn[..., 0], turn[..., 2]], dim=-1)


def camera_poses(
    features: Float[Tensor, "B V 9"],
    intrinsics: Sequence[CameraIntrinsics],
    position: Float[Tensor, "B 3"],
    rotation: Float[Tensor, "B 3 3"],
) -> CameraPoses:
    """Invert `camera_features`.

    Args:
        features: Numbers as from `camera_features`, of each view.
        intrinsics: The views' cameras.
        position: Tool position, base frame, metres.
        rotation: Tool rotation, base frame.
    """
    mounted = torch.tensor([camera.mounted for camera in intrinsics], device=features.device)[:, None]
    at = features[..., :3] / torch.where(mounted, _SCALE_MOUNTED, _SCALE)
    axes = rotation_of_axes(features[..., 3:6], features[..., 6:])
    carried = position[:, None] + (rotation[:, None] @ at[..., None])[..., 0]
    return CameraPoses(
        torch.where(mounted, carried, at),
        torch.where(mounted[..., None], rotation[:, None] @ axes, axes),
        torch.tensor([[camera.fov / 2] for camera in intrinsics]),
    )


def project(
    cameras: Float[Tensor, "B V 9"], tcp_poses: Float[Tensor, "B 7"], points: Float[Tensor, "B P 3"]
) -> tuple[Float[Tensor, "B V P 2"], Bool[Tensor, "B V P"]]:
    """Project points into the images of cameras.

    Args:
        cameras: Cameras as for `camera_features`.
        tcp_poses: Tool poses, base frame; mounted cameras move with the tool.
        points: Points, base frame, metres; NaN where unknown.

    Returns:
        Column and row of each point, and whether the point is inside the image; 0 where it is not.
    """
    turn, at = rotation_matrix(cameras[..., 3:7]), cameras[..., :3]
    tool, mounted = rotation_matrix(tcp_poses[:, 3:])[:, None], cameras[..., 8] > 0.5
    carried = tcp_poses[:, None, :3] + (tool @ at[..., None])[..., 0]
    at = torch.where(mounted[..., None], carried, at)
    turn = torch.where(mounted[..., None, None], tool @ turn, turn)
    ahead, left, up = ((points[:, None] - at[:, :, None]) @ turn).unbind(-1)
    half = ahead * torch.tan(cameras[..., 7:8] / 2)
    pixels = torch.stack([-left / half, -up / half], dim=-1)
    inside = (ahead > 1e-3) & (pixels.abs() < 1).all(-1)
    return torch.where(inside[..., None], pixels, 0.0), inside


def project_all(
    cameras: CameraPoses, points: Float[Tensor, "B P 3"]
) -> tuple[Float[Tensor, "B V P 2"], Float[Tensor, "B V P"]]:
    """Project points into all views, those behind a camera as if just in front of it.

    Args:
        cameras: The cameras.
        points: Points, base frame, metres.

    Returns:
        Pixels and depths (metres).
    """
    ahead, left, up = ((points[:, None] - cameras.positions[:, :, None]) @ cameras.axes).unbind(-1)
    half = ahead.clamp(min=1e-2) * cameras.half_widths(ahead)
    return torch.stack([-left / half, -up / half], dim=-1), ahead


def triangulate(
    pixels: Float[Tensor, "B V P 2"],
    weight: Float[Tensor, "B V P"],
    cameras: CameraPoses,
    prior: Float[Tensor, "B 3"],
) -> Float[Tensor, "B P 3"]:
    """Find the points that are nearest to the views' rays, in angle as seen from the cameras.

    Args:
        pixels: Pixels of each point in each view.
        weight: Inverse variance of each pixel, 0 where a view does not see the point.
        cameras: The cameras.
        prior: Position at which a point is held that no view sees, base frame, metres.

    Returns:
        The points, base frame, metres.
    """
    # One ray leaves its own direction open; in single precision that matrix is too close to singular.
    pixels, weight, at, axes, prior = (
        x.double() for x in (pixels, weight, cameras.positions, cameras.axes, prior)
    )
    half = cameras.half_widths(pixels)
    ahead = torch.ones_like(pixels[..., 0])
    rays = torch.stack([ahead, -half * pixels[..., 0], -half * pixels[..., 1]], dim=-1)
    rays = (rays @ axes.transpose(-1, -2)) / rays.norm(dim=-1, keepdim=True)
    identity = torch.eye(3).to(rays)
    across = identity - rays[..., :, None] * rays[..., None, :]
    # The weights are of pixels. A pixel of a wide-angle camera is a larger angle.
    weight = weight / half**2 * 1e-3
    points = prior[:, None].expand(-1, pixels.shape[2], -1)
    for _ in range(_ROUNDS):
        depth = (points[:, None] - at[:, :, None]).norm(dim=-1).clamp(min=_NEAREST)
        counts = (weight / depth**2)[..., None, None] * across
        whole = counts.sum(1) + _PRIOR * identity
        aim = (counts @ at[:, :, None, :, None])[..., 0].sum(1) + _PRIOR * prior[:, None]
        points = torch.linalg.solve(whole, aim[..., None])[..., 0]
    return points.float()


def rotation_of_axes(first: Float[Tensor, "*B 3"], third: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """Return the rotation matrix whose x and z axes are nearest to two vectors.

    Args:
        first: The x axis, which is kept in direction.
        third: The z axis, which is made orthogonal to it.
    """
    first = nn.functional.normalize(first, dim=-1)
    third = nn.functional.normalize(third - (third * first).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, torch.linalg.cross(third, first), third], dim=-1)


def rotation_matrix(quaternions: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B 3 3"]:
    """Return the rotation matrices of quaternions wxyz."""
    w, x, y, z = quaternions.unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
