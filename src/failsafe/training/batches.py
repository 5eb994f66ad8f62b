"""Batches of windows for the compact network."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float

from failsafe.models.compact_net import CompactConfig, Inputs, motion_features, stack_frames
from failsafe.models.image_encoder import word_codes
from failsafe.samples.sample import Kind
from failsafe.samples.sample_set import SampleSet
from failsafe.training.noise import augment_images, delay_objects, perturb_objects
from failsafe.training.targets import Targets, make_targets

_DELAY_SECONDS = 0.15
"""Longest delay of given object positions."""
_DRAWN = {
    True: {Kind.JUST_AFTER: 0.55, Kind.LATE: 0.35, Kind.LONG_AFTER: 0.1},
    False: {Kind.NOMINAL: 0.15, Kind.HARMLESS: 0.35, Kind.BEFORE: 0.1, Kind.RECOVERED: 0.4},
}
"""Shares of the kinds among the failing and the other windows of `Batches.draw`. They are those of a sample
set with a few samples per rollout, whatever the number of control steps of each kind."""


class Batches:
    """Inputs and targets of some samples, batch by batch.

    Args:
        samples: The sample set.
        indices: Indices of the samples, which all have images or all have none.
        config: The network.
        images: Whether to load images; otherwise the inputs contain ground-truth object positions.
    """

    def __init__(
        self, samples: SampleSet, indices: Sequence[int], config: CompactConfig, images: bool = True
    ) -> None:
        self._samples = samples
        self._indices = list(indices)
        self._images = images and not config.proprioception_only
        chosen = [samples.samples[i] for i in indices]
        features = [
            motion_features(samples.tcp_poses[i], samples.gripper_widths[i], config.normalization)
            for i in indices
        ]
        self.motion = torch.from_numpy(np.stack(features))
        codes = {text: word_codes(text) for text in {s.instruction for s in chosen}}
        self.words = torch.from_numpy(np.stack([codes[s.instruction] for s in chosen]))
        self.truth = make_targets(samples, indices, config)

        delay = min(config.embodiment.steps(_DELAY_SECONDS), config.window.history)
        past = samples.tcp_poses[self._indices, -1 - delay :, :3]
        self._moved = torch.from_numpy((past[:, -1:] - past[:, -2::-1]) * 10.0)
        cells: dict[tuple[str, bool, Kind], list[int]] = {}
        for row, sample in enumerate(chosen):
            cells.setdefault((sample.task, sample.failing, sample.kind), []).append(row)
        self._cells = np.concatenate([np.array(rows) for rows in cells.values()])
        self._sizes = np.array([len(rows) for rows in cells.values()])
        self._pass, self._order = -1, np.arange(0)
        self._odds = cell_probabilities({cell: len(rows) for cell, rows in cells.items()})

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._indices)

    def step(self, number: int, size: int, seed: int, rng: np.random.Generator) -> tuple[Inputs, Targets]:
        """Return the batch of a training step, augmented.

        Each pass over the samples takes every one of them once, in an order that follows from `seed` and the
        number of the pass; an incomplete last batch is left out.

        Args:
            number: Number of the training step, from 0.
            size: Samples in a batch, at most as many as there are.
            seed: Seed of the order.
            rng: Source of randomness of the augmentation.
        """
        number_of_pass, place = divmod(number, len(self) // size)
        if number_of_pass != self._pass:
            self._pass = number_of_pass
            self._order = np.random.default_rng([seed, 0, number_of_pass]).permutation(len(self))
        return self._batch(self._order[place * size : (place + 1) * size], rng)

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Inputs, Targets]:
        """Draw a batch at random, augmented, with as many failing samples of each task as others.

        Args:
            size: Samples in the batch.
            rng: Source of randomness.
        """
        cells = rng.choice(len(self._sizes), size=size, p=self._odds)
        first = np.cumsum(self._sizes) - self._sizes
        return self._batch(self._cells[first[cells] + rng.integers(self._sizes[cells])], rng)

    def all(self, size: int) -> Iterator[tuple[Inputs, Targets]]:
        """Iterate over all samples once, in order, without augmentation."""
        for start in range(0, len(self), size):
            yield self._batch(np.arange(start, min(start + size, len(self))), None)

    def _batch(self, rows: np.ndarray, rng: np.random.Generator | None) -> tuple[Inputs, Targets]:
        index = torch.from_numpy(rows)
        truth, objects = self.truth.rows(index), None
        if not self._images:
            frames, objects = torch.zeros(len(rows), 0, 0, 0, 0), truth.objects
            if rng is not None:
                objects = perturb_objects(delay_objects(objects, self._moved[index], rng), rng)
        else:
            images = np.stack([self._samples.frames(self._indices[row]) for row in rows])
            # Half precision for training: augmentation takes a third of the time of a step.
            half = torch.bfloat16 if rng is not None else torch.float32
            frames = stack_frames(torch.from_numpy(images), half)
            if rng is not None:
                augment_images(frames, self._samples.spec.frames, rng)
        motion = self.motion[index]
        if rng is not None:  # errors of joint encoders and calibration
            motion = motion + torch.from_numpy(rng.normal(0.0, 0.01, motion.shape).astype(np.float32))
        return Inputs(frames, motion, self.words[index], objects), truth


def cell_probabilities(cells: Mapping[tuple[str, bool, Kind], int]) -> Float[np.ndarray, "cells"]:
    """Return the probability with which `Batches.draw` draws from each cell.

    A task's share is proportional to the root of its number of windows: a task with few windows is drawn more
    often than in proportion, but not as often as the others, or the network would memorize it.

    Args:
        cells: Number of windows by task, failing or not, and kind.
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
