"""Training targets of the compact network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from failsafe.models import corrections
from failsafe.models.compact_net import CompactConfig
from failsafe.samples.sample import Kind
from failsafe.samples.sample_set import SampleSet


@dataclass(frozen=True)
class Targets:
    """What is true of a batch. Where a value is unknown or undefined, its weight is 0.

    Attributes:
        failing: 1 where the episode fails. [B]
        failing_weight: 1 where that is known. [B]
        mode: Index of the failure mode. [B]
        mode_weight: 1 where there is one. [B]
        stage: Index of the sub-task. [B]
        stage_weight: 1 where the network knows the sub-task. [B]
        correction: Encoded correction, see `failsafe.models.corrections`. [B, 29]
        correction_weight: 1 where there is a verified correction. [B]
        continuation: What the expert did next, encoded in the same way. [B, 29]
        continuation_weight: 1 where the rollout was neither perturbed nor failing. [B]
        help: 1 where no correction recovered the episode. [B]
        help_weight: 1 where the episode fails and corrections were searched for. [B]
        objects: Object positions relative to the tool, base frame, decimetres; 0 for absent objects. [B, O*3]
        tcp_poses: Tool poses, base frame. [B, 7]
        cameras: Cameras, see `SampleSet`; NaN without images. [B, V, 9]
    """

    failing: Float[Tensor, "B"]
    failing_weight: Float[Tensor, "B"]
    mode: Int64[Tensor, "B"]
    mode_weight: Float[Tensor, "B"]
    stage: Int64[Tensor, "B"]
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

    def rows(self, index: Int64[Tensor, "N"]) -> Targets:
        """Return the targets of some rows."""
        return Targets(**{name: tensor[index] for name, tensor in vars(self).items()})


def make_targets(samples: SampleSet, indices: Sequence[int], config: CompactConfig) -> Targets:
    """Return the targets of some samples.

    Args:
        samples: The sample set.
        indices: Indices of the samples.
        config: The network, which fixes the order of modes and stages, the object slots and the encoding.
    """
    rows = list(indices)
    chosen = [samples.samples[i] for i in rows]
    mode_of = {name: i for i, name in enumerate(config.modes)}
    stage_of = {name: i for i, name in enumerate(config.stages)}
    zeros = np.zeros(corrections.SIZE, dtype=np.float32)
    encoded = [corrections.encode(s.actions, config.embodiment) if s.actions else zeros for s in chosen]
    continuation = samples.continuation[rows]
    known = np.isfinite(continuation).all((1, 2))
    after = corrections.encode_continuation(np.nan_to_num(continuation), config.embodiment)
    numbers = lambda values: torch.tensor(list(values), dtype=torch.float32)  # noqa: E731
    return Targets(
        failing=numbers(s.failing for s in chosen),
        failing_weight=numbers(s.kind is not Kind.EXPLORATION for s in chosen),
        mode=torch.tensor([mode_of.get(s.mode, 0) for s in chosen]),
        mode_weight=numbers(s.mode in mode_of for s in chosen),
        stage=torch.tensor([stage_of.get(s.stage, 0) for s in chosen]),
        stage_weight=numbers(s.stage in stage_of for s in chosen),
        correction=torch.from_numpy(np.stack(encoded)),
        correction_weight=numbers(bool(s.actions) for s in chosen),
        continuation=torch.from_numpy(after),
        continuation_weight=torch.from_numpy(known.astype(np.float32)),
        help=numbers(s.recoverable is False for s in chosen),
        help_weight=numbers(s.failing and s.recoverable is not None for s in chosen),
        objects=torch.from_numpy(_object_positions(samples, rows, config.objects)),
        tcp_poses=torch.from_numpy(samples.tcp_poses[rows, -1]),
        cameras=torch.from_numpy(samples.cameras[rows]),
    )


def _object_positions(samples: SampleSet, rows: list[int], slots: int) -> Float[np.ndarray, "B O"]:
    """Return object positions relative to the tool in decimetres, for a number of object slots."""
    found = (samples.objects[rows, :, :3] - samples.tcp_poses[rows, -1, None, :3]) * 10.0
    positions = np.zeros((len(rows), slots, 3), dtype=np.float32)
    known = min(slots, found.shape[1])
    positions[:, :known] = np.where(np.isfinite(found), found, 0.0)[:, :known]
    return positions.reshape(len(rows), -1)
