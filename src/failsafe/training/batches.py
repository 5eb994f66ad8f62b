"""Batches for the compact network: pictures from the memory map, truths as tensors, augmentation."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from failsafe.models import corrections
from failsafe.models.compact import CompactConfig, Inputs, motion_features, stack_moments
from failsafe.models.image_encoder import word_codes
from failsafe.samples.sample import Kind
from failsafe.samples.sample_set import SampleSet

_DARK, _COVERED, _LATE, _BLACK = 0.5, 0.25, 0.1, 0.03
"""How often light and colour change, something stands in front, a view lags behind, a camera is off."""
_OFF_BY, _OFF_SHARE = 0.03, 0.03
"""What objects' places are off by where they are given, decimetres an axis and as a share of how far away
they are: as much as where they are seen."""
_DELAY, _HELD = 3, 0.25
"""Control steps by which places that lag behind do so at most; objects nearer than this (decimetres) are in
the hand, and where they are from the tool does not change as it moves."""
_FAR_OFF, _FARTHER = 0.2, 3.0
"""Share of the windows in which they are off by so many times as much: as behind another policy."""
_DRAWN = {
    True: {Kind.JUST_AFTER: 0.55, Kind.LATE: 0.35, Kind.LONG_AFTER: 0.1},
    False: {Kind.NOMINAL: 0.15, Kind.HARMLESS: 0.35, Kind.BEFORE: 0.1, Kind.RECOVERED: 0.4},
}
"""How often a failing window, or another one, is of which kind, when drawn: as `failsafe samples` takes a few
moments of each rollout, not by how many control steps there are of each."""


@dataclass(frozen=True)
class Targets:
    """What is true of a batch; where something is unknown or has no meaning, its weight is 0.

    Attributes:
        failing: 1 where the episode fails. [B]
        failing_weight: 1 where that is known. [B]
        mode: Number of the kind of failure. [B]
        mode_weight: 1 where there is one. [B]
        stage: Number of the sub-task. [B]
        stage_weight: 1 where the network knows it. [B]
        correction: See `failsafe.models.corrections`. [B, 29]
        correction_weight: 1 where there is a proven one. [B]
        continuation: Likewise, of what the expert did next. [B, 29]
        continuation_weight: 1 where it went well, and unperturbed. [B]
        help: 1 where nothing brought the episode back. [B]
        help_weight: 1 where the episode fails and a way back was looked for. [B]
        objects: Where the objects are, from the tool, base frame, decimetres; 0 where there is none. [B, O*3]
        tcp_poses: Poses of the tool, base frame. [B, 7]
        cameras: Where the cameras are, see `SampleSet`; NaN without pictures. [B, V, 9]
    """

    failing: Float[Tensor, "B"]
    failing_weight: Float[Tensor, "B"]
    mode: Tensor
    mode_weight: Float[Tensor, "B"]
    stage: Tensor
    stage_weight: Float[Tensor, "B"]
    correction: Float[Tensor, "B C"]
    correction_weight: Float[Tensor, "B"]
    continuation: Float[Tensor, "B C"]
    continuation_weight: Float[Tensor, "B"]
    help: Float[Tensor, "B"]
    help_weight: Float[Tensor, "B"]
    objects: Float[Tensor, "B O"]
    tcp_poses: Float[Tensor, "B 7"]
    cameras: Float[Tensor, "B V 9"]

    def rows(self, index: Tensor) -> Targets:
        """The truth of some rows."""
        return Targets(**{name: tensor[index] for name, tensor in vars(self).items()})


class Batches:
    """The windows of some samples and what is true of them, batch by batch.

    Args:
        samples: The set.
        indices: Numbers of the samples, all with pictures or all without.
        config: The network that they are for.
        pictures: Whether to give pictures; else the objects' places are given.
    """

    def __init__(
        self, samples: SampleSet, indices: Sequence[int], config: CompactConfig, pictures: bool = True
    ) -> None:
        self._samples = samples
        self._indices = list(indices)
        self._pictures = pictures and not config.blind
        chosen = [samples.samples[i] for i in indices]
        self.motion = torch.from_numpy(
            np.stack([motion_features(samples.tcp_poses[i], samples.gripper_widths[i]) for i in indices])
        )
        codes = {text: word_codes(text) for text in {s.instruction for s in chosen}}
        self.words = torch.from_numpy(np.stack([codes[s.instruction] for s in chosen]))
        mode_of = {name: i for i, name in enumerate(config.modes)}
        stage_of = {name: i for i, name in enumerate(config.stages)}
        zeros = np.zeros(corrections.SIZE, dtype=np.float32)
        where = samples.objects[self._indices, :, :3] - samples.tcp_poses[self._indices, -1, None, :3]
        where = where.reshape(len(chosen), -1) * 10.0
        continuation = samples.continuation[self._indices]
        numbers = lambda values: torch.tensor(list(values), dtype=torch.float32)  # noqa: E731
        self.truth = Targets(
            failing=numbers(s.failing for s in chosen),
            failing_weight=numbers(s.kind is not Kind.EXPLORATION for s in chosen),
            mode=torch.tensor([mode_of.get(s.mode, 0) for s in chosen]),
            mode_weight=numbers(s.mode in mode_of for s in chosen),
            stage=torch.tensor([stage_of.get(s.stage, 0) for s in chosen]),
            stage_weight=numbers(s.stage in stage_of for s in chosen),
            correction=torch.from_numpy(
                np.stack([corrections.encode(s.actions) if s.actions else zeros for s in chosen])
            ),
            correction_weight=numbers(bool(s.actions) for s in chosen),
            continuation=torch.from_numpy(corrections.encode_continuation(np.nan_to_num(continuation))),
            continuation_weight=torch.from_numpy(np.isfinite(continuation).all((1, 2)).astype(np.float32)),
            help=numbers(s.recoverable is False for s in chosen),
            help_weight=numbers(s.failing and s.recoverable is not None for s in chosen),
            objects=torch.from_numpy(np.where(np.isfinite(where), where, 0.0).astype(np.float32)),
            tcp_poses=torch.from_numpy(samples.tcp_poses[self._indices, -1]),
            cameras=torch.from_numpy(samples.cameras[self._indices]),
        )

        past = samples.tcp_poses[self._indices, -1 - _DELAY :, :3]
        self._moved = torch.from_numpy((past[:, -1:] - past[:, -2::-1]) * 10.0)
        cells: dict[tuple[str, bool, Kind], list[int]] = {}
        for row, sample in enumerate(chosen):
            cells.setdefault((sample.task, sample.failing, sample.kind), []).append(row)
        self._cells = np.concatenate([np.array(rows) for rows in cells.values()])
        self._sizes = np.array([len(rows) for rows in cells.values()])
        self._odds = _odds({cell: len(rows) for cell, rows in cells.items()})

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._indices)

    def epoch(self, size: int, rng: np.random.Generator) -> Iterator[tuple[Inputs, Targets]]:
        """Every sample once, in a random order, augmented; an incomplete last batch is left out."""
        order = rng.permutation(len(self))
        for start in range(0, len(order) - size + 1, size):
            rows = order[start : start + size]
            yield self._batch(rows, rng)

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Inputs, Targets]:
        """Samples drawn at random, augmented; of every task as many failing ones as others."""
        cells = rng.choice(len(self._sizes), size=size, p=self._odds)
        first = np.cumsum(self._sizes) - self._sizes
        return self._batch(self._cells[first[cells] + rng.integers(self._sizes[cells])], rng)

    def all(self, size: int) -> Iterator[tuple[Inputs, Targets]]:
        """Every sample once, in order, as it is."""
        for start in range(0, len(self), size):
            yield self._batch(np.arange(start, min(start + size, len(self))), None)

    def _batch(self, rows: np.ndarray, rng: np.random.Generator | None) -> tuple[Inputs, Targets]:
        index = torch.from_numpy(rows)
        truth, objects = self.truth.rows(index), None
        if not self._pictures:
            frames, objects = torch.zeros(len(rows), 0, 0, 0, 0), truth.objects
            if rng is not None:
                objects = _misplace(_delay(objects, self._moved[index], rng), rng)
        else:
            pictures = np.stack([self._samples.frames(self._indices[row]) for row in rows])
            # To learn, in half precision: what is done to the pictures takes a third of the time of a step.
            half = torch.bfloat16 if rng is not None else torch.float32
            frames = stack_moments(torch.from_numpy(pictures), half)
            if rng is not None:
                augment(frames, self._samples.spec.frames, rng)
        motion = self.motion[index]
        if rng is not None:  # what an encoder and a calibration are off by
            motion = motion + torch.from_numpy(rng.normal(0.0, 0.01, motion.shape).astype(np.float32))
        return Inputs(frames, motion, self.words[index], objects), truth


def _odds(cells: Mapping[tuple[str, bool, Kind], int]) -> Float[np.ndarray, "cells"]:
    """How often each cell is drawn, by how many windows there are in each.

    Tasks of which there are few windows are drawn more often than those are, but not as often as others, or
    they would be learned by heart: by the root of their number.
    """
    windows: Counter[str] = Counter()
    shares: defaultdict[tuple[str, bool], float] = defaultdict(float)
    for (task, failing, kind), number in cells.items():
        windows[task] += number
        shares[task, failing] += _DRAWN[failing].get(kind, 1.0)
    odds = [
        math.sqrt(windows[task]) * _DRAWN[failing].get(kind, 1.0) / shares[task, failing]
        for task, failing, kind in cells
    ]
    return np.array(odds) / sum(odds)


def _delay(
    objects: Float[Tensor, "B O"], moved: Float[Tensor, "B K 3"], rng: np.random.Generator
) -> Float[Tensor, "B O"]:
    """Objects' places, in some windows as a camera shows them that lags behind: seen from where the tool was.

    Args:
        objects: The places, decimetres; 0 where there is none.
        moved: How the tool moved in the last 1 to K control steps, decimetres.
        rng: Where the draws come from.
    """
    b, steps = moved.shape[:2]
    moved = moved[torch.arange(b), torch.from_numpy(rng.integers(0, steps, b))][:, None]
    places = objects.unflatten(1, (-1, 3))
    away = places.norm(dim=2, keepdim=True)
    late = torch.from_numpy(rng.random((b, 1, 1)) < _LATE) & (away > _HELD)
    return torch.where(late, places + moved, places).flatten(1)


def _misplace(objects: Float[Tensor, "B O"], rng: np.random.Generator) -> Float[Tensor, "B O"]:
    """Objects' places, off by as much as eyes are off."""
    away = objects.unflatten(1, (-1, 3)).norm(dim=2, keepdim=True).expand(-1, -1, 3).flatten(1)
    times = torch.where(torch.from_numpy(rng.random((len(objects), 1)) < _FAR_OFF), _FARTHER, 1.0)
    noise = torch.from_numpy(rng.normal(size=objects.shape).astype(np.float32))
    return torch.where(objects == 0, objects, objects + noise * times * (_OFF_BY + _OFF_SHARE * away))


def augment(frames: Float[Tensor, "B V C S S"], moments: int, rng: np.random.Generator) -> None:
    """Other light and colours, something in front, views that lag or are off.

    The moments of a view change alike, for it is one camera. Cameras in other places are rendered, with
    `failsafe samples --jitter`.

    Args:
        frames: Pictures, 0 to 1; changed in place.
        moments: Moments in a view's channels.
        rng: Where the draws come from.
    """
    b, v, _, size, _ = frames.shape
    lit = rng.random((b, 1, 1)) < _DARK
    gain = np.where(lit, rng.uniform(0.7, 1.3, (b, v, 1)) * rng.uniform(0.88, 1.12, (b, v, 3)), 1.0)
    bias = np.where(lit, rng.uniform(-0.08, 0.08, (b, v, 3)), 0.0)
    for values, scale in ((gain, True), (bias, False)):
        channels = torch.from_numpy(np.tile(values, (1, 1, moments)).astype(np.float32))[..., None, None]
        _ = frames.mul_(channels) if scale else frames.add_(channels)
    frames.clamp_(0.0, 1.0)
    for row in range(b):
        for view in range(v):
            draw = rng.random(3)
            if draw[0] < _COVERED / v:
                height, width = rng.integers(size // 8, size // 2, 2).tolist()
                y, x = rng.integers(0, size - height), rng.integers(0, size - width)
                colour = torch.from_numpy(np.tile(rng.random(3), moments).astype(np.float32))
                frames[row, view, :, y : y + height, x : x + width] = colour[:, None, None]
            if draw[1] < _LATE / v and moments > 1:
                frames[row, view, 3:] = frames[row, view, :-3].clone()
            if draw[2] < _BLACK / v:
                frames[row, view] = 0.0
