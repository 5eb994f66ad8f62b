"""Train a reference policy: imitation of demonstrations, nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

from failsafe.datasets.demonstrations import DemonstrationSet
from failsafe.errors import UserError
from failsafe.models.encoder import word_codes
from failsafe.policies.reference import (
    ReferenceConfig,
    ReferenceMeta,
    ReferenceNet,
    proprioception,
    save_reference,
    stack_views,
    to_numbers,
)
from failsafe.records import codec, poses
from failsafe.records.provenance import collect_provenance
from failsafe.training.allocation import keep_freed_memory
from failsafe.training.descent import Descent

_SHIFT = 3
"""Pixels by which the pictures of a view are shifted at most."""


@dataclass(frozen=True)
class ImitationTraining:
    """How a reference policy is trained.

    Attributes:
        demonstrations: Episodes of each task to learn from, 0 for all that there are.
        steps: Gradient steps.
        batch: Moments in a step.
        rate: Highest learning rate.
        decay: Weight decay.
        average: Share of the running average of the weights kept at every step.
        seed: Seed of everything that is drawn.
    """

    demonstrations: int = 0
    steps: int = 3000
    batch: int = 96
    rate: float = 1.5e-3
    decay: float = 0.02
    average: float = 0.998
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.demonstrations < 0 or self.steps < 1 or self.batch < 1:
            raise UserError(
                "expected at least 0 demonstrations (for all), 1 step and 1 moment in a batch, got "
                f"{self.demonstrations}, {self.steps} and {self.batch}"
            )


def train_reference(
    demonstrations: DemonstrationSet,
    settings: ImitationTraining,
    out: Path,
    tell: Callable[[int, float], None],
) -> Path:
    """Train a reference policy.

    Args:
        demonstrations: What to imitate.
        settings: How.
        out: The checkpoint's file.
        tell: Called now and then with the number of steps done and the mean loss since the last call.

    Returns:
        The checkpoint.

    Raises:
        UserError: If there are fewer moments than a batch, or `out` exists already or has
            another ending.
    """
    if len(demonstrations) < settings.batch:
        raise UserError(f"expected at least {settings.batch} moments, got {len(demonstrations)}")
    if out.suffix != ".safetensors":
        raise UserError(f"expected a checkpoint with the ending .safetensors, got {out}")
    if out.exists():
        raise UserError(f"{out} exists already; choose another --out")
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(settings.seed)
    keep_freed_memory()
    config = _config(demonstrations)
    net = ReferenceNet(config)
    cast(Any, net).to(memory_format=torch.channels_last)
    descent = Descent(net, settings.rate, settings.decay, settings.average, settings.steps)
    begun, losses, told = time.monotonic(), 0.0, 0
    batches = _batches(demonstrations, settings)
    for step in range(1, settings.steps + 1):
        frames, felt, words, wanted = next(batches)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            said = net(frames, felt, words)
        loss = imitation_loss(said, wanted)
        losses += descent.step(loss)
        if step % 100 == 0 or step == settings.steps:
            tell(step, losses / (step - told))
            losses, told = 0.0, step
    seeds: dict[str, set[int]] = {}
    for task, seed in zip(demonstrations.tasks, demonstrations.seeds, strict=True):
        seeds.setdefault(task, set()).add(seed)
    meta = ReferenceMeta(
        config,
        settings.demonstrations or demonstrations.manifest.config.episodes,
        {task: tuple(sorted(found)) for task, found in sorted(seeds.items())},
        {
            "settings": codec.dumps(settings),
            "seconds": f"{time.monotonic() - begun:.0f}",
            "commit": collect_provenance().commit,
        },
    )
    save_reference(out, descent.smooth, meta)
    return out


def imitation_loss(said: Tensor, wanted: Tensor) -> Tensor:
    """Distance of what is said from what was done: pose by smooth L1, gripper by cross-entropy."""
    way = F.smooth_l1_loss(said[..., :6], wanted[..., :6], beta=0.05)
    grip = F.binary_cross_entropy_with_logits(said[..., 6], (wanted[..., 6] > 0).float())
    return 5.0 * way + 0.5 * grip


def _config(demonstrations: DemonstrationSet) -> ReferenceConfig:
    made = demonstrations.manifest.config
    led = (demonstrations.tcp_poses[:, None, :3] + demonstrations.actions[..., :3]).astype(np.float64)
    low, high = (edge.round(3).tolist() for edge in (led.min((0, 1)), led.max((0, 1))))
    return ReferenceConfig(
        views=made.views,
        size=made.size,
        chunk=made.chunk,
        rate_hz=demonstrations.manifest.control_hz,
        instructions=tuple(sorted(demonstrations.manifest.instructions.values())),
        reach=(tuple(low), tuple(high)),
    )


def _batches(
    demonstrations: DemonstrationSet, settings: ImitationTraining
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Batches without end, epoch after epoch in another order, augmented."""
    told = demonstrations.manifest.instructions
    codes = {task: word_codes(text) for task, text in told.items()}
    words = torch.from_numpy(np.stack([codes[task] for task in demonstrations.tasks]))
    felt = np.stack(
        [
            proprioception(pose.astype(np.float64), float(width))
            for pose, width in zip(demonstrations.tcp_poses, demonstrations.gripper_widths, strict=True)
        ]
    )
    wanted = torch.from_numpy(
        np.stack(
            [
                _as_numbers(pose.astype(np.float64), rows.astype(np.float64))
                for pose, rows in zip(demonstrations.tcp_poses, demonstrations.actions, strict=True)
            ]
        )
    )
    rng = np.random.default_rng(settings.seed)
    while True:
        order = rng.permutation(len(demonstrations))
        for start in range(0, len(order) - settings.batch + 1, settings.batch):
            rows = order[start : start + settings.batch]
            frames = stack_views(np.stack([demonstrations.frames(i) for i in rows.tolist()]))
            frames = _augment(frames, rng)
            noisy = felt[rows] + rng.normal(0.0, 0.01, felt[rows].shape).astype(np.float32)
            index = torch.from_numpy(rows)
            yield frames, torch.from_numpy(noisy), words[index], wanted[index]


def _as_numbers(
    tcp_pose: Float[np.ndarray, "7"], rows: Float[np.ndarray, "H 7"]
) -> Float32[np.ndarray, "H 7"]:
    """What the commands of the next steps are to the network."""
    said = [[*to_numbers(tcp_pose, poses.apply_delta(tcp_pose, row[:6])), row[6]] for row in rows]
    return np.array(said, dtype=np.float32)


def _augment(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Other light, and views a little aside."""
    b, v = frames.shape[:2]
    for view in range(v):
        dy, dx = rng.integers(-_SHIFT, _SHIFT + 1, 2).tolist()
        frames[:, view] = torch.roll(frames[:, view], (dy, dx), (2, 3))
    gain = rng.uniform(0.8, 1.2, (b, v, 1, 1, 1)) * rng.uniform(0.95, 1.05, (b, v, 3, 1, 1))
    return frames.mul_(torch.from_numpy(gain.astype(np.float32))).clamp_(0.0, 1.0)
