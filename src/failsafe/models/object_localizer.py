"""Finding objects: where they are in the pictures, where the cameras are, and so where they are in space.

A network that is to say straight from a picture where an object is learns where objects mostly are: behind an
expert, between the fingers. So what takes seeing and what takes geometry are apart. Each eye says where the
tool and the objects are in its picture, how sure of each it is, and where its camera is. From that follows a
point in space, by triangulation. A small network then corrects what triangulation gets wrong; it is taught
with the objects and with points that were never there, anywhere about the tool, as the cameras of real
pictures would have seen them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from failsafe.models.image_encoder import KEYPOINTS, ImageEncoder, Words

MIDDLE = (0.6, 0.0, 0.15)
"""The middle of the workspace, base frame, metres."""
PLACE_SCALE = 5.0
"""What the tool's position from there is multiplied by to be of about one."""
CAMERA = 9
"""Numbers that say where a camera is, see `camera_features`."""
POSE = 9
"""Numbers that say where the tool is, the first of the motion features: position, first and third axis."""
_SEEN, _HIDDEN = 256, 256
_SCALE, _SCALE_MOUNTED = 2.0, 10.0
"""What camera positions, metres, are multiplied by to be of about one, and those of mounted cameras."""
_ROUNDS = 3
"""Of triangulation: weights depend on how far away a point is, which is known the better the nearer it is."""
_NEAREST = 0.05
_HOLD = 1e-2
"""How firmly a point that no view sees is held at the tool."""
_ANCHORED = 0.5
"""Share of what the tool is beside its place in a picture by which everything in it is moved: a part of that
is the camera's, which shifts all points alike, and a part the tool's alone."""


@dataclass(frozen=True)
class CameraIntrinsics:
    """What of a view's camera is the same in all pictures.

    Attributes:
        fov: Field of view, radians.
        mounted: Whether it moves with the tool.
    """

    fov: float
    mounted: bool


@dataclass(frozen=True)
class Keypoints:
    """What the pictures of a batch show.

    Attributes:
        pixels: Column and row of the tool and the objects in each picture, -1 at the left and upper edges and
            1 at the others. [B, V, 1+O, 2]
        inside: Logits of their being in it, hidden or not. [B, V, 1+O]
        spread: Logarithm of by how much the places are off. [B, V, 1+O]
        cameras: Where the cameras are, see `camera_features`. [B, V, 9]
        present: Logits of there being such an object at all. [B, O]
        objects: Where the objects are from the tool, base frame, decimetres; 0 for those that are not there.
            [B, O, 3]
    """

    pixels: Float[Tensor, "B V P 2"]
    inside: Float[Tensor, "B V P"]
    spread: Float[Tensor, "B V P"]
    cameras: Float[Tensor, "B V 9"]
    present: Float[Tensor, "B O"]
    objects: Float[Tensor, "B O 3"]

    @property
    def weight(self) -> Float[Tensor, "B V P"]:
        """How much each place counts: the inverse of its variance, 0 where it is not in the picture."""
        return torch.where(self.inside > 0, torch.exp(-2.0 * self.spread), 0.0)

    def detach(self) -> Keypoints:
        """The same, without gradients."""
        return replace(self, **{name: value.detach() for name, value in vars(self).items()})


class ObjectLocalizer(nn.Module):
    """Eyes, and what makes points in space of what they see.

    Args:
        lenses: The views' cameras.
        channels: Channels of the pictures.
        size: Their side, pixels.
        widths: Channels of the encoders, from stride 2 to stride 16.
        objects: Number of objects.
    """

    def __init__(
        self,
        lenses: Sequence[CameraIntrinsics],
        channels: int,
        size: int,
        widths: tuple[int, ...],
        objects: int,
    ) -> None:
        super().__init__()
        if objects >= KEYPOINTS:
            raise ValueError(f"expected at most {KEYPOINTS - 1} objects, got {objects}")
        self.lenses = tuple(lenses)
        self.points = 1 + objects
        self.eyes = nn.ModuleList(ImageEncoder(channels, widths, _SEEN, fine=True) for _ in lenses)
        self.about = nn.ModuleList(nn.Linear(_SEEN, CAMERA + 2 * self.points) for _ in lenses)
        self.words = Words()
        self.present = nn.Linear(self.words.size, objects)
        last = nn.Linear(_HIDDEN, 3)
        nn.init.zeros_(last.weight)  # at first there is nothing to correct
        nn.init.zeros_(last.bias)
        self.correct = nn.Sequential(
            nn.Linear(6 + POSE + (CAMERA + 8) * len(lenses), _HIDDEN),
            nn.LayerNorm(_HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            last,
        )
        self.eval()
        with torch.no_grad():  # lets the lazy layers take their size
            for eye in self.eyes:
                eye(torch.zeros(1, channels, size, size))
        self.train()

    def forward(
        self, frames: Float[Tensor, "B V C S S"], pose: Float[Tensor, "B 9"], words: Tensor
    ) -> Keypoints:
        """What pictures show, with the tool where it is said to be."""
        looks = [eye(frames[:, i]) for i, eye in enumerate(self.eyes)]
        pixels = torch.stack([look.places[:, : self.points] for look in looks], dim=1)
        about = torch.stack([head(look.seen) for head, look in zip(self.about, looks, strict=True)], dim=1)
        about = about.float()
        cameras, inside, spread = about.split([CAMERA, self.points, self.points], dim=2)
        present = self.present(self.words(words)).float()
        # An eye is off by a hundredth of half a picture or so; by how much exactly is a matter of the place.
        nowhere = present.new_zeros(*present.shape, 3)
        sight = Keypoints(pixels, inside, spread.clamp(-1.5, 3.0) - 4.5, cameras, present, nowhere)
        known = sight.detach()
        objects = self.lift(pixels.detach(), known.weight, known.cameras, pose)
        return replace(sight, objects=torch.where((present > 0)[..., None], objects, 0.0))

    def lift(
        self,
        pixels: Float[Tensor, "B V P 2"],
        weight: Float[Tensor, "B V P"],
        cameras: Float[Tensor, "B V 9"],
        pose: Float[Tensor, "B 9"],
    ) -> Float[Tensor, "B P-1 3"]:
        """Points in space, from the tool, decimetres, of the tool's pixels (first) and theirs."""
        with torch.autocast(pixels.device.type, enabled=False), torch.no_grad():
            place, turn = _tool(pose)
            at, axes = self._cameras(cameras, place, turn)
            tool, _ = self._project(at, axes, place[:, None])
            beside = torch.where(weight[:, :, :1, None] > 0, pixels[:, :, :1] - tool, 0.0)
            moved = pixels[:, :, 1:] - _ANCHORED * beside
            points = self._triangulate(moved, weight[:, :, 1:], at, axes, place)
            again, depth = self._project(at, axes, points)
            counts = weight[:, :, 1:]
            sees = counts[..., None] > 0
            views = torch.cat(
                [
                    torch.where(sees, pixels[:, :, 1:], 0.0),
                    torch.where(sees, 10.0 * (moved - again), 0.0).clamp(-3, 3),
                    (10.0 * beside).clamp(-3, 3).expand_as(moved),
                    torch.where(counts > 0, 0.1 * torch.log(counts.clamp(min=1e-6)), -1.0)[..., None],
                    depth[..., None].clamp(0, 3),
                    cameras[:, :, None].expand(-1, -1, points.shape[1], -1),
                ],
                dim=-1,
            )
            aside = 10.0 * (points - place[:, None])
            each = [aside, torch.tanh(5.0 * aside), views.transpose(1, 2).flatten(2)]
            known = torch.cat([*each, pose[:, None].expand(-1, aside.shape[1], -1)], dim=-1)
        return aside + self.correct(known).float()

    def _cameras(self, features: Tensor, place: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
        """Where cameras are [B, V, 3] and their axes [B, V, 3, 3], base frame, by their features."""
        mounted = torch.tensor([lens.mounted for lens in self.lenses], device=features.device)[:, None]
        at = features[..., :3] / torch.where(mounted, _SCALE_MOUNTED, _SCALE)
        axes = _axes(features[..., 3:6], features[..., 6:])
        carried = place[:, None] + (turn[:, None] @ at[..., None])[..., 0]
        return torch.where(mounted, carried, at), torch.where(mounted[..., None], turn[:, None] @ axes, axes)

    def _half(self, like: Tensor) -> Tensor:
        """Half the width of what each camera sees at a distance of 1 [V, 1]."""
        return torch.tan(torch.tensor([[lens.fov / 2] for lens in self.lenses]).to(like))

    def _project(self, at: Tensor, axes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels and depths of points [B, P, 3] in all views, those behind a camera as if just before it."""
        ahead, left, up = ((points[:, None] - at[:, :, None]) @ axes).unbind(-1)
        half = ahead.clamp(min=1e-2) * self._half(ahead)
        return torch.stack([-left / half, -up / half], dim=-1), ahead

    def _triangulate(
        self, pixels: Tensor, weight: Tensor, at: Tensor, axes: Tensor, place: Tensor
    ) -> Float[Tensor, "B P 3"]:
        """The points nearest to the views' rays, as seen from the cameras: an error counts by its angle."""
        # One ray alone leaves its own direction open: in single precision, that is no matrix to solve with.
        pixels, weight, at, axes, place = (x.double() for x in (pixels, weight, at, axes, place))
        half = self._half(pixels)
        ahead = torch.ones_like(pixels[..., 0])
        rays = torch.stack([ahead, -half * pixels[..., 0], -half * pixels[..., 1]], dim=-1)
        rays = (rays @ axes.transpose(-1, -2)) / rays.norm(dim=-1, keepdim=True)
        eye = torch.eye(3).to(rays)
        across = eye - rays[..., :, None] * rays[..., None, :]
        # Weights are of pixels: in an angle a wide lens is off by more.
        weight = weight / half**2 * 1e-3
        points = place[:, None].expand(-1, pixels.shape[2], -1)
        for _ in range(_ROUNDS):
            depth = (points[:, None] - at[:, :, None]).norm(dim=-1).clamp(min=_NEAREST)
            counts = (weight / depth**2)[..., None, None] * across
            whole = counts.sum(1) + _HOLD * eye
            aim = (counts @ at[:, :, None, :, None])[..., 0].sum(1) + _HOLD * place[:, None]
            points = torch.linalg.solve(whole, aim[..., None])[..., 0]
        return points.float()


def camera_features(cameras: Float[Tensor, "B V 9"]) -> Float[Tensor, "B V 9"]:
    """Where cameras are, as numbers of about one: position, and the axes that look ahead and up.

    Args:
        cameras: Pose, field of view, and whether it is mounted on the tool and its pose in the tool's frame.
    """
    turn = _matrix(cameras[..., 3:7])
    scale = torch.where(cameras[..., 8:] > 0.5, _SCALE_MOUNTED, _SCALE)
    return torch.cat([cameras[..., :3] * scale, turn[..., 0], turn[..., 2]], dim=-1)


def project(
    cameras: Float[Tensor, "B V 9"], tcp_poses: Float[Tensor, "B 7"], points: Float[Tensor, "B P 3"]
) -> tuple[Float[Tensor, "B V P 2"], Bool[Tensor, "B V P"]]:
    """Where points are in the pictures of cameras.

    Args:
        cameras: See `camera_features`.
        tcp_poses: Poses of the tool, base frame, which mounted cameras move with.
        points: Points, base frame, metres; NaN where unknown.

    Returns:
        Column and row of each, -1 at the left and upper edges and 1 at the others, and whether it is in the
        picture; 0 where it is not.
    """
    turn, at = _matrix(cameras[..., 3:7]), cameras[..., :3]
    tool, mounted = _matrix(tcp_poses[:, 3:])[:, None], cameras[..., 8] > 0.5
    carried = tcp_poses[:, None, :3] + (tool @ at[..., None])[..., 0]
    at = torch.where(mounted[..., None], carried, at)
    turn = torch.where(mounted[..., None, None], tool @ turn, turn)
    ahead, left, up = ((points[:, None] - at[:, :, None]) @ turn).unbind(-1)
    half = ahead * torch.tan(cameras[..., 7:8] / 2)
    pixels = torch.stack([-left / half, -up / half], dim=-1)
    inside = (ahead > 1e-3) & (pixels.abs() < 1).all(-1)
    return torch.where(inside[..., None], pixels, 0.0), inside


def _tool(pose: Tensor) -> tuple[Tensor, Tensor]:
    """Position [B, 3] and rotation [B, 3, 3] of the tool by its features."""
    return pose[:, :3] / PLACE_SCALE + pose.new_tensor(MIDDLE), _axes(pose[:, 3:6], pose[:, 6:9])


def _axes(first: Tensor, third: Tensor) -> Tensor:
    """The rotation matrix [..., 3, 3] whose first and third axes are nearly these."""
    first = nn.functional.normalize(first, dim=-1)
    third = nn.functional.normalize(third - (third * first).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, torch.linalg.cross(third, first), third], dim=-1)


def _matrix(quaternions: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of quaternions wxyz [..., 4]; their columns are the turned axes."""
    w, x, y, z = quaternions.unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
