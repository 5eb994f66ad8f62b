"""The object localizer: from images to object positions, by keypoints and triangulation.

A network that regresses object positions from images learns where objects usually are, for example between
the fingers during an expert's grasp. The localizer separates perception from geometry instead:

1. An image encoder per view predicts keypoints (the tool and every object), a confidence for each, and the
   pose of the camera.
2. Triangulation turns the keypoints into points in space.
3. A small network, the refiner, corrects the remaining error. It is trained on the objects and on random
   points around the tool, projected into the cameras of real images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from failsafe.models.camera_geometry import (
    CAMERA,
    CameraIntrinsics,
    camera_poses,
    project_all,
    rotation_of_axes,
    triangulate,
)
from failsafe.models.image_encoder import KEYPOINTS, ImageEncoder, Words
from failsafe.models.normalization import Normalization

POSE = 9
"""Numbers of the tool pose, the first of the motion features: scaled position, x axis and z axis."""
_EMBEDDING, _HIDDEN = 256, 256
_SHARED_ERROR = 0.5
"""Share of the tool's keypoint error by which the objects' keypoints are corrected. One part of the error is
the camera's and shifts all points alike; the other part is the tool's alone."""


@dataclass(frozen=True)
class Keypoints:
    """What the localizer predicts for a batch of windows.

    Attributes:
        pixels: Column and row of the tool and the objects in each view, -1 at the left and upper edges and 1
            at the others. [B, V, 1+O, 2]
        inside: Logits of each being inside the image, occluded or not. [B, V, 1+O]
        spread: Logarithm of the expected pixel error. [B, V, 1+O]
        cameras: Camera poses, see `camera_features`. [B, V, 9]
        present: Logits of each object being part of the task. [B, O]
        objects: Positions of the objects relative to the tool, base frame, decimetres; 0 for absent objects.
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
        """The inverse variance of each pixel, 0 where the point is not in the image."""
        return torch.where(self.inside > 0, torch.exp(-2.0 * self.spread), 0.0)

    def detach(self) -> Keypoints:
        """Return the same values without gradients."""
        return replace(self, **{name: value.detach() for name, value in vars(self).items()})


class ObjectLocalizer(nn.Module):
    """Locate objects in space from the images of several views.

    Args:
        intrinsics: The views' cameras.
        channels: Channels of the images.
        size: Height and width of the images, pixels.
        widths: Channels of the encoders, from stride 2 to stride 16.
        objects: Number of object slots O.
        normalization: How tool positions are scaled.
    """

    def __init__(
        self,
        intrinsics: Sequence[CameraIntrinsics],
        channels: int,
        size: int,
        widths: tuple[int, ...],
        objects: int,
        normalization: Normalization,
    ) -> None:
        super().__init__()
        self.intrinsics = tuple(intrinsics)
        self.normalization = normalization
        self.points = 1 + objects
        self.encoders = nn.ModuleList(
            ImageEncoder(channels, widths, _EMBEDDING, fine=True, keypoints=max(KEYPOINTS, self.points))
            for _ in intrinsics
        )
        self.view_heads = nn.ModuleList(nn.Linear(_EMBEDDING, CAMERA + 2 * self.points) for _ in intrinsics)
        self.words = Words()
        self.presence = nn.Linear(self.words.size, objects)
        last = nn.Linear(_HIDDEN, 3)
        nn.init.zeros_(last.weight)  # no correction before the first training step
        nn.init.zeros_(last.bias)
        self.refiner = nn.Sequential(
            nn.Linear(6 + POSE + (CAMERA + 8) * len(intrinsics), _HIDDEN),
            nn.LayerNorm(_HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            last,
        )
        self.eval()
        with torch.no_grad():  # initializes the lazy layers
            for encoder in self.encoders:
                encoder(torch.zeros(1, channels, size, size))
        self.train()

    def forward(
        self, frames: Float[Tensor, "B V C S S"], pose: Float[Tensor, "B 9"], words: Int64[Tensor, "B W"]
    ) -> Keypoints:
        """Locate the objects.

        Args:
            frames: Images, 0 to 1.
            pose: Tool pose, see `POSE`.
            words: Hashed words of the instruction.
        """
        features = [encoder(frames[:, i]) for i, encoder in enumerate(self.encoders)]
        pixels = torch.stack([view.keypoints[:, : self.points] for view in features], dim=1)
        heads = zip(self.view_heads, features, strict=True)
        per_view = torch.stack([head(view.embedding) for head, view in heads], dim=1).float()
        cameras, inside, spread = per_view.split([CAMERA, self.points, self.points], dim=2)
        present = self.presence(self.words(words)).float()
        # The typical error is about a hundredth of half an image; the network predicts the deviation from it.
        unknown = present.new_zeros(*present.shape, 3)
        found = Keypoints(pixels, inside, spread.clamp(-1.5, 3.0) - 4.5, cameras, present, unknown)
        known = found.detach()
        objects = self.lift(pixels.detach(), known.weight, known.cameras, pose)
        return replace(found, objects=torch.where((present > 0)[..., None], objects, 0.0))

    def lift(
        self,
        pixels: Float[Tensor, "B V P 2"],
        weight: Float[Tensor, "B V P"],
        cameras: Float[Tensor, "B V 9"],
        pose: Float[Tensor, "B 9"],
    ) -> Float[Tensor, "B P-1 3"]:
        """Lift keypoints to points in space: triangulate, then refine.

        Args:
            pixels: Keypoints of the tool (first) and of other points.
            weight: Inverse variance of each, 0 where a view does not see the point.
            cameras: Camera poses, see `camera_features`.
            pose: Tool pose, see `POSE`.

        Returns:
            The other points relative to the tool, base frame, decimetres.
        """
        with torch.autocast(pixels.device.type, enabled=False), torch.no_grad():
            position, rotation = self._tool(pose)
            views = camera_poses(cameras, self.intrinsics, position, rotation)
            tool, _ = project_all(views, position[:, None])
            offset = torch.where(weight[:, :, :1, None] > 0, pixels[:, :, :1] - tool, 0.0)
            shifted = pixels[:, :, 1:] - _SHARED_ERROR * offset
            points = triangulate(shifted, weight[:, :, 1:], views, position)
            reprojected, depth = project_all(views, points)
            counts = weight[:, :, 1:]
            visible = counts[..., None] > 0
            per_view = torch.cat(
                [
                    torch.where(visible, pixels[:, :, 1:], 0.0),
                    torch.where(visible, 10.0 * (shifted - reprojected), 0.0).clamp(-3, 3),
                    (10.0 * offset).clamp(-3, 3).expand_as(shifted),
                    torch.where(counts > 0, 0.1 * torch.log(counts.clamp(min=1e-6)), -1.0)[..., None],
                    depth[..., None].clamp(0, 3),
                    cameras[:, :, None].expand(-1, -1, points.shape[1], -1),
                ],
                dim=-1,
            )
            relative = 10.0 * (points - position[:, None])
            parts = [relative, torch.tanh(5.0 * relative), per_view.transpose(1, 2).flatten(2)]
            known = torch.cat([*parts, pose[:, None].expand(-1, relative.shape[1], -1)], dim=-1)
        return relative + self.refiner(known).float()

    def _tool(self, pose: Float[Tensor, "B 9"]) -> tuple[Float[Tensor, "B 3"], Float[Tensor, "B 3 3"]]:
        """Return position (metres) and rotation of the tool from its scaled pose."""
        origin = pose.new_tensor(self.normalization.origin)
        position = pose[:, :3] / self.normalization.position_scale + origin
        return position, rotation_of_axes(pose[:, 3:6], pose[:, 6:9])
