"""What the small networks have in common: how they see, and how they read an instruction."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

WORDS = 512
"""Words are told apart by hash, in so many buckets."""
_MAX_WORDS = 32
_KEYPOINTS = 32


def word_codes(instruction: str) -> Int64[np.ndarray, "32"]:
    """The instruction's words as numbers from 1 to `WORDS` - 1, filled up with 0."""
    words = "".join(c if c.isalnum() else " " for c in instruction.lower()).split()[:_MAX_WORDS]
    codes = [1 + zlib.crc32(word.encode()) % (WORDS - 1) for word in words]
    return np.array(codes + [0] * (_MAX_WORDS - len(codes)), dtype=np.int64)


class _Residual(nn.Module):
    """Two convolutions beside a shortcut, the first with the stride."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.short = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.short(x))


class Eye(nn.Module):
    """The encoder of one view: what is there, and where.

    Where things are is read off by a spatial softmax (Levine et al. 2016, "End-to-end training of deep
    visuomotor policies").

    Args:
        channels: Channels of the pictures.
        widths: Channels of the layers, from stride 2 to stride 16.
        out: Numbers that come out.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], out: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 5, 2, 2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        self.middle = nn.Sequential(_Residual(widths[0], widths[1], 2), _Residual(widths[1], widths[2], 2))
        self.keypoints = nn.Conv2d(widths[2], _KEYPOINTS, 1)
        self.deep = nn.Sequential(_Residual(widths[2], widths[3], 2), nn.Conv2d(widths[3], 16, 1))
        self.out = nn.Sequential(nn.LazyLinear(out), nn.LayerNorm(out), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """What a batch of pictures shows."""
        x = self.middle(self.stem(x))
        maps = self.keypoints(x).float()
        height, width = maps.shape[-2:]
        weight = torch.softmax(maps.flatten(2), dim=-1).unflatten(-1, (height, width))
        rows = torch.linspace(-1, 1, height, device=x.device)
        columns = torch.linspace(-1, 1, width, device=x.device)
        places = [(weight.sum(3) * rows).sum(-1), (weight.sum(2) * columns).sum(-1), maps.amax((2, 3)) * 0.1]
        return self.out(torch.cat([*places, self.deep(x).float().flatten(1)], dim=1))
