"""What the small networks have in common: how they see, and how they read an instruction."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

WORDS = 512
"""Words are told apart by hash, in so many buckets."""
KEYPOINTS = 32
"""Places that are read off each view."""
_MAX_WORDS = 32


class Words(nn.Module):
    """An instruction as `size` numbers: the mean of its words'."""

    size = 32

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, self.size, padding_idx=0)

    def forward(self, codes: Tensor) -> Tensor:
        """Of hashed words [B, 32], 0 where there is none."""
        return mean_word(self.table, codes)


def mean_word(table: nn.Embedding, codes: Int64[Tensor, "B W"]) -> Float[Tensor, "B N"]:
    """The mean of the words' rows in a table; of hashed words, 0 where there is none."""
    return table(codes).sum(1) / (codes > 0).sum(1, keepdim=True).clamp(min=1)


def word_codes(instruction: str) -> Int64[np.ndarray, "32"]:
    """The instruction's words as numbers from 1 to `WORDS` - 1, filled up with 0."""
    words = "".join(c if c.isalnum() else " " for c in instruction.lower()).split()[:_MAX_WORDS]
    codes = [1 + zlib.crc32(word.encode()) % (WORDS - 1) for word in words]
    return np.array(codes + [0] * (_MAX_WORDS - len(codes)), dtype=np.int64)


def _layer(channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    """Two convolutions beside a shortcut, the first with the stride."""

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


class Look(NamedTuple):
    """What an eye sees in a batch of pictures.

    Attributes:
        seen: All of it.
        places: Columns and rows, -1 at the left and upper edges and 1 at the others.
        shares: How much each cell counts in each place; they sum to 1.
        cells: What is in each cell, of 4 pixels a side where the eye is fine, of 8 where not.
    """

    seen: Float[Tensor, "B N"]
    places: Float[Tensor, "B K 2"]
    shares: Float[Tensor, "B K H W"]
    cells: Float[Tensor, "B C H W"]


class ImageEncoder(nn.Module):
    """The encoder of one view: what is there, and where.

    Where things are is read off by a spatial softmax (Levine et al. 2016, "End-to-end training of deep
    visuomotor policies").

    Args:
        channels: Channels of the pictures.
        widths: Channels of the layers, from stride 2 to stride 16.
        out: Numbers that come out.
        fine: Read the places off maps of stride 4, not 8.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], out: int, fine: bool = False) -> None:
        super().__init__()
        self.stem = _layer(channels, widths[0], 5, 2)
        self.middle = nn.Sequential(_Residual(widths[0], widths[1], 2), _Residual(widths[1], widths[2], 2))
        self.coarse = nn.Conv2d(widths[2], widths[1], 1) if fine else None
        self.fine = _layer(widths[1], widths[1], 3, 1) if fine else None
        self.keypoints = nn.Conv2d(widths[1 if fine else 2], KEYPOINTS, 1)
        self.deep = nn.Sequential(_Residual(widths[2], widths[3], 2), nn.Conv2d(widths[3], 16, 1))
        self.out = nn.Sequential(nn.LazyLinear(out), nn.LayerNorm(out), nn.ReLU())

    def forward(self, x: Float[Tensor, "B C S S"]) -> Look:
        """What a batch of pictures shows, and where."""
        cells = self.middle[0](self.stem(x))
        x = self.middle[1](cells)
        if self.coarse is not None and self.fine is not None:
            far = nn.functional.interpolate(self.coarse(x), cells.shape[-2:], mode="bilinear")
            cells = self.fine(cells + far)
        else:
            cells = x
        maps = self.keypoints(cells).float()
        height, width = maps.shape[-2:]
        shares = torch.softmax(maps.flatten(2), dim=-1).unflatten(-1, (height, width))
        rows = (shares.sum(3) * torch.linspace(-1, 1, height, device=x.device)).sum(-1)
        columns = (shares.sum(2) * torch.linspace(-1, 1, width, device=x.device)).sum(-1)
        sure = maps.amax((2, 3)) * 0.1
        seen = self.out(torch.cat([rows, columns, sure, self.deep(x).float().flatten(1)], dim=1))
        return Look(seen, torch.stack([columns, rows], dim=2), shares, cells)
