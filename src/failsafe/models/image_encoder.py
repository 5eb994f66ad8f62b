"""Building blocks that the small networks share: an image encoder per view, and an instruction encoder."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

WORDS = 512
"""Number of hash buckets for the words of an instruction."""
KEYPOINTS = 32
"""Keypoint maps of an encoder, unless its network needs more."""
_MAX_WORDS = 32
_LARGEST_MAP = 1 << 24
"""Largest feature map of an image encoder, in numbers; the shipped model has 73,728."""


class Words(nn.Module):
    """Encode an instruction as the mean of its word embeddings, `size` numbers."""

    size = 32

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, self.size, padding_idx=0)

    def forward(self, codes: Int64[Tensor, "B W"]) -> Float[Tensor, "B 32"]:
        """Encode hashed words, see `word_codes`."""
        return mean_word(self.table, codes)


def mean_word(table: nn.Embedding, codes: Int64[Tensor, "B W"]) -> Float[Tensor, "B N"]:
    """Return the mean of the embeddings of hashed words.

    Args:
        table: The embeddings, one row per hash bucket.
        codes: Hashed words, 0 for padding.
    """
    return table(codes).sum(1) / (codes > 0).sum(1, keepdim=True).clamp(min=1)


def word_codes(instruction: str) -> Int64[np.ndarray, "32"]:
    """Hash the words of an instruction to numbers from 1 to `WORDS` - 1, padded with 0."""
    words = "".join(c if c.isalnum() else " " for c in instruction.lower()).split()[:_MAX_WORDS]
    codes = [1 + zlib.crc32(word.encode()) % (WORDS - 1) for word in words]
    return np.array(codes + [0] * (_MAX_WORDS - len(codes)), dtype=np.int64)


def check_encoders(views: int, size: int, widths: Sequence[int]) -> None:
    """Check that image encoders can be made and run in little memory.

    Args:
        views: Number of views.
        size: Height and width of the images, pixels.
        widths: Channels of the layers, from stride 2 to stride 16.

    Raises:
        ValueError: If they cannot.
    """
    if not 1 <= views <= 16 or not 16 <= size <= 1024:
        raise ValueError(f"expected 1 to 16 views of 16 to 1024 pixels, got {views} of {size}")
    if len(widths) != 4 or not all(1 <= width <= 4096 for width in widths):
        raise ValueError(f"expected the widths of 4 layers, from 1 to 4096, got {widths!s:.80}")
    largest = max(width * (size >> (i + 1)) ** 2 for i, width in enumerate(widths))
    if largest > _LARGEST_MAP:
        raise ValueError(f"expected feature maps of at most {_LARGEST_MAP} numbers, got {largest}")


def _layer(channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    """Two convolutions with a shortcut; the first convolution has the stride."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_layer(channels_in, channels_out, 3, stride),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.short = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.short(x))


class ImageFeatures(NamedTuple):
    """What an image encoder extracts from a batch of images.

    Attributes:
        embedding: One vector per image.
        keypoints: Column and row of each keypoint: -1 at the left and upper edges, 1 at the right and lower.
        heatmaps: Softmax weights over the cells from which each keypoint is read; they sum to 1.
        cells: Feature map. A cell is 4 px wide for a fine encoder, 8 px for a coarse one.
    """

    embedding: Float[Tensor, "B N"]
    keypoints: Float[Tensor, "B K 2"]
    heatmaps: Float[Tensor, "B K H W"]
    cells: Float[Tensor, "B C H W"]


class ImageEncoder(nn.Module):
    """Encode the images of one view as a vector and keypoints.

    A spatial softmax reads the keypoints (Levine et al. 2016, "End-to-end training of deep visuomotor
    policies").

    Args:
        channels: Channels of the images.
        widths: Channels of the layers, from stride 2 to stride 16.
        out: Length of the embedding.
        fine: Read the keypoints from maps of stride 4 instead of 8.
        keypoints: Number of keypoints.
    """

    def __init__(
        self,
        channels: int,
        widths: tuple[int, ...],
        out: int,
        fine: bool = False,
        keypoints: int = KEYPOINTS,
    ) -> None:
        super().__init__()
        self.stem = _layer(channels, widths[0], 5, 2)
        self.middle = nn.Sequential(_Residual(widths[0], widths[1], 2), _Residual(widths[1], widths[2], 2))
        self.coarse = nn.Conv2d(widths[2], widths[1], 1) if fine else None
        self.fine = _layer(widths[1], widths[1], 3, 1) if fine else None
        self.keypoints = nn.Conv2d(widths[1 if fine else 2], keypoints, 1)
        self.deep = nn.Sequential(_Residual(widths[2], widths[3], 2), nn.Conv2d(widths[3], 16, 1))
        self.out = nn.Sequential(nn.LazyLinear(out), nn.LayerNorm(out), nn.ReLU())

    def forward(self, x: Float[Tensor, "B C S S"]) -> ImageFeatures:
        """Encode a batch of images with values from 0 to 1."""
        cells = self.middle[0](self.stem(x))
        x = self.middle[1](cells)
        if self.coarse is not None and self.fine is not None:
            far = nn.functional.interpolate(self.coarse(x), cells.shape[-2:], mode="bilinear")
            cells = self.fine(cells + far)
        else:
            cells = x
        maps = self.keypoints(cells).float()
        height, width = maps.shape[-2:]
        heatmaps = torch.softmax(maps.flatten(2), dim=-1).unflatten(-1, (height, width))
        rows = (heatmaps.sum(3) * torch.linspace(-1, 1, height, device=x.device)).sum(-1)
        columns = (heatmaps.sum(2) * torch.linspace(-1, 1, width, device=x.device)).sum(-1)
        peaks = maps.amax((2, 3)) * 0.1
        embedding = self.out(torch.cat([rows, columns, peaks, self.deep(x).float().flatten(1)], dim=1))
        return ImageFeatures(embedding, torch.stack([columns, rows], dim=2), heatmaps, cells)
